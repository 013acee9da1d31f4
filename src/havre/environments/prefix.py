"""What lies in the folder of an environment: its marker, its packages, who may read it."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

MARKER = "havre-environment.json"
"""Written last: an environment is there when its marker is."""


def read_marker(prefix: Path) -> dict[str, Any] | None:
    """What the marker of an environment tells, or None if there is none."""
    try:
        marker = json.loads((prefix / MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def installed_packages(prefix: Path) -> list[str]:
    """Names and versions of what is installed, as ``name==version``."""
    found = []
    for record in prefix.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = record.name.removesuffix(".dist-info").partition("-")
        found.append(f"{name.lower().replace('_', '-')}=={version}")
    return sorted(found)


def let_others_read(prefix: Path) -> None:
    """Whatever the umask or an archive left: copies may run as another user."""
    for folder, _, names in os.walk(prefix):
        os.chmod(folder, 0o755)
        for name in names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            wanted = 0o755 if mode & 0o100 else 0o644
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) != wanted:
                os.chmod(path, wanted)


def compile_packages(prefix: Path, log: Path, lock: int) -> None:
    """Write the byte code: copies cannot, the environment is not theirs to write to.

    With -I -S no code of the packages runs here (a .pth file would). Their tests are left out, and
    files that do not compile (templates, other Pythons' syntax) are the packages' own business.
    """
    with log.open("ab") as written:
        subprocess.run(
            [
                *(str(prefix / "bin" / "python"), "-I", "-S", "-m", "compileall"),
                *("-q", "-j", str(os.cpu_count() or 1), "-x", "/tests/", str(prefix / "lib")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            pass_fds=(lock,),
            check=False,
        )
