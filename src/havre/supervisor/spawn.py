"""Starts one process: its own session, exactly the descriptors it was promised, nothing inherited.

The child waits after the fork until its record is on disk. Were the supervisor killed in between,
the child would read the end of the pipe and go: no process exists that no record names.

A fork is safe here, and only here: the supervisor has a single thread.

Until its program runs, the child reports on a pipe, a line of JSON each: ``["warning", sentence]``,
and last, if it fails, ``["fault", step, cause]``.
"""

import fcntl
import json
import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from typing import NoReturn

from havre.supervisor.confinement import confine, prepare
from havre.supervisor.protocol import ProcessSpec
from havre.supervisor.system_calls import PR_SET_PARENT_DEATH_SIGNAL, prctl

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
BACKLOG = 1024
FIRST_LISTENER = 3
PRIVATE = 0o077


class SpawnFault(Exception):
    """The process could not be started; the text names the step and the cause."""


def check(spec: ProcessSpec, run: Path) -> None:
    """Whether it may be started at all; its sockets belong into the folder ``run``.

    Raises SpawnFault.
    """
    if not NAME.fullmatch(spec.name):
        raise SpawnFault(f"{spec.name!r} cannot name a process")
    if not spec.argv:
        raise SpawnFault(f"{spec.name} has no program to run")
    for path in spec.listen:
        # We unlink what is in the way of a socket: only where nobody else keeps any.
        if not Path(os.path.normpath(path)).is_relative_to(run):
            raise SpawnFault(f"{path} is outside of the run folder {run}")


def spawn(
    spec: ProcessSpec,
    *,
    limits_processes: bool,
    before_exec: Callable[[int], None],
    umask: int = PRIVATE,
    ends_with_us: bool = False,
) -> list[str]:
    """Start the process; returns once its program was executed, with what it was warned of.

    ``before_exec`` is called with the pid while the child waits; if it raises, the child ends.
    ``limits_processes``: that the confinement must bound their number by itself. ``ends_with_us``:
    that the kernel ends the process when we die. Raises SpawnFault or OSError; nothing runs then.
    """
    if spec.confinement is not None:
        prepare(spec.confinement)
    with ExitStack() as kept:
        log = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY, 0o600)
        kept.callback(os.close, log)
        bound = kept.enter_context(ExitStack())  # what it holds is undone unless all goes well
        listeners = []
        for path in spec.listen:
            listeners.append(kept.enter_context(_listen(Path(path))))
            bound.callback(remove_socket, Path(path))
        go_reader, go_writer = _pipe(kept)
        fault_reader, fault_writer = _pipe(kept)
        # Blocked until the child has its own handlers: a signal to it must not wake our loop.
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                go_writer.close()
                descriptors = [sock.fileno() for sock in listeners]
                go, fault = go_reader.fileno(), fault_writer.fileno()
                _child_main(
                    spec, log, descriptors, go, fault, limits_processes, umask, ends_with_us
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        fault_writer.close()
        warnings = _release(spec, pid, go_writer, fault_reader, before_exec)
        bound.pop_all()
        return warnings


def ended_children() -> Iterator[tuple[int, int]]:
    """Pid and exit code of each child that has ended and was not reported yet, orphans included."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def remove_socket(path: Path) -> None:
    """Remove a Unix socket; whatever else has this name stays. Raises OSError."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


def _release(
    spec: ProcessSpec,
    pid: int,
    go_writer: FileIO,
    fault_reader: FileIO,
    before_exec: Callable[[int], None],
) -> list[str]:
    try:
        before_exec(pid)
        go_writer.write(b"g")
    except BaseException:
        go_writer.close()
        os.waitpid(pid, 0)
        raise
    go_writer.close()
    reports = [json.loads(line) for line in fault_reader.readall().splitlines()]
    for kind, *words in reports:
        if kind == "fault":
            os.waitpid(pid, 0)
            raise SpawnFault(f"{spec.name} did not start: {': '.join(words)}")
    return [sentence for _, sentence in reports]


def _pipe(kept: ExitStack) -> tuple[FileIO, FileIO]:
    """Its ends for reading and for writing, which are closed with ``kept`` if not before."""
    reader, writer = os.pipe()
    return kept.enter_context(FileIO(reader, "r")), kept.enter_context(FileIO(writer, "w"))


def _listen(path: Path) -> socket.socket:
    """A listening Unix socket, 0600. One left by an earlier life gives way; no other file does."""
    remove_socket(path)
    if path.exists():
        raise SpawnFault(f"{path} is in the way: it is not a socket")
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SpawnFault(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(mask)
    return listener


def _child_main(
    spec: ProcessSpec,
    log: int,
    listeners: list[int],
    go_reader: int,
    fault_writer: int,
    limits_processes: bool,
    umask: int,
    ends_with_us: bool,
) -> NoReturn:
    """The child's side. Ends in the program, or in an exit: it never returns."""
    step = "preparing"
    try:
        _forget_signals()
        os.setsid()
        if os.read(go_reader, 1) != b"g":
            os._exit(0)
        os.umask(umask)
        step = f"entering {spec.folder}"
        os.chdir(spec.folder)
        if spec.confinement is not None:
            step = "confining it"
            confine(
                spec.confinement,
                limits_processes=limits_processes,
                warn=lambda sentence: _report(fault_writer, "warning", sentence),
            )
            os.chdir(spec.folder)  # by the way that it has now
        if ends_with_us:  # asked last: a change of the user takes it back
            prctl(PR_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if spec.batch_scheduling:
            _use_batch_scheduling()
        step = "arranging its descriptors"
        null = os.open(os.devnull, os.O_RDONLY)
        _arrange_descriptors([null, log, log, *listeners, fault_writer])
        fault_writer = FIRST_LISTENER + len(listeners)
        step = f"executing {spec.argv[0]}"
        os.execve(spec.argv[0], spec.argv, dict(spec.environment))
    except BaseException as error:
        _report(fault_writer, "fault", step, str(error))
    finally:
        os._exit(127)


def _report(fault_writer: int, *words: str) -> None:
    os.write(fault_writer, json.dumps(words).encode() + b"\n")


def _use_batch_scheduling() -> None:
    """For this process and all that it starts."""
    # Where a sandbox forbids it, it competes as all others do: no reason not to start.
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:
            continue  # two real-time signals belong to the C library
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _arrange_descriptors(descriptors: list[int]) -> None:
    """From 0 on, in this order; the last one, the fault pipe, is not for the program."""
    # First out of the way of every target number, then into place.
    moved = [_duplicate_beyond(descriptor, len(descriptors)) for descriptor in descriptors]
    for target, descriptor in enumerate(moved):
        os.dup2(descriptor, target, inheritable=target < len(descriptors) - 1)
    os.closerange(len(descriptors), os.sysconf("SC_OPEN_MAX"))


def _duplicate_beyond(descriptor: int, lowest: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
