"""The telemetry process is killed at any step: no entry is lost, none is there twice."""

import os
import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).parents[1] / "support" / "crashing_collector.py"
EVERY = int(os.environ.get("CRASH_AT_EVERY", "7"))
"""Of the instants to be killed at, one in so many is tried: `make chaos` tries all."""


def test_killed_at_any_step_it_loses_and_doubles_no_entry(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path), str(EVERY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80  # closing, writing, merging and removing are all in it
