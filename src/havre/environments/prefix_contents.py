"""What lies in the folder of an environment: its marker, its packages, who may read it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from havre.environments.confinement import Enclosure, log_warnings

COMPILE_LIMIT_S = 1800.0
MARKER = "havre-environment.json"
"""Written last: an environment is there when its marker is."""


_COMPILE = """
import compileall, multiprocessing, os, re, sys
multiprocessing.set_start_method("fork")  # others need sockets, which are not to be had here
compileall.compile_dir(sys.argv[1], quiet=1, rx=re.compile("/tests/"), workers=os.cpu_count() or 1)
"""


def read_marker(prefix: Path) -> dict[str, Any] | None:
    """The content of an environment's marker, or None if there is none."""
    try:
        marker = json.loads((prefix / MARKER).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return marker if isinstance(marker, dict) else None


def installed_packages(prefix: Path) -> list[str]:
    """Names and versions of what is installed, as ``name==version``."""
    packages = []
    for record in prefix.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = record.name.removesuffix(".dist-info").partition("-")
        packages.append(f"{name.lower().replace('_', '-')}=={version}")
    return sorted(packages)


def compile_packages(
    enclosure: Enclosure, interpreter: Path, prefix: Path, log: Path, *, held: Sequence[int]
) -> None:
    """Write the byte code: copies cannot, the environment is not theirs to write to.

    The Python that the environment was made from does it, not the environment's: installed packages
    cannot change what it loads. Tests are left out, and files that do not compile (templates, other
    Pythons' syntax) are the packages' own business. Raises OSError, SpawnFault.
    """
    with (
        enclosure.scratch() as scratch,
        enclosure.run_ours(
            [str(interpreter), "-I", "-S", "-c", _COMPILE, str(prefix / "lib")],
            log=log,
            folder=prefix,
            environment={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            writable=[prefix / "lib"],
            scratch=scratch,
            held=held,
        ) as running,
    ):
        log_warnings(running, log)
        running.wait(COMPILE_LIMIT_S)
