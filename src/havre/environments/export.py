"""Writes an environment as a pack with conda-pack's layout, which `havre env publish` takes back.

A pack carries its interpreter, so it runs on a machine that has none of that version.
"""

import gzip
import os
import shutil
import tarfile
from pathlib import Path

from havre import full_disk, temporary
from havre.domain.errors import EnvironmentFault, InvalidParameter
from havre.domain.progress import Progress
from havre.environments.confinement import Enclosure
from havre.environments.definition import BuiltEnvironment
from havre.environments.machine_pythons import Interpreter, version_of
from havre.environments.packs import UNPACK_PROGRAM
from havre.environments.prefix_contents import read_marker
from havre.environments.reachable import copy_interpreter

_SPEED_OVER_SIZE = 3

_MOVE = '''#!/usr/bin/env python
"""Write the folder that this environment was unpacked to into the programs of its bin folder."""
import os
import sys

OLD = {old!r}
here = os.path.dirname(os.path.abspath(__file__))
new = os.path.dirname(here)
for name in os.listdir(here):
    path = os.path.join(here, name)
    if os.path.islink(path) or not os.path.isfile(path) or name == os.path.basename(__file__):
        continue
    with open(path, "rb") as file:
        content = file.read()
    first, end, rest = content.partition(b"\\n")
    if first.startswith(b"#!") and OLD.encode() in first:
        with open(path, "wb") as file:
            file.write(first.replace(OLD.encode(), new.encode()) + end + rest)
with open(__file__) as file:
    text = file.read()
with open(__file__, "w") as file:
    file.write(text.replace("OLD = %r" % OLD, "OLD = %r" % new, 1))
'''


def export(built: BuiltEnvironment, output: Path, progress: Progress, enclosure: Enclosure) -> int:
    """Write the pack (a .tar.gz) beside its place and rename it; returns its size in bytes.

    Raises EnvironmentFault, InvalidParameter (it cannot be written).
    """
    output = output.expanduser().absolute()
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    archive = _archive_of(built)
    try:
        if archive is not None:
            shutil.copyfile(archive, beside)
            beside.rename(output)
            return output.stat().st_size
        with temporary.folder("export") as folder:
            progress(f"gathering {built.slug}")
            folder.chmod(0o755)  # what is asked of it is asked as another user
            whole = _gather(built, folder / "pack", enclosure)
            progress(f"writing {output.name}")
            _write(whole, beside)
        beside.rename(output)
        return output.stat().st_size
    except OSError as error:
        problem = full_disk.cause(error, output.parent)
        raise InvalidParameter(f"{output} cannot be written: {problem}") from error
    finally:
        beside.unlink(missing_ok=True)


def _archive_of(built: BuiltEnvironment) -> Path | None:
    """The archive that a pack was unpacked from: what was relocated cannot be packed again."""
    marker = read_marker(built.prefix)
    if marker is None or "pack" not in marker:
        return None
    archive = Path(marker["pack"]["source"])
    if not archive.is_file():
        raise EnvironmentFault(f"{built.slug} is the pack {marker['pack']['source']}: copy that")
    return archive


def _gather(built: BuiltEnvironment, staged: Path, enclosure: Enclosure) -> Path:
    """A folder with the interpreter and the packages in one prefix."""
    if not (built.prefix / "pyvenv.cfg").is_file():
        raise EnvironmentFault(
            f"{built.slug} is kept by somebody else at {built.prefix}: pack it with 'conda pack'"
        )
    base = Path(os.path.realpath(built.interpreter))
    copy_interpreter(Interpreter(built.python_version, base), staged)
    python = staged / "bin" / base.name
    for name in ("python", "python3"):
        if not (staged / "bin" / name).exists():
            (staged / "bin" / name).symlink_to(base.name)
    _add_packages(built, staged, _purelib(python, enclosure))
    (staged / UNPACK_PROGRAM).write_text(_MOVE.format(old=str(built.prefix)))
    (staged / UNPACK_PROGRAM).chmod(0o755)
    if version_of(enclosure, staged / "bin" / "python") != built.python_version:
        raise EnvironmentFault(
            f"the Python {built.python_version} of {built.slug} does not run from another folder: "
            "it cannot be packed"
        )
    return staged


def _add_packages(built: BuiltEnvironment, staged: Path, purelib: Path) -> None:
    """What the virtual environment has beyond its interpreter."""
    library = next((built.prefix / "lib").glob("python3.*/site-packages"))
    shutil.copytree(library, purelib, symlinks=True, dirs_exist_ok=True)
    for name in ("_virtualenv.py", "_virtualenv.pth"):
        (purelib / name).unlink(missing_ok=True)
    for source in sorted((built.prefix / "bin").iterdir()):
        target = staged / "bin" / source.name
        if not target.exists() and source.is_file() and not source.is_symlink():
            shutil.copy2(source, target)
    for folder in ("share", "etc"):
        if (built.prefix / folder).is_dir():
            shutil.copytree(built.prefix / folder, staged / folder, symlinks=True)


def _purelib(python: Path, enclosure: Enclosure) -> Path:
    """Where an interpreter looks for packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = Path(enclosure.ask(python, code))
    if not folder.is_relative_to(python.parent.parent):
        raise EnvironmentFault(f"{python} does not run from another folder: it cannot be packed")
    return folder


def _write(folder: Path, archive: Path) -> None:
    with (
        archive.open("wb") as file,
        gzip.GzipFile("", "wb", _SPEED_OVER_SIZE, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as target,
    ):
        for path in sorted(folder.iterdir()):
            target.add(path, arcname=path.name, filter=_nobodys)
        file.flush()


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
