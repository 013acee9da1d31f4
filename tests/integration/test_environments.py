"""Environments built by a real uv from a real index, killed, contended, published and served.

Where no package index answers, the tests that need one are skipped and say so.
"""

import base64
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.small_environment import HERE, SMALL, says
from typer.testing import CliRunner
from uv import find_uv_bin

from havre.catalog.manifest import read_manifest
from havre.cli.environments import environments_app
from havre.domain.errors import Conflict, EnvironmentFault, InvalidParameter, NotFound
from havre.domain.manifest import RuntimeManifest
from havre.durable import remove_tree
from havre.environments import Environments
from havre.environments.builder import EnvironmentBuilder
from havre.environments.confinement import Enclosure
from havre.environments.definition import EnvironmentDefinition
from havre.environments.machine_pythons import Interpreters
from havre.environments.reachable import ReachableInterpreters
from havre.environments.resolve import Resolution
from havre.home import Home
from havre.quickstart import TRAIN
from havre.settings import load_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def environments(home: Home) -> Environments:
    return Environments(home, load_settings(home.root, environ={}))


class TestBuilding:
    def test_an_environment_is_built_once_and_kept(self, index: None, home: Home) -> None:
        builds: list[tuple[float, bool]] = []
        settings = load_settings(home.root, environ={})
        environments = Environments(home, settings, lambda *of_it: builds.append(of_it))
        told: list[str] = []
        built = environments.ensure(Resolution(SMALL), told.append)
        assert says(built.interpreter, "import six, attr, sys; print(sys.prefix)") == str(
            built.prefix
        )
        assert built.python_version.startswith(HERE + ".")
        assert told[0] == f"building small: 2 packages, Python {built.python_version}"
        assert told[-1].startswith("installed 2 packages in ")
        assert list(built.prefix.glob("lib/python*/site-packages/__pycache__/six*.pyc"))
        assert environments.get(built.digest) == built
        told.clear()
        assert environments.ensure(Resolution(SMALL), told.append) == built
        assert told == []
        ((took_s, is_built),) = builds
        assert took_s > 0
        assert is_built

    def test_the_packages_are_copies_that_cannot_spoil_the_cache(
        self, index: None, environments: Environments
    ) -> None:
        built = environments.ensure(Resolution(SMALL), print)
        assert {path.stat().st_nlink for path in built.prefix.rglob("six.py")} == {1}

    def test_an_environment_whose_python_has_gone_is_built_again(
        self, index: None, environments: Environments
    ) -> None:
        built = environments.ensure(Resolution(SMALL), print)
        (built.prefix / "bin" / "python").unlink()
        assert environments.get(built.digest) is None
        assert environments.ensure(Resolution(SMALL), print) == built
        assert says(built.interpreter, "import six; print('runs')") == "runs"

    @pytest.mark.parametrize(
        ("requirements", "reason"),
        [
            (("attrs==25.3.0", "attrs==24.2.0"), "cannot be met together.*attrs"),
            (("havre-has-no-such-package",), "no package 'havre-has-no-such-package'"),
            (("this is no requirement",), "cannot be read"),
        ],
    )
    def test_what_cannot_be_installed_says_why_and_leaves_nothing(
        self,
        index: None,
        environments: Environments,
        home: Home,
        requirements: tuple[str, ...],
        reason: str,
    ) -> None:
        definition = EnvironmentDefinition("bad", HERE, requirements)
        with pytest.raises(EnvironmentFault, match=reason) as raised:
            environments.ensure(Resolution(definition), print)
        log = Path(str(raised.value).rpartition(" ")[2])
        assert "error" in log.read_text()
        assert log.is_relative_to(home.logs)
        assert list((home.environments / "built").iterdir()) == []

    def test_a_dead_index_is_named_as_such(
        self, environments: Environments, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
        with pytest.raises(EnvironmentFault, match="index cannot be reached"):
            environments.ensure(Resolution(SMALL), print)

    def test_a_full_disk_leaves_nothing(
        self,
        index: None,
        environments: Environments,
        home: Home,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(root: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("havre.environments.built_prefix.sync_tree", refuse)
        with pytest.raises(
            EnvironmentFault, match=r"is full, or a quota used up: .* free, about 1,000 MB needed"
        ):
            environments.ensure(Resolution(SMALL), print)
        assert list((home.environments / "built").iterdir()) == []

    def test_a_tree_that_does_not_fit_is_a_sentence_however_many_files_it_has(
        self, environments: Environments, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            problem = f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}: '/there/x.py'"
            raise shutil.Error([("/here/x.py", "/there/x.py", problem)] * 1319)

        monkeypatch.setattr(ReachableInterpreters, "reachable", refuse)
        with pytest.raises(EnvironmentFault) as refused:
            environments.ensure(Resolution(SMALL), print)
        told = refused.value.message
        assert len(told) < 600
        assert f"the disk that holds {home.environments} is full" in told
        assert "free, about 1,000 MB needed" in told

    def test_code_that_comes_with_a_package_does_not_run_while_building(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        mark = tmp_path / "ran"
        wheel = make_wheel(
            tmp_path,
            "evil",
            {"evil.pth": f"import os; os.mkdir({str(mark)!r})\n", "evil.py": "x = 1\n"},
        )
        definition = EnvironmentDefinition("evil", HERE, (str(wheel),))
        built = environments.ensure(Resolution(definition), print)
        assert not mark.exists()
        assert says(built.interpreter, "import evil; print(evil.x)") == "1"
        assert mark.exists()


class TestInterpreters:
    def test_a_missing_python_says_what_there_is_and_how_to_get_it(self, home: Home) -> None:
        nowhere = Interpreters([], environ={"PATH": "", "HOME": str(home.root)})
        builder = EnvironmentBuilder(home, Enclosure(home), nowhere)
        with pytest.raises(EnvironmentFault, match=r"Python 3\.8 .*no Python was found.*pyenv"):
            builder.ensure(EnvironmentDefinition("x", "3.8", ()), print)
        only = Interpreters([str(Path(sys.executable).parent)], environ={"PATH": ""})
        version = ".".join(map(str, sys.version_info[:3]))
        with pytest.raises(EnvironmentFault, match=rf"found here: .*{version}.*python_paths"):
            EnvironmentBuilder(home, Enclosure(home), only).ensure(
                EnvironmentDefinition("x", "3.5", ()), print
            )

    def test_real_executables_count_and_shims_do_not(self, tmp_path: Path) -> None:
        real = Path(os.path.realpath(sys.executable))
        version = ".".join(map(str, sys.version_info[:3]))
        pyenv = tmp_path / "pyenv"
        (pyenv / "versions" / version / "bin").mkdir(parents=True)
        (pyenv / "versions" / version / "bin" / "python").symlink_to(real)
        (pyenv / "shims").mkdir()
        shim = pyenv / "shims" / f"python{HERE}"
        shim.write_text("#!/bin/sh\nexit 1\n")
        shim.chmod(0o755)
        environ = {"PATH": str(pyenv / "shims"), "PYENV_ROOT": str(pyenv), "HOME": str(tmp_path)}
        interpreters = Interpreters([], environ=environ)
        assert [(one.version, one.path) for one in interpreters.all()] == [(version, real)]
        assert interpreters.has(HERE)

    def test_folders_that_cannot_be_read_are_passed_by(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        environ = {
            "PATH": str(Path(sys.executable).parent),
            "PYENV_ROOT": str(tmp_path / "file" / "beneath"),
            "UV_PYTHON_INSTALL_DIR": str(tmp_path / "file"),
            "HOME": str(tmp_path),
        }
        assert Interpreters([], environ=environ).has(HERE)

    def test_a_python_that_came_later_is_found_without_a_restart(self, tmp_path: Path) -> None:
        interpreters = Interpreters([str(tmp_path)], environ={"PATH": "", "HOME": str(tmp_path)})
        assert interpreters.all() == []
        (tmp_path / "python3").symlink_to(sys.executable)
        assert not interpreters.has(HERE)
        assert interpreters.find(HERE).path == Path(os.path.realpath(sys.executable))
        assert interpreters.has(HERE)


def make_wheel(folder: Path, name: str, files: dict[str, str], version: str = "1.0") -> Path:
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


class TestPublishing:
    def publish(self, environments: Environments, file: Path, text: str) -> Any:
        file.write_text(text)
        return environments.publish("mine", file, python=HERE, progress=print)

    def test_a_published_environment_is_locked_and_found_by_its_slug(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        (tmp_path / "more.txt").write_text("attrs<26\n")
        built = self.publish(environments, tmp_path / "in.txt", "six>=1.16\n-r more.txt  # both\n")
        chosen = environments.resolve(RuntimeManifest("mine", "published"), tmp_path)
        assert isinstance(chosen.definition, EnvironmentDefinition)
        names = [line.partition("==")[0] for line in chosen.definition.requirements]
        assert names == ["attrs", "six"]
        assert environments.ensure(chosen, print) == built
        row = environments.show("mine")
        assert (row.kind, row.python, row.prefix) == ("published", HERE, built.prefix)

    def test_publishing_again_leaves_what_runs_alone(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        old = self.publish(environments, tmp_path / "in.txt", "six==1.16.0\n")
        new = self.publish(environments, tmp_path / "in.txt", "six==1.17.0\n")
        code = "import six; print(six.__version__)"
        assert says(old.interpreter, code) == "1.16.0"
        assert says(new.interpreter, code) == "1.17.0"
        assert environments.build("mine", print) == new
        assert {row.prefix for row in environments.list() if row.slug == "mine"} == {
            old.prefix,
            new.prefix,
        }

    def test_what_cannot_be_resolved_leaves_the_old_record(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        old = self.publish(environments, tmp_path / "in.txt", "six==1.17.0\n")
        with pytest.raises(EnvironmentFault, match=r"in\.txt cannot be resolved.*together"):
            self.publish(environments, tmp_path / "in.txt", "six==1.17.0\nsix==1.16.0\n")
        assert environments.build("mine", print) == old

    def test_a_wheel_of_ones_own_is_kept_in_the_home(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        (tmp_path / "dist").mkdir()
        wheel = make_wheel(tmp_path / "dist", "mylib", {"mylib.py": "x = 1\n"})
        built = self.publish(environments, tmp_path / "in.txt", f"./dist/{wheel.name}\nsix\n")
        wheel.unlink()
        assert says(built.interpreter, "import mylib; print(mylib.x)") == "1"
        environments.remove("mine", in_use=lambda prefix: [])
        make_wheel(tmp_path / "dist", "mylib", {"mylib.py": "x = 2\n"})
        again = self.publish(environments, tmp_path / "in.txt", f"./dist/{wheel.name}\nsix\n")
        assert says(again.interpreter, "import mylib; print(mylib.x)") == "2"

    def test_editable_packages_are_refused(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')
        for line, said in (("-e .", "editable"), (".", "build a wheel")):
            with pytest.raises(InvalidParameter, match=said):
                self.publish(environments, tmp_path / "in.txt", line + "\n")
        with pytest.raises(NotFound):
            environments.build("mine", print)

    def test_an_environment_in_use_is_not_removed(
        self, index: None, environments: Environments, home: Home, tmp_path: Path
    ) -> None:
        built = self.publish(environments, tmp_path / "in.txt", "six\n")
        spec = home.instances / "abc" / "spec.json"
        spec.parent.mkdir()
        spec.write_text(json.dumps({"interpreter": str(built.interpreter)}))
        with pytest.raises(Conflict, match="used by instance abc"):
            environments.remove("mine")
        assert environments.build("mine", print) == built
        spec.unlink()
        environments.remove("mine")
        assert not built.prefix.exists()
        with pytest.raises(NotFound, match="there is no environment 'mine'"):
            environments.remove("mine")

    def test_equal_environments_share_one_build(
        self, index: None, environments: Environments, tmp_path: Path
    ) -> None:
        (tmp_path / "in.txt").write_text("six\n")
        one = environments.publish("one", tmp_path / "in.txt", python=HERE, progress=print)
        two = environments.publish("two", tmp_path / "in.txt", python=HERE, progress=print)
        assert (two.slug, two.prefix) == ("two", one.prefix)
        environments.remove("one")
        assert environments.build("two", print) == two
        assert two.prefix.exists()

    def test_an_environment_made_elsewhere_is_used_where_it_lies(
        self, environments: Environments, tmp_path: Path
    ) -> None:
        prefix = tmp_path / "theirs"
        subprocess.run(
            [find_uv_bin(), "venv", "-q", "--python", sys.executable, prefix], check=True
        )
        with pytest.raises(InvalidParameter, match=r"not 3\.6"):
            environments.publish_prefix("theirs", prefix, python="3.6", progress=print)
        built = environments.publish_prefix("theirs", prefix, python=HERE, progress=print)
        chosen = environments.resolve(RuntimeManifest("theirs"), tmp_path)
        assert environments.ensure(chosen, print) == built
        assert environments.get(built.digest) == built
        environments.remove("theirs")
        assert built.interpreter.exists()
        with pytest.raises(InvalidParameter, match="is not an environment"):
            environments.publish_prefix("theirs", tmp_path / "nothing", progress=print)


def test_the_command_publishes_lists_and_removes(index: None, home: Home, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(environments_app, [*arguments, "--home", str(home.root)])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    (tmp_path / "in.txt").write_text("six\n")
    said = run("publish", "mine", "--requirements", str(tmp_path / "in.txt"), "--python", HERE)
    assert "INFERENCE_ENV_SLUG: mine" in said
    rows = {row["slug"]: row for row in json.loads(run("list", "--json"))}
    assert rows["mine"]["state"] == "ready"
    assert rows["generalml_p38_cpu_x86_64_v1"]["kind"] == "built-in"
    assert "six==" in run("show", "mine")
    assert "mine is ready" in run("build", "mine")
    run("remove", "mine")
    with pytest.raises(NotFound):
        run("show", "mine")
    with pytest.raises(
        InvalidParameter, match="one of --requirements FILE, --pack FILE and --prefix"
    ):
        run("publish", "mine")


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environments]:
    """A home for the general environments, built once for all tests of the session."""
    home = Home(tmp_path_factory.mktemp("lasting"))
    home.make()
    yield Environments(home, load_settings(home.root, environ={}))
    remove_tree(home.root)  # some 700 MB


@pytest.mark.parametrize("python", ["", "3.13", "3.14"])
def test_the_quickstarts_model_trains_and_answers_in_the_general_environment(
    index: None,
    lasting: Environments,
    tmp_path: Path,
    python: str,
    record_property: Any,
) -> None:
    if python and not lasting.interpreters.has(python):
        pytest.skip(f"no Python {python} on this machine")
    chosen = lasting.resolve(RuntimeManifest(python=python), tmp_path)
    started = time.monotonic()
    built = lasting.ensure(chosen, print)
    seconds = round(time.monotonic() - started, 1)
    record_property("build_seconds", seconds)
    print(f"{built.slug} was ready in {seconds} s")
    summary = json.loads(
        subprocess.check_output(
            [built.interpreter, "-I", TRAIN, tmp_path / "out", "--slug", built.slug]
        )
    )
    artifact = tmp_path / "out" / "artifact"
    assert summary["accuracy"] > 0.9
    assert lasting.resolve(read_manifest(artifact), artifact).definition == chosen.definition
    score = """
import json, sys
sys.path.insert(0, sys.argv[1])
import score
held_out = json.load(open(sys.argv[1] + "/../held_out.json"))
answer = json.loads(json.dumps(score.predict(held_out["rows"])))
json.loads(json.dumps(score.predict(json.load(open(sys.argv[1] + "/test_input.json")))))
print(sum(a == b for a, b in zip(answer["prediction"], held_out["labels"])), len(held_out["rows"]))
"""
    said = subprocess.check_output([built.interpreter, "-I", "-c", score, artifact], text=True)
    right, rows = map(int, said.split())
    assert rows == summary["held_out"] == 114
    assert right / rows > 0.9
    imports = "import xgboost, lightgbm, onnxruntime, scipy, pandas, requests, orjson, yaml"
    assert says(built.interpreter, imports + "; print('all')") == "all"
