"""Stands between us and foreign code that runs once: it starts that confined, and ends all of it.

``python -I -S`` runs it. Its input's first line is what to start; when the input ends, because it
was closed or because whoever gave it has died, all that was started ends. Nothing outlives this
process: orphans become its children, and what is in the control group is killed. So descriptors
that it inherits, a lock among them, stay open for exactly as long as anything of it runs.

It reports a line of JSON each: ``["warning", sentence]``, then ``["started"]`` or ``["fault",
sentence]``, and last, when nothing runs any more, ``["ended", exit code]``.
"""

import json
import os
import select
import signal
import time
from pathlib import Path
from typing import Any

from havre.supervisor.cgroups import Cgroups, Limits, find_trees
from havre.supervisor.identity import Identity, boot_id, living_processes, send_signal
from havre.supervisor.protocol import ProcessSpec
from havre.supervisor.spawn import SpawnFault, ended_children, spawn
from havre.supervisor.system_calls import PR_SET_CHILD_SUBREAPER, prctl

INPUT, OUTPUT = 0, 1
REAP_S = 1.0
END_LIMIT_S = 20.0
"""What survives SIGKILL for this long waits for a device; it is left to the kernel."""

_TICK_S = 0.002


def main() -> None:
    request = json.loads(_first_line())
    spec = ProcessSpec.from_json(request["spec"])
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    cgroups = Cgroups(find_trees(is_root=os.geteuid() == 0), Path(request["groups"]))
    try:
        pid = _start(spec, cgroups, request["umask"])
    except (SpawnFault, OSError) as error:
        _report("fault", str(error))
    else:
        _report("started")
        code = _watch(pid)
        if code is None:
            code = _stop(pid, spec.stop_grace_s)
        _end_all(spec.name, cgroups)
        _report("ended", code)
    finally:
        cgroups.remove(spec.name)


def _start(spec: ProcessSpec, cgroups: Cgroups, umask: int) -> int:
    """The pid. Raises SpawnFault or OSError."""
    pids: list[int] = []

    def hold(pid: int) -> None:
        pids.append(pid)
        confined = spec.confinement
        if confined is not None:
            limits = Limits(confined.memory_bytes, confined.cpus, confined.processes)
            for sentence in cgroups.enter(spec.name, pid, limits):
                _report("warning", sentence)

    limits_processes = "pids" in cgroups.missing
    for sentence in spawn(
        spec, limits_processes=limits_processes, before_exec=hold, umask=umask, ends_with_us=True
    ):
        _report("warning", sentence)
    return pids[0]


def _watch(pid: int) -> int | None:
    """Its exit code, or None when it is to be stopped."""
    # Not by a descriptor of the process: not every kernel, or sandbox, has those.
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    poller.register(INPUT, select.POLLIN | select.POLLHUP)
    poller.register(reader, select.POLLIN)
    while True:
        for ended, code in ended_children():
            if ended == pid:
                return code
        ready = [descriptor for descriptor, _ in poller.poll(REAP_S * 1000)]
        if reader in ready:
            os.read(reader, 4096)
        if INPUT in ready and not os.read(INPUT, 4096):
            return None


def _stop(pid: int, grace_s: float) -> int:
    deadline = time.monotonic() + grace_s
    os.killpg(pid, signal.SIGTERM if grace_s else signal.SIGKILL)  # not reaped: still its number
    while True:
        for ended, code in ended_children():
            if ended == pid:
                return code
        if time.monotonic() >= deadline:
            os.killpg(pid, signal.SIGKILL)
            deadline = time.monotonic() + END_LIMIT_S
            grace_s = 0.0
        time.sleep(_TICK_S)


def _end_all(name: str, cgroups: Cgroups) -> None:
    """All that was started: what hides from us by its group or parent is in the control group."""
    cgroups.kill(name)
    deadline = time.monotonic() + END_LIMIT_S
    while _has_children() and time.monotonic() < deadline:
        for descendant in _descendants():
            try:
                send_signal(descendant, signal.SIGKILL)
            except PermissionError:
                continue
        for _ in ended_children():
            pass
        time.sleep(_TICK_S)


def _has_children() -> bool:
    """Without a child of ours, zombies included, there is no descendant either."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> list[Identity]:
    stats = {stat.pid: stat for stat in living_processes()}
    descendants = []
    for stat in stats.values():
        parent, steps = stat.parent, 0
        while parent in stats and parent != os.getpid() and steps < len(stats):
            parent, steps = stats[parent].parent, steps + 1
        if parent == os.getpid():
            descendants.append(Identity(stat.pid, stat.start_time, boot_id()))
    return descendants


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(INPUT, 65536)
        if not read:
            raise SystemExit(0)  # who asked has gone
        line += read
    return line


def _report(*words: Any) -> None:
    try:
        os.write(OUTPUT, json.dumps(words).encode() + b"\n")
    except BrokenPipeError:
        return  # nobody listens any more; what runs is ended all the same
