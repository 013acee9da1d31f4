"""The environments in which the tests' models are trained, and served.

As in a data scientist's day: one environment holds oracle-ads and the frameworks, models are
trained and saved in it, and it is published for inference as it is. Built once per content, below
the user's cache folder, and kept for the next run.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.caches import cache_folder

from havre.durable import file_lock, remove_tree
from havre.environments.libraries import complete, lent_variables

UV = Path(sys.executable).with_name("uv")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
BUILD_LIMIT_S = 600
SESSION_LIMIT_S = 240

REQUIREMENTS = {
    "notebook": (
        "cloudpickle",
        "lightgbm==4.7.0",
        "onnxruntime==1.31.1",
        "oracle-ads",
        "scikit-learn",
        "skl2onnx==1.20.0",
        "xgboost-cpu==3.2.0",
    ),
    # The build for CPUs: the usual one brings gigabytes of CUDA along.
    "torch": ("numpy", "torch==2.13.0+cpu"),
}


class NotInstallable(Exception):
    """The packages cannot be had here; the text is uv's."""


@dataclass(frozen=True)
class Notebook:
    """An environment that stands. ``slug`` is what it is published as."""

    slug: str
    prefix: Path

    def run(self, *words: str, environment: dict[str, str] | None = None) -> Any:
        """Run a Python program in it; the last line of its output, which must be JSON."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [self.prefix / "bin" / "python", *words],
            capture_output=True,
            text=True,
            env={
                **kept,
                "OMP_NUM_THREADS": "2",
                **lent_variables(self.prefix / "bin" / "python"),
                **(environment or {}),
            },
            timeout=SESSION_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        return json.loads(done.stdout.strip().splitlines()[-1])


def build(name: str) -> Notebook:
    """The environment called ``name`` above. Raises NotInstallable."""
    requirements = REQUIREMENTS[name]
    content = repr((sys.version, requirements, CONSTRAINTS.read_text()))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    prefix = cache / f"{name}-{digest}"
    built = cache / f"{name}-{digest}.complete"
    with file_lock(cache / f"{name}-{digest}.lock", waiting=lambda: None):
        if not built.exists():
            remove_tree(prefix)
            _install(prefix, requirements)
            # As for environments that havre builds: LightGBM finds its OpenMP on any machine.
            complete(prefix, cache / f"{name}-{digest}.log", lambda line: None)
            built.touch()
    return Notebook(name, prefix)


def _install(prefix: Path, requirements: tuple[str, ...]) -> None:
    _uv("venv", "--python", sys.executable, str(prefix))
    command = ["pip", "install", "--python", str(prefix / "bin" / "python")]
    # uv does not read what tells pip where wheels lie.
    for place in os.environ.get("PIP_FIND_LINKS", "").split():
        command += ["--find-links", place]
    _uv(*command, "--constraints", str(CONSTRAINTS), *requirements)


def _uv(*words: str) -> None:
    done = subprocess.run(
        [UV, "-q", *words], capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise NotInstallable(done.stderr.strip()[-500:])
