"""Unpacks a pack in a process that can do nothing else, whatever is wrong with the archive.

The process is ours and runs nothing of the pack; but what reads an archive of a stranger's is not
trusted to do only that. So it has a user of its own where there can be one, no network, and writes
only the folder of the pack. It is fed through a named pipe. Its last word lies in a file; that the
disk is full is its exit code.
"""

import fcntl
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import havre
from havre import foreign
from havre.domain.errors import EnvironmentFault
from havre.environments.confinement import Enclosure, Stranger, log_warnings
from havre.environments.packs import unpack_pack
from havre.full_disk import DISK_FULL
from havre.supervisor.confined import Confined
from havre.supervisor.reach import interpreter_files
from havre.supervisor.spawn import SpawnFault

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STALL_LIMIT_S = 600.0
"""So long may it take to read what it was given, or to end after the last of it."""

_CHUNK = 1024 * 1024
_MAX_OUTCOME_BYTES = 4096  # bytes
_PIPE, _OUTCOME = "pack", "outcome.json"
_OPEN_TICK_S = 0.005

_OURS = Path(havre.__file__).parent.parent
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from havre.environments.unpacking import main
main(*sys.argv[2:])
"""


def unpacker_files() -> list[Path]:
    """What the process must read of ours."""
    return [*interpreter_files(Path(sys.executable)), _OURS, Path(zstd.__file__).parent]


def unpack_confined(
    file: BinaryIO,
    into: Path,
    *,
    size: int,
    enclosure: Enclosure,
    stranger: Stranger,
    log: Path,
    on_bytes: Callable[[int], None],
    held: Sequence[int],
) -> int:
    """Unpack an archive of ``size`` bytes into an empty folder; returns the number of entries.

    ``stranger`` must own the folder, and can read ``unpacker_files()``. ``on_bytes`` is called now
    and then with the bytes read so far. Raises EnvironmentFault naming the entry and what is wrong
    with it, or OSError (a full disk); the caller clears the folder.
    """
    with enclosure.scratch(stranger) as scratch:
        pipe = scratch / _PIPE
        os.mkfifo(pipe, 0o600)
        stranger.give(scratch)
        arguments = [str(_OURS), str(pipe), str(into), str(size), str(scratch / _OUTCOME)]
        try:
            with enclosure.run_foreign(
                [sys.executable, "-I", "-B", "-c", _PROGRAM, *arguments],
                stranger=stranger,
                log=log,
                folder=scratch,
                environment={"LC_ALL": "C.UTF-8"},
                scratch=scratch,
                readable=unpacker_files(),
                writable=[into],
                held=held,
            ) as running:
                log_warnings(running, log)
                _feed(file, pipe, running, on_bytes)
                code = running.wait(STALL_LIMIT_S)
        except SpawnFault as error:
            raise EnvironmentFault(f"what unpacks it cannot be run: {error}") from error
        return _entries(scratch, code, log)


def main(pipe: str, into: str, size: str, outcome: str) -> None:
    """The confined process: its arguments are made by ``unpack_confined``."""
    try:
        with open(pipe, "rb") as file:
            result = _unpack(file, Path(into), int(size))
        Path(outcome).write_text(json.dumps(result))
    except OSError as error:
        if error.errno in DISK_FULL:  # then a file might not hold its last word
            sys.exit(error.errno)
        raise


def _unpack(file: BinaryIO, into: Path, size: int) -> dict[str, Any]:
    try:
        return {"entries": unpack_pack(file, into, size=size)}
    except EnvironmentFault as fault:
        return {"fault": fault.message[: _MAX_OUTCOME_BYTES // 8]}


def _feed(file: BinaryIO, pipe: Path, running: Confined, on_bytes: Callable[[int], None]) -> None:
    """Give it the archive, until it wants no more. Raises EnvironmentFault, OSError."""
    descriptor = _opened(pipe, running)
    if descriptor is None:
        return
    done = 0
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    with open(descriptor, "wb", buffering=0), suppress(BrokenPipeError):
        while piece := file.read(_CHUNK):
            rest = memoryview(piece)
            while rest:
                if not poller.poll(STALL_LIMIT_S * 1000):
                    raise EnvironmentFault(f"unpacking stood still for {STALL_LIMIT_S:.0f} s")
                with suppress(BlockingIOError):
                    rest = rest[os.write(descriptor, rest) :]
            done += len(piece)
            on_bytes(done)


def _opened(pipe: Path, running: Confined) -> int | None:
    """The end to write to, once the process reads; None if it ends, or does not read in time."""
    deadline = time.monotonic() + STALL_LIMIT_S
    while running.wait(_OPEN_TICK_S) is None and time.monotonic() < deadline:
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # nobody reads yet
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            with suppress(OSError):  # a machine may grant its users less
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)
            return descriptor
        os.close(descriptor)
    return None


def _entries(scratch: Path, code: int | None, log: Path) -> int:
    """The result that it wrote in the end. Raises EnvironmentFault, OSError."""
    if code is None:
        raise EnvironmentFault(f"unpacking it did not end within {STALL_LIMIT_S:.0f} s")
    if code in DISK_FULL:
        raise OSError(code, os.strerror(code))
    try:
        result = foreign.read_json(scratch / _OUTCOME, below=scratch, max_bytes=_MAX_OUTCOME_BYTES)
    except (OSError, ValueError):
        result = {}
    match result:
        case {"entries": int(entries)}:
            return entries
        case {"fault": str(fault)}:
            raise EnvironmentFault(fault)
    raise EnvironmentFault(f"what unpacks it ended with code {code}; its words are in {log}")
