"""A real pack for tests: conda-pack's layout around a small interpreter of this machine."""

import io
import shutil
import tarfile
from pathlib import Path

from havre.environments.machine_pythons import Interpreter, Interpreters
from havre.environments.reachable import ReachableInterpreters, copy_interpreter

PLACEHOLDER = "/opt/a_very_long_placeholder_folder"
DISPENSABLE = ("ensurepip", "lib2to3", "distutils", "tkinter", "pydoc_data", "unittest", "asyncio")
UNPACK = f"""#!/usr/bin/env python
import os
OLD = {PLACEHOLDER!r}
here = os.path.dirname(os.path.abspath(__file__))
prefix = os.path.dirname(here)
path = os.path.join(prefix, "etc", "settings.conf")
with open(path) as file:
    text = file.read()
with open(path, "w") as file:
    file.write(text.replace(OLD, prefix))
"""


def movable(interpreters: Interpreters, scratch: Path) -> Interpreter | None:
    """An interpreter of this machine that runs from a folder of its own."""
    copies = ReachableInterpreters(scratch, as_root=True)
    # What everybody reaches is not copied: it is a system's, and may need the system's folders.
    for one in interpreters.all():
        if copies.reachable(one, print).path.is_relative_to(scratch):
            return one
    return None


def make_pack(interpreter: Interpreter, archive: Path, *, filling: int = 0) -> None:
    """Write a .tar.gz; ``filling`` bytes that do not compress are in it as well."""
    stage = archive.with_name("stage")
    copy_interpreter(interpreter, stage)
    library = stage / "lib" / f"python{interpreter.python}"
    for name in DISPENSABLE:
        shutil.rmtree(library / name, ignore_errors=True)
    for cache in list(library.rglob("__pycache__")):
        shutil.rmtree(cache)
    (library / "site-packages").mkdir(exist_ok=True)
    (library / "site-packages" / "packed.py").write_text("x = 'from the pack'\n")
    (stage / "bin" / "python").unlink(missing_ok=True)
    (stage / "bin" / "python").symlink_to(interpreter.path.name)
    (stage / "bin" / "conda-unpack").write_text(UNPACK)
    (stage / "etc").mkdir()
    (stage / "etc" / "settings.conf").write_text(f"folder = {PLACEHOLDER}/share\n")
    with tarfile.open(archive, "w:gz", compresslevel=1) as target:
        for path in sorted(stage.iterdir()):
            target.add(path, arcname=path.name)
        if filling:
            info = tarfile.TarInfo("share/filling")
            info.size = filling
            with open("/dev/urandom", "rb") as noise:
                target.addfile(info, io.BufferedReader(noise))  # type: ignore[type-var]
    shutil.rmtree(stage)
