"""Every attempt of a hostile model, in every mode that this machine has."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.attempts import ATTEMPTS, USES, Attempt, Mode, Need, Use, is_refused
from tests.support.supervisor_harness import open_interpreter

from havre.supervisor import landlock, seccomp
from havre.unprivileged import reachable, why_not_separate_users

PROGRAM = Path(__file__).with_name("server.py")
USER = 64123  # nobody's; its processes are the program's
NO_VIEW = "no private /tmp"

Told = dict[str, Any]


@pytest.fixture(scope="module", params=list(Mode), ids=[mode.name for mode in Mode])
def mode(request: pytest.FixtureRequest) -> Mode:
    found: Mode = request.param
    is_root = os.geteuid() == 0
    if found is Mode.ROOT and not is_root:
        pytest.skip("needs root")
    if found is Mode.OWN_USER and (why := why_not_separate_users()):
        pytest.skip(why)
    if (
        found in (Mode.VIEW, Mode.BARE)
        and is_root
        and (why_not_separate_users() or not reachable(PROGRAM))
    ):
        pytest.skip("cannot run the program as another user")
    if found is Mode.BARE and not seccomp.is_known_here():
        pytest.skip("cannot refuse the view on this kind of machine")
    return found


@pytest.fixture(scope="module")
def told(mode: Mode) -> Told:
    """What became of every code."""
    interpreter = open_interpreter()
    is_root = os.geteuid() == 0
    # Where no instance has a folder of its own in its place, as in /tmp.
    home, place = (
        Path(tempfile.mkdtemp(dir="/run" if is_root else Path.home(), prefix=".hv")) for _ in "12"
    )
    options: dict[str, Any] = {}
    if is_root and mode in (Mode.VIEW, Mode.BARE):
        for folder in (home, place):
            os.chown(folder, USER, USER)
        options = {"user": USER, "group": USER, "extra_groups": []}
    codes = [(each.code, each.remains) for each in ATTEMPTS]
    codes += [(each.code, "") for each in USES]
    try:
        done = subprocess.run(
            [interpreter, "-B", PROGRAM, home, place, mode],
            input=json.dumps(codes),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd="/",
            **options,
        )
        assert done.returncode == 0, done.stderr
        told: Told = json.loads(done.stdout)
    finally:
        for folder in (home, place):
            shutil.rmtree(folder)
    names = [each.key for each in ATTEMPTS] + [each.name for each in USES]
    told["answers"] = dict(zip(names, told["answers"], strict=True))
    if mode is Mode.VIEW and has_no_view(told):
        pytest.skip("this machine gives an ordinary user no private view")
    return told


def has_no_view(told: Told) -> bool:
    return any(NO_VIEW in note for note in told["notes"])


def what_is_missing(needs: Need | None, told: Told) -> bool:
    return {
        None: False,
        Need.FILES: not landlock.abi(),
        Need.PORTS: landlock.abi() < landlock.ABI_PORTS,
        Need.SIGNALS: landlock.abi() < landlock.ABI_SIGNALS,
        Need.CALLS: not seccomp.is_known_here(),
        Need.VIEW: has_no_view(told),
    }[needs]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=[each.key for each in ATTEMPTS])
def test_it_is_refused(mode: Mode, told: Told, attempt: Attempt) -> None:
    if mode not in attempt.refused:
        return  # nothing is promised, and the page says so
    if what_is_missing(attempt.needs, told):
        pytest.skip(f"needs {attempt.needs}")
    answer, remains = told["answers"][attempt.key]
    assert is_refused(answer) or remains is True, answer


@pytest.mark.parametrize("use", USES, ids=[each.name for each in USES])
def test_it_is_allowed(told: Told, use: Use) -> None:
    answer, _ = told["answers"][use.name]
    assert answer, use.name
    assert not (isinstance(answer, str) and "Error" in answer), answer


def test_nothing_is_left_and_what_cannot_be_held_is_said(mode: Mode, told: Told) -> None:
    assert told["daemon"] in told["before"]
    assert told["after"] == []
    assert told["files"] == []
    if not has_no_view(told):
        assert told["shared"] == []
    says = {
        Mode.OWN_USER: "",
        Mode.ROOT: "the model runs as the server's own user, root",
        Mode.VIEW: "",
        Mode.BARE: NO_VIEW,
    }[mode]
    assert any(says in note for note in told["notes"]) or not says
