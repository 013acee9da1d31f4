"""What the tests of machines share: an environment for their models, published once."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.matrix.server import HAVRE, SLUG
from tests.support.supervisor_harness import open_interpreter


@pytest.fixture(scope="session")
def environments() -> Iterator[Path]:
    """The folder ``environments`` of a home where the model's is published."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as folder:
        place = Path(folder)
        place.chmod(0o755)
        command = [open_interpreter(), "-m", "venv", "--without-pip", place / "env"]
        subprocess.run(command, check=True, umask=0o022)
        home = place / "home"
        subprocess.run(
            [HAVRE, "env", "publish", SLUG, "--prefix", place / "env", "--home", home],
            check=True,
            capture_output=True,
        )
        yield home / "environments"
