"""A program that confines itself as far as a model ever is, and becomes another.

``python strictest.py FOLDER PROGRAM ARGUMENT…``: as where the kernel gives no view of one's own, so
that no Unix socket can be made; only FOLDER can be written to, shared memory and /proc included.
What this machine cannot enforce is told on standard error.
"""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "src")]

from havre.supervisor import confinement, private_view  # noqa: E402
from havre.supervisor.protocol import Confinement  # noqa: E402
from havre.supervisor.reach import DEVICES, SYSTEM, interpreter_files  # noqa: E402

COPIES = Path(__file__).parents[2] / "src" / "havre_copy"


def no_view(**_: object) -> None:
    raise PermissionError("tried without")


def main(folder: str, program: str, *arguments: str) -> None:
    private_view.enter = no_view
    files = (*SYSTEM, *map(str, interpreter_files(Path(program))), str(COPIES), folder)
    wanted = Confinement(readable=files, writable=(folder,), devices=DEVICES)
    confinement.confine(
        wanted, limits_processes=True, warn=lambda text: print(text, file=sys.stderr)
    )
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
