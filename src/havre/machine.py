"""What this machine has. Read once, when the control plane starts."""

import os
import re
from pathlib import Path

from havre.domain.capacity import Machine


def measure_machine(devices: Path = Path("/dev")) -> Machine:
    """Hardware threads this process may use, physical memory, and NVIDIA GPUs by device file."""
    if hasattr(os, "sched_getaffinity"):
        threads = len(os.sched_getaffinity(0))
    else:  # macOS
        threads = os.cpu_count() or 1
    gpus = [name for name in os.listdir(devices) if re.fullmatch(r"nvidia[0-9]+", name)]
    return Machine(
        threads=threads,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=len(gpus),
    )
