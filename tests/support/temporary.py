"""Where the folders of tests lie: in memory, for the rings that start no servers."""

import os
import shutil
import tempfile
from pathlib import Path, PurePath

import pytest

MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""What has to be free in memory, in bytes, for data of tests to lie there."""
SMALL = {"unit", "contract"}
"""Rings whose tests write little, thousands of times: a disk that others use as well takes minutes
for their folders, and seconds in the end to remove those of an earlier run."""


def roomy_folder(otherwise: str) -> Path:
    """In memory if there is room, and programs may be run from there."""
    try:
        is_fit = shutil.disk_usage(MEMORY).free > ROOM
        is_fit = is_fit and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    except OSError:
        is_fit = False
    return MEMORY if is_fit else Path(otherwise)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """pytest makes its folders there, and keeps those of the last runs as it does elsewhere.

    Only where nobody has said where they shall be.
    """
    if config.option.basetemp is not None or hasattr(config, "workerinput"):
        return
    if {_ring_of(word, config) for word in config.args} <= SMALL:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(roomy_folder(tempfile.gettempdir())))


def _ring_of(word: str, config: pytest.Config) -> str:
    """The ring of a file, a folder or a test that was named on the command line."""
    path = Path(config.invocation_params.dir, word.partition("::")[0])
    tests = Path(__file__).parents[1]
    return "".join(PurePath(path.relative_to(tests)).parts[:1]) if tests in path.parents else ""
