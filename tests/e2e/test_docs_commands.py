"""What the documentation tells a reader to type, typed: README, tutorial and how-to guides.

Each page is followed from top to bottom in a folder and a home of its own. ``sh`` blocks run in one
shell, ``python`` blocks as programs. A command that ends in ``# fails`` must fail. A ``text`` block
is what the block before it prints: its lines must occur in that order, ``…`` standing for anything.
Pictures have no language; ``console`` blocks are not run and say why.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import sqlalchemy
from tests.support.documents import FOLLOWED, ROOT, Block, blocks

from havre.environments.machine_pythons import Interpreters
from havre.unprivileged import may_change_mounts, unreachable_part, why_not_separate_users

SHOWN_URL = "http://127.0.0.1:8080"
SHOWN_DATABASE = "postgresql+psycopg://havre:secret@127.0.0.1/havre"
END = "-- end of block --"
_PYTHON = re.compile(r"(?:--python 3\.|_p3)(\d+)")
_FAILS = re.compile(r"^(?P<command>.*\S)\s+# fails\b.*$")

HAVRE = Path(sys.executable).with_name("havre")

pytestmark = pytest.mark.timeout(900)
"""Environments are built from an index, and Oracle's tools take seconds to start."""


class Reader:
    """Who follows a page: a shell, a folder, a home. ``database`` replaces the shown one."""

    def __init__(
        self, folder: Path, database: str = "", settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.home = folder / "home"
        self._database = database
        (folder / "examples").symlink_to(ROOT / "examples")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HAVRE_")}
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={
                **kept,
                "PATH": f"{HAVRE.parent}:{os.environ['PATH']}",
                "HAVRE_HOME": str(self.home),
                "HAVRE_PORT": "0",
                "NO_COLOR": "1",
                **(settings or {}),
                "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
            },
        )

    def run(self, block: Block) -> str:
        """What the block prints. Raises AssertionError if a command of it fails."""
        if block.language == "python":
            program = self.folder / f".block-{block.line}.py"
            program.write_text(self._here(block.text))
            script = f"{sys.executable} {program}\n"
        else:
            script = _with_failures(self._here(block.text))
        file = self.folder / f".block-{block.line}.sh"
        file.write_text(script)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(
            "trap 'echo \"failed: $BASH_COMMAND\"' ERR; set -eEuo pipefail\n"
            f". {file} </dev/null\nset +eEu; trap - ERR\necho '{END}'\n"
        )
        self._shell.stdin.flush()
        printed = []
        for line in self._shell.stdout:
            if line.rstrip("\n").endswith(END):
                printed.append(line.rstrip("\n").removesuffix(END) + "\n")
                return "".join(printed)
            printed.append(line)
        raise AssertionError(f"{block} fails:\n{''.join(printed)}")

    def publish_at_hand(self) -> None:
        """The tests' own environment, so that not every page builds the default one."""
        command = [HAVRE, "env", "publish", "at_hand", "--prefix", sys.prefix]
        subprocess.run([*command, "--home", self.home], check=True, timeout=60)

    def leave(self) -> None:
        """Stop every server that the page started."""
        self._shell.kill()
        self._shell.wait()
        for pipe in (self._shell.stdin, self._shell.stdout):
            assert pipe is not None
            pipe.close()
        for file in self.folder.rglob("supervisor.lock"):
            subprocess.run([HAVRE, "down", "--home", str(file.parent)], check=True, timeout=60)

    def _here(self, text: str) -> str:
        """With the addresses of this test for those that the page shows."""
        if SHOWN_URL in text:
            text = text.replace(
                SHOWN_URL, json.loads((self.home / "server.json").read_text())["url"]
            )
        return text.replace(SHOWN_DATABASE, self._database) if self._database else text


@pytest.fixture
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    page = request.node.callspec.params["page"]
    typed = "".join(block.text for block in blocks(page) if block.language == "sh")
    if "curl " in typed and shutil.which("curl") is None:
        pytest.skip("the page types curl, which is not here: apt-get install curl")
    shown = _PYTHON.search(typed)
    if shown is not None and not Interpreters(()).has(f"3.{shown[1]}"):
        pytest.skip(f"the page is written for Python 3.{shown[1]}, which is not here")
    # Not pytest's folder: a socket's path has 107 bytes.
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    is_first = page.name == "README.md"  # its default environment is the one that all readers get
    database = ""
    if page.name == "postgresql.md":
        server = sqlalchemy.engine.make_url(request.getfixturevalue("postgresql"))
        database = server.render_as_string(hide_password=False)
    settings = {} if is_first else {"HAVRE_DEFAULT_ENVIRONMENT": "at_hand"}
    if not why_not_separate_users() and not may_change_mounts():
        # Here models' users see folders as they are, and no page is about that.
        folder.chmod(0o711)
        if not is_first and unreachable_part(Path(sys.prefix)):
            settings["HAVRE_MODELS_AS_ROOT"] = "allowed"
    reader = Reader(folder, database, settings)
    try:
        if not is_first:
            reader.publish_at_hand()
        yield reader
    finally:
        reader.leave()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, reader: Reader) -> None:
    printed = ""
    for block in blocks(page):
        if block.language in ("sh", "python"):
            printed = reader.run(block)
        elif block.language == "text":
            _assert_shown(block, printed)
    # An unquoted variable or a stray editor's file would land here and never be seen by a reader.
    assert reader.home.exists() or page.name == "run-as-a-service.md"


def _with_failures(text: str) -> str:
    """Commands that end in ``# fails`` must do so."""
    lines = []
    for line in text.splitlines():
        if fails := _FAILS.match(line):
            command = fails["command"]
            lines.append(f"if {command}; then echo 'failed not: {command!s}'; exit 1; fi")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _assert_shown(block: Block, printed: str) -> None:
    rest = printed.splitlines()
    for line in filter(None, block.text.splitlines()):
        pattern = re.compile(".*".join(re.escape(part) for part in line.strip().split("…")))
        for index, candidate in enumerate(rest):
            # Its beginning: an answer that goes to no terminal does not end its line.
            if pattern.match(candidate.strip()):
                rest = rest[index + 1 :]
                break
        else:
            raise AssertionError(f"{block} shows {line!r}, which is not printed:\n{printed}")
