"""What this machine has. Read once, when the control plane starts."""

import os
import re
from pathlib import Path

from havre.domain.capacity import Machine


def measure_machine(devices: Path = Path("/dev")) -> Machine:
    """Hardware threads this process may use, physical memory, and NVIDIA GPUs by device file."""
    return Machine(
        threads=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=count_gpus(devices),
    )


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs, by their device files."""
    return sum(bool(re.fullmatch(r"nvidia[0-9]+", name)) for name in os.listdir(devices))
