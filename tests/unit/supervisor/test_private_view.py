"""What leads through a closed folder to what is needed: found before the folder is covered."""

import os
from pathlib import Path

import pytest

from havre.supervisor.private_view import _find_ways


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """``closed/venv`` with a link to ``closed/base``, and a link from outside."""
    closed = tmp_path / "closed"
    for folder in ("venv/bin", "base/bin", "other"):
        (closed / folder).mkdir(parents=True)
    (closed / "base" / "bin" / "python").touch()
    (closed / "current").symlink_to("base")
    (closed / "venv" / "bin" / "python").symlink_to("../../current/bin/python")
    (tmp_path / "link").symlink_to(closed / "venv")
    return closed


def ways(closed: Path, *needed: Path) -> dict[str, str | None]:
    """Below the folder: what a link says, None for what is bound there."""
    found: dict[str, str | int] = {}
    for path in needed:
        _find_ways(str(path), closed, found)
    told = {}
    for path, target in found.items():
        if isinstance(target, int):
            assert os.path.samestat(os.fstat(target), os.stat(path))
            os.close(target)
        name = str(Path(path).relative_to(closed))
        told[name] = target if isinstance(target, str) else None
    return told


def test_every_link_on_the_way_is_kept(closed: Path) -> None:
    assert ways(closed, closed / "venv" / "bin" / "python") == {
        "venv/bin/python": "../../current/bin/python",
        "current": "base",
        "base/bin/python": None,
    }
    assert ways(closed, closed.parent / "link") == {"venv": None}


def test_what_is_not_below_or_not_there_is_left_out(closed: Path) -> None:
    (closed / "loop").symlink_to("loop")
    assert ways(closed, closed, closed.parent, closed / "missing", Path("/usr")) == {}
    assert ways(closed, closed / "loop") == {"loop": "loop"}
