"""How slow the machine is just now, for what is promised in seconds of a machine that has time."""

import subprocess
import sys
import time

CALIBRATION_S = 0.1
"""What the piece of work takes on the machine that figures in seconds are of."""
STANDSTILL_S = 5.0
"""A process that gets no processor for this long fails no test: what must not last for ever may
last longer by so much."""


def slowness() -> float:
    """How many times as slow as the machine of the figures, never less than once.

    Most of what tests wait for are Pythons that start. The median of five.
    """
    command = [sys.executable, "-I", "-S", "-c", "import asyncio, http.client, json, sqlite3"]
    times = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(command, check=True)
        times.append(time.monotonic() - began)
    return max(1.0, sorted(times)[2] / CALIBRATION_S)
