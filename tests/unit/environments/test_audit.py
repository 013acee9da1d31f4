"""What a wheel or a build may not leave in an environment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from havre.domain.errors import EnvironmentFault
from havre.environments.audit import Made, check_files, check_records

SITE = "lib/python3.11/site-packages"
RECORD = f"{SITE}/lib-1.0.dist-info/RECORD"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A new environment, as uv makes it, with a wheel in it."""
    prefix = tmp_path / "environment"
    (prefix / SITE).mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to("/usr/bin/env")
    (prefix / "bin" / "python3").symlink_to("python")
    (prefix / "lib64").symlink_to("lib")
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return prefix


@pytest.fixture
def made(prefix: Path) -> Made:
    return Made.of(prefix)


def install(prefix: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text(text)


def check(prefix: Path, made: Made) -> None:
    made.check(prefix)
    check_records(prefix)
    check_files(prefix, made=made, owner=os.geteuid())


def test_what_packages_usually_bring_is_fine(prefix: Path, made: Made) -> None:
    named = ("lib/__init__.py", "../../../bin/lib", "../../../share/lib/a", "../../../etc/l.conf")
    record = "".join(f"{name},,\n" for name in named)
    install(
        prefix,
        {
            f"{SITE}/lib/__init__.py": "",
            f"{SITE}/lib.pth": "import lib",
            f"{SITE}/sitecustomize.py": "",
            "bin/lib": "#!python",
            "bin/python-argcomplete-check": "#!python",
            "share/lib/a": "",
            "etc/l.conf": "",
            ".lock": "",
            RECORD: record,
        },
    )
    (prefix / SITE / "lib" / "link").symlink_to("__init__.py")
    os.link(prefix / "bin" / "lib", prefix / "bin" / "lib2")
    check(prefix, made)


def change_configuration(prefix: Path) -> None:
    (prefix / "pyvenv.cfg").write_text("home = /tmp/elsewhere\n")


def remove_configuration(prefix: Path) -> None:
    (prefix / "pyvenv.cfg").unlink()


def make_configuration_a_pipe(prefix: Path) -> None:
    (prefix / "pyvenv.cfg").unlink()
    os.mkfifo(prefix / "pyvenv.cfg")


def change_python(prefix: Path) -> None:
    (prefix / "bin" / "python").unlink()
    (prefix / "bin" / "python").write_text("#!/bin/sh\n")


def lead_python_elsewhere(prefix: Path) -> None:
    (prefix / "bin" / "python3").unlink()
    (prefix / "bin" / "python3").symlink_to("/bin/sh")


def bring_a_python(prefix: Path) -> None:
    (prefix / "bin" / "python3.11").write_text("#!/bin/sh\n")


def bring_a_folder(prefix: Path) -> None:
    (prefix / "conda-meta").mkdir()


def lead_out(prefix: Path) -> None:
    (prefix / SITE / "data").symlink_to("/etc")


def lead_out_step_by_step(prefix: Path) -> None:
    (prefix / SITE / "data").symlink_to("../../../..")


def link_hard(prefix: Path) -> None:
    (prefix.parent / "outside").write_text("")
    os.link(prefix.parent / "outside", prefix / SITE / "inside")


def leave_a_pipe(prefix: Path) -> None:
    os.mkfifo(prefix / SITE / "pipe")


def claim_a_file_outside(prefix: Path) -> None:
    install(prefix, {RECORD: "lib.py,,\n../../../../outside,,\n"})


def claim_the_configuration(prefix: Path) -> None:
    install(prefix, {RECORD: "../../../pyvenv.cfg,,\n"})


def claim_an_absolute_file(prefix: Path) -> None:
    install(prefix, {RECORD: "/etc/hosts,,\n"})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change_configuration, r"changed pyvenv\.cfg"),
        (remove_configuration, r"changed pyvenv\.cfg"),
        (make_configuration_a_pipe, r"changed pyvenv\.cfg"),
        (change_python, "changed bin/python,"),
        (lead_python_elsewhere, "changed bin/python3,"),
        (bring_a_python, r"a Python of its own, python3\.11"),
        (bring_a_folder, "brings conda-meta"),
        (lead_out, "site-packages/data is a link out of it, to /etc"),
        (lead_out_step_by_step, "site-packages/data is a link out of it"),
        (link_hard, "site-packages/inside is a hard link to a file outside"),
        (leave_a_pipe, "site-packages/pipe is a special file"),
        (claim_a_file_outside, r"lib-1\.0 claims the file '\.\./\.\./\.\./\.\./outside'"),
        (claim_the_configuration, "claims the file"),
        (claim_an_absolute_file, "claims the file '/etc/hosts'"),
    ],
)
def test_what_does_not_belong_refuses_it(
    prefix: Path, made: Made, harm: Callable[[Path], None], said: str
) -> None:
    harm(prefix)
    with pytest.raises(EnvironmentFault, match=said):
        check(prefix, made)


def test_files_of_another_user_refuse_it(prefix: Path, made: Made) -> None:
    with pytest.raises(EnvironmentFault, match="belongs to another user"):
        check_files(prefix, made=made, owner=os.geteuid() + 1)
