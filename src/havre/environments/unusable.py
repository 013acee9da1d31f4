"""Why the Python of a pack cannot be used here: one message per cause, as remedies differ."""

import re
import signal
from pathlib import Path

from havre.environments.confinement import Enclosure
from havre.environments.definition import python_order
from havre.environments.elf import MACHINES, read_shared_object
from havre.environments.machine_pythons import OLDEST

PYTHON = Path("bin/python")

_MAGIC = {
    b"MZ": "a program for Windows",
    b"\xcf\xfa\xed\xfe": "a program for macOS",
    b"\xca\xfe\xba\xbe": "a program for macOS",
    b"\x7fELF\x01": "a program for a 32-bit machine",
    b"#!": "a script, not a program",
}
_ASK = """
import platform, struct, sys
try:
    import sysconfig
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
except Exception:
    free = False
print("%s %d.%d.%d %s %d %s" % (
    (platform.python_implementation(),) + tuple(sys.version_info[:4])
    + (struct.calcsize("P") * 8, "free" if free else "gil")))
"""
# Of what a stranger's program prints: each costs no more than the length of it.
_VERSION_LINE = re.compile(
    r"^(\w{1,40}) (\d{1,9}\.\d{1,9}\.\d{1,9}) (\w{1,40}) (\d{1,4}) (free|gil)$", re.MULTILINE
)
_LOADER = re.compile(r"error while loading shared libraries: (.{1,300})")
_SYMBOLS = re.compile(r"version [`']([^'\n]{1,100})' not found")


def at_sight(prefix: Path, machine: str) -> str:
    """What is wrong with the pack unpacked below ``prefix``, before anything of it runs; or empty.

    ``machine`` is this one's, as uname names it.
    """
    if not (prefix / PYTHON).exists():
        return _absent(prefix)
    return _other_machine(prefix / PYTHON, machine)


def when_asked(enclosure: Enclosure, python: Path) -> str:
    """Of a program of this machine: what it says of itself, or why it does not start."""
    code, output = enclosure.run_python(python, _ASK)
    if (match := _VERSION_LINE.search(output)) and code == 0:
        implementation, version, release, bits, threads = match.groups()
        if implementation != "CPython":
            return f"its Python is {implementation} {version}: models are served with CPython"
        if release != "final":
            return f"its Python {version} is a pre-release: use a released one"
        if bits != "64":
            return f"its Python {version} is for {bits} bits: use one for 64"
        if threads == "free":
            return f"its Python {version} is a free-threaded one: use the usual build"
        return too_old(version) or f"its Python {version} cannot be used here"
    if absent := _LOADER.search(output):
        return f"its Python does not start on this machine: {absent[1]}"
    if newer := _SYMBOLS.search(output):
        return (
            f"its Python needs a newer C library than this machine has ({newer[1]}): pack it on a "
            "system as old as this one"
        )
    if code is None:
        return "its Python did not answer in time"
    if code < 0:
        hint = ": it may be compiled for a newer processor" if code == -signal.SIGILL else ""
        return f"its Python was ended by {_named(-code)} when it started{hint}"
    last = output.strip().rpartition("\n")[2][:300]
    fatal = next((line for line in output.splitlines() if line.startswith("Fatal Python")), "")
    words = f"; {last}" if fatal and last and last != fatal else ""
    return f"its Python does not start: {(fatal or last or f'it exited with code {code}')}{words}"


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one for programs' own use
        return f"signal {number}"


def too_old(version: str) -> str:
    """What is wrong with a version that runs; empty if nothing is."""
    if python_order(version) >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return f"its Python is {version}: models are served from Python {oldest} on"


def _absent(prefix: Path) -> str:
    python = prefix / PYTHON
    if python.is_symlink():
        return (
            f"its {PYTHON} is a link to {python.readlink()}, which is not in it: pack the "
            "environment with 'conda pack', which follows such links"
        )
    below = [folder for folder in prefix.iterdir() if (folder / PYTHON).exists()]
    if below:
        return (
            f"its {PYTHON} lies below {below[0].name}/: pack what is in that folder, not the folder"
        )
    if (prefix / "Scripts").is_dir() or (prefix / "python.exe").exists():
        return f"it is for Windows: it has no {PYTHON}"
    if (prefix / "conda-meta").is_dir():
        return (
            f"it has no {PYTHON}: it is a conda environment without Python; install python into "
            "it, then pack it"
        )
    names = sorted(entry.name for entry in prefix.iterdir())
    return (
        f"it has no {PYTHON}, so it is no environment; its top holds {', '.join(names[:5])}. Make "
        "one with 'conda pack' or 'havre env export'"
    )


def _other_machine(python: Path, machine: str) -> str:
    program = python.resolve()
    try:
        with program.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        return f"its {PYTHON} cannot be read: {error.strerror}"
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            return f"its {PYTHON} is {what}"
    elf = read_shared_object(program)
    if elf is None:
        return f"its {PYTHON} is no program of this machine"
    if elf.machine != MACHINES.get(machine):
        theirs = next((name for name, number in MACHINES.items() if number == elf.machine), "")
        return (
            f"its Python is for {theirs or 'another kind of processor'}, and this machine is "
            f"{machine}: pack it on such a machine"
        )
    if any(name.startswith("libc.musl") for name in elf.needed):
        return "its Python is for musl (Alpine Linux), and this machine has the GNU C library"
    return ""
