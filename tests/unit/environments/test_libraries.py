"""What the loader would not find is found beforehand, lent where it can be, and named."""

import random
import sysconfig
from pathlib import Path

import pytest
from tests.support.elf_file import HERE, write_shared_object

from havre.domain.workload import PythonWorkload
from havre.engines.variables import model_variables
from havre.environments.confinement import Enclosure
from havre.environments.definition import ExternalEnvironment
from havre.environments.elf import read_shared_object
from havre.environments.libraries import (
    Lack,
    complete,
    lacking,
    lent_variables,
    system_libraries,
    warnings,
)
from havre.environments.prefix_contents import MARKER
from havre.environments.published import Published, PublishedEnvironments
from havre.environments.survey import survey
from havre.home import Home

SYSTEM = frozenset({"libc.so.6", "libm.so.6"})
GOMP = "libgomp-e985bcbb.so.1.0.0"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The packages of an environment at ``tmp_path``."""
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    return folder


def _lightgbm(packages: Path, *versions: str) -> Path:
    return write_shared_object(
        packages / "lightgbm" / "lib" / "lib_lightgbm.so",
        soname="lib_lightgbm.so",
        needed=["libm.so.6", "libgomp.so.1", "libc.so.6"],
        wants={"libc.so.6": ["GLIBC_2.2.5"], "libgomp.so.1": versions or ["OMP_1.0", "GOMP_4.0"]},
    )


def _scikit_learn(packages: Path, name: str = GOMP, *versions: str) -> Path:
    return write_shared_object(
        packages / "scikit_learn.libs" / name,
        soname=name,
        needed=["libc.so.6"],
        has=[name, *(versions or ["OMP_1.0", "GOMP_1.0", "GOMP_4.0"])],
    )


def test_a_shared_object_is_read(tmp_path: Path) -> None:
    file = write_shared_object(
        tmp_path / "x.so",
        soname="x.so.1",
        needed=["liba.so.1", "libb.so"],
        runpath="$ORIGIN/../x.libs:/opt/lib",
        rpath="/ignored/where/there/is/a/runpath",
        wants={"liba.so.1": ["A_1", "A_2"], "libb.so": ["B_1"]},
        has=["x.so.1", "X_1", "X_2"],
    )
    read = read_shared_object(file)
    assert read is not None
    assert (read.machine, read.soname, read.needed) == (HERE, "x.so.1", ("liba.so.1", "libb.so"))
    assert read.paths == ("$ORIGIN/../x.libs", "/opt/lib")
    assert read.wants == {"liba.so.1": {"A_1", "A_2"}, "libb.so": {"B_1"}}
    assert read.has == {"x.so.1", "X_1", "X_2"}


def test_real_ones_are_read() -> None:
    files = list(Path(sysconfig.get_path("platlib")).rglob("*.so"))
    read = [read_shared_object(file) for file in files]
    assert len(files) > 10
    assert all(one is not None and one.machine == HERE for one in read)
    assert any("GLIBC_2.2.5" in one.wants.get("libc.so.6", ()) for one in read if one) or HERE != 62


def test_what_is_none_or_damaged_is_none(tmp_path: Path) -> None:
    whole = write_shared_object(tmp_path / "whole.so", needed=["a"] * 9, has=["v"] * 9).read_bytes()
    file = tmp_path / "damaged.so"
    dice = random.Random(7)
    for _ in range(2000):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            content[dice.randrange(len(content))] = dice.choice((0, 1, 0x7F, 0xFF))
        file.write_bytes(content[: dice.randint(0, len(content))])
        read_shared_object(file)  # raises nothing, ends
    for content in (b"", b"\x7fELF", b"!<arch>\n" * 20, whole[:200]):
        file.write_bytes(content)
        assert read_shared_object(file) is None
    assert read_shared_object(tmp_path) is None
    assert read_shared_object(tmp_path / "absent.so") is None


def test_what_another_wheel_brought_is_lent(tmp_path: Path, packages: Path, capsys) -> None:
    _lightgbm(packages)
    lender = _scikit_learn(packages)
    found = lacking(tmp_path, system=SYSTEM)
    assert found == [Lack("libgomp.so.1", ("lightgbm",), str(lender.relative_to(tmp_path)))]
    log, told = tmp_path / "log", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("havre.environments.libraries.system_libraries", lambda: SYSTEM)
        complete(tmp_path, log, told.append)
    lent = tmp_path / "lib" / "havre" / "libgomp.so.1"
    assert lent.resolve() == lender
    assert not lent.readlink().is_absolute()
    assert told == [
        f"this machine has no libgomp.so.1, which lightgbm needs: {GOMP} of this environment is "
        "lent for it"
    ]
    assert log.read_text().splitlines() == told
    assert lacking(tmp_path, system=SYSTEM) == []
    python = tmp_path / "bin" / "python"
    assert lent_variables(python) == {"LD_LIBRARY_PATH": str(lent.parent)}
    assert lent_variables(python, "/own")["LD_LIBRARY_PATH"] == f"/own:{lent.parent}"


@pytest.mark.parametrize(
    ("name", "versions"),
    [
        (GOMP, ["OMP_1.0"]),  # an older one
        ("libgomp-e985bcbb.so.2.0.0", []),
        ("libgomp-plugin-nvptx.so.1", []),
        ("libgompa-e985bcbb.so.1", []),
    ],
)
def test_what_would_not_fit_is_not_lent(
    tmp_path: Path, packages: Path, name: str, versions: list[str]
) -> None:
    _lightgbm(packages)
    _scikit_learn(packages, name, *versions)
    assert lacking(tmp_path, system=SYSTEM) == [Lack("libgomp.so.1", ("lightgbm",))]
    assert lent_variables(tmp_path / "bin" / "python") == {}


def test_of_several_the_newest_is_lent(tmp_path: Path, packages: Path) -> None:
    _lightgbm(packages)
    for package, versions in (("a.libs", ["OMP_5.0"]), ("b.libs", []), ("c.libs", ["OMP_3.0"])):
        name = f"libgomp-{package[0]}0000000.so.1.0.0"
        has = ["OMP_1.0", "GOMP_4.0", *versions, *(["OMP_4.5"] if package == "a.libs" else [])]
        write_shared_object(packages / package / name, has=has)
    (found,) = lacking(tmp_path, system=SYSTEM)
    assert found.lender.endswith("a.libs/libgomp-a0000000.so.1.0.0")


def test_what_the_loader_finds_is_not_missing(tmp_path: Path, packages: Path) -> None:
    write_shared_object(packages / "a" / "a.so", needed=["libx-0a.so"], runpath="$ORIGIN/../a.libs")
    write_shared_object(packages / "a.libs" / "libx-0a.so", needed=["/opt/own.so"])
    write_shared_object(packages / "b" / "b.so", needed=["libq.so.3"])  # loaded by b before
    write_shared_object(packages / "b" / "libq.so", soname="libq.so.3")
    write_shared_object(packages / "c" / "c.so", needed=["libcuda.so.1", "ld-linux-x86-64.so.2"])
    write_shared_object(packages / "d" / "d.so", needed=["libother.so.9"], machine=40)
    (packages / "e.so").write_text("text")
    assert lacking(tmp_path, system=SYSTEM) == []


def test_what_the_base_interpreter_has_is_not_missing(tmp_path: Path, packages: Path) -> None:
    (tmp_path / "base" / "lib").mkdir(parents=True)
    (tmp_path / "base" / "lib" / "libpython3.11.so.1.0").touch()
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path}/base/bin\n")
    write_shared_object(packages / "a.so", needed=["libpython3.11.so.1.0"])
    assert lacking(tmp_path, system=SYSTEM) == []


def test_what_nobody_has_is_named_with_its_package() -> None:
    lacks = [
        Lack("libgomp.so.1", ("lightgbm",)),
        Lack("libGL.so.1", ("cv2",)),
        Lack("libglib-2.0.so.0", ("cv2",)),
        Lack("libown.so.1", ("a", "b", "c", "d", "e")),
    ]
    assert warnings(lacks) == [
        "lightgbm may not work: this machine has no libgomp.so.1; "
        "install libgomp1 (Debian, Ubuntu) or libgomp (Fedora)",
        "cv2 may not work: this machine has no libGL.so.1, libglib-2.0.so.0; "
        "install libgl1 libglib2.0-0 (Debian, Ubuntu) or mesa-libGL glib2 (Fedora)",
        "a, b, c, d and 1 more may not work: this machine has no libown.so.1; "
        "install the system's packages that bring what the model needs of them",
    ]


def test_the_doctor_is_told_of_what_is_built_and_of_what_is_used_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("havre.environments.survey.system_libraries", lambda: SYSTEM)
    home = Home(tmp_path / "home")
    built, half = home.environments / "built" / "a", home.environments / "built" / "b"
    lying = tmp_path / "lying"
    for prefix in (built, half, lying):
        write_shared_object(prefix / "lib/python3.11/site-packages/cv2.so", needed=["libGL.so.1"])
    (built / MARKER).write_text('{"slug": "one"}')
    record = Published(ExternalEnvironment("two", "3.11", lying), (), 0.0)
    PublishedEnvironments(home, Enclosure(home)).put(record)
    remedy = "install libgl1 (Debian, Ubuntu) or mesa-libGL (Fedora)"
    assert survey(home) == [
        ("one: cv2 may not work: this machine has no libGL.so.1", remedy),
        ("two: cv2 may not work: this machine has no libGL.so.1", remedy),
    ]
    assert survey(Home(tmp_path / "none")) == []


def test_a_model_finds_what_is_lent_after_what_its_owner_names(tmp_path: Path) -> None:
    interpreter = tmp_path / "bin" / "python"

    def variables(**user: str) -> dict[str, str]:
        return model_variables(
            deployment_id="d",
            tenancy_id="t",
            workload=PythonWorkload(interpreter, "3.11.7", tmp_path / "artifact"),
            user=user,
            lent=lent_variables(interpreter, user.get("LD_LIBRARY_PATH", "")),
        )

    assert "LD_LIBRARY_PATH" not in variables()
    assert variables(LD_LIBRARY_PATH="/own")["LD_LIBRARY_PATH"] == "/own"
    lent = tmp_path / "lib" / "havre"
    lent.mkdir(parents=True)
    assert variables()["LD_LIBRARY_PATH"] == str(lent)
    assert variables(LD_LIBRARY_PATH="/own")["LD_LIBRARY_PATH"] == f"/own:{lent}"


def test_this_machine_has_its_c_library() -> None:
    assert "libc.so.6" in system_libraries()
    assert "libnobody-has-it.so.1" not in system_libraries()
