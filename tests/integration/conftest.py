"""What tests with real processes share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.copy_instance import launch  # noqa: F401
from tests.support.small_environment import index  # noqa: F401
from tests.support.supervisor_harness import harness  # noqa: F401

from havre.home import Home


@pytest.fixture
def home() -> Iterator[Home]:
    """One that other users can pass, as a server's is."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.make()
    yield home
    shutil.rmtree(folder)
