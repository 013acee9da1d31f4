"""Environments with real frameworks, built once into the user's cache folder."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.caches import cache_folder

from havre.environments.libraries import complete

BUILD_LIMIT_S = 280
ARROW = ("numpy==2.4.6", "pandas==3.1.1", "pyarrow==26.0.1", "tritonclient[http]==2.73.0")
"""Arrow, and a client of the Open Inference Protocol, for the tests of binary bodies."""
# pandas 3 gives texts a type of their own, which the codecs of mlserver do not know.
MLSERVER = ("numpy==2.4.6", "pandas==2.3.3", "mlserver==1.7.1")
KSERVE = ("numpy==2.4.6", "pandas==2.3.3", "kserve==0.21.0")


def framework_python(*requirements: str) -> Path:
    """An interpreter with these packages; skips the test, saying why, if they cannot be had.

    ``UV_FIND_LINKS`` and the other settings of uv hold.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("no uv to build an environment with")
    cache = cache_folder()
    digest = hashlib.sha256(repr((sys.version, requirements)).encode()).hexdigest()[:12]
    folder = cache / f"frameworks-{digest}"
    python = folder / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [uv, "venv", "-q", "--python", sys.executable, folder],
            [uv, "pip", "install", "-q", "--python", python, *requirements],
        ):
            try:
                built = subprocess.run(
                    command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
                )
            except subprocess.TimeoutExpired:
                pytest.skip(f"{', '.join(requirements)}: not installed in {BUILD_LIMIT_S} s")
            if built.returncode:
                pytest.skip(f"{', '.join(requirements)}: {built.stderr.strip()[-300:]}")
        # As for environments that havre builds: LightGBM finds its OpenMP on any machine.
        complete(folder, folder / "log", lambda line: None)
        (folder / "complete").touch()
    return python
