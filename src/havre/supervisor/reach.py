"""What of the machine foreign code may reach: the system's files, an interpreter's own, devices.

Models and builds alike are given these. Looks at the machine's files, changes nothing.
"""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from havre.home import Home
from havre.supervisor import server_file
from havre.unprivileged import unreachable_part

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt"),
    *("/nix/store", "/gnu/store", "/proc", "/sys"),
)
LINKED_FROM_ETC = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime")
"""On many machines these lead to files elsewhere."""
OF_AN_INTERPRETER = ("bin", "lib", "lib64", "libexec", "share", "include", "ssl", "etc")
"""An interpreter may be installed into somebody's own folder: only these are read of it."""
SIGNS_OF_AN_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")
OF_OTHERS: Mapping[str, int] = {"/etc": 16, "/opt": 3, "/sys": 2}
"""Where the system keeps what only root may read, and how deep to look for it."""
SHARED_MEMORY = "/dev/shm"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
MAX_LINKS = 40

MEMORY_SHARE = 0.9
"""A shape may be larger than the machine; this part of the machine is the most one instance gets,
so that it is ended, not the machine's other work."""


def system_files(*, as_root: bool) -> list[str]:
    """The system's programs and libraries, and where the links among them lead.

    ``as_root``: for code that runs as root, which file modes keep from nothing.
    """
    system = _open_to_all(SYSTEM) if as_root else SYSTEM
    return [*system, *(os.path.realpath(path) for path in LINKED_FROM_ETC)]


def interpreter_files(interpreter: Path) -> Iterable[Path]:
    """The program, by every link that leads to it, and the libraries beside each."""
    here = interpreter
    prefix = interpreter.parent.parent
    if any((prefix / sign).exists() for sign in SIGNS_OF_AN_ENVIRONMENT):
        yield prefix
    for _ in range(MAX_LINKS):
        yield here
        yield from _libraries(here.parent.parent)
        if not here.is_symlink():
            break
        here = here.parent / here.readlink()
    try:
        lines = (prefix / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == "home":
            yield from _libraries(Path(value.strip()).parent)


def _libraries(prefix: Path) -> Iterable[Path]:
    folders = (prefix / name for name in OF_AN_INTERPRETER)
    return (folder for folder in folders if folder.is_dir())


def obstacle(passed: Sequence[Path], read: Sequence[Path]) -> str:
    needed = [(path, False) for path in passed] + [(path, True) for path in read]
    for path, is_read in needed:
        if part := unreachable_part(path, is_read=is_read):
            return f"{path} is needed, and {part} is closed to other users"
    return ""


def own_port(home: Home) -> tuple[int, ...]:
    about = server_file.read_if_whole(home)
    return () if about is None else (about["port"],)


def max_memory_bytes() -> int:
    """Bytes that one instance, or one build, gets at most."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(MEMORY_SHARE * machine)


def unique(paths: Iterable[Path | str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(path) for path in paths))


def _open_to_all(paths: Iterable[str]) -> Iterable[str]:
    """Without what file modes keep from others than root: for root they do not."""
    for path in paths:
        if path in OF_OTHERS and not os.path.islink(path):
            yield from _open_parts(path, OF_OTHERS[path])[1]
        else:
            yield path


def _open_parts(path: str, depth: int) -> tuple[bool, list[str]]:
    """Whether all of it may be read by everybody, and the largest parts that may.

    Links lead to what has a name of its own. Deeper than ``depth`` nothing is looked at.
    """
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISDIR(mode):
            is_open = stat.S_ISLNK(mode) or bool(mode & stat.S_IROTH)
            return is_open, [path] if is_open and not stat.S_ISLNK(mode) else []
        if not mode & stat.S_IXOTH:
            return False, []
        is_whole = bool(mode & stat.S_IROTH)
        parts = []
        for name in os.listdir(path) if depth else ():
            is_open, open_parts = _open_parts(os.path.join(path, name), depth - 1)
            is_whole = is_whole and is_open
            parts += open_parts
    except OSError:
        return False, []  # it has gone
    return is_whole, [path] if is_whole else sorted(parts)
