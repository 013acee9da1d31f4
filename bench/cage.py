"""Run a server so that nothing of it gets away: ``python -m bench.cage FOLDER COMMAND...``

Whatever the server starts, daemons too, stays below this process (a subreaper), so that all of it
is counted, and ended. SIGTERM, also when the benchmark itself ends, is passed on; what lives
GRACE_S later is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

from bench.processes import tree

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 15.0
POLL_S = 0.05


def main() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_CHILD_SUBREAPER, 1), (PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    folder, *command = sys.argv[1:]
    server = subprocess.Popen(command, cwd=folder, preexec_fn=_unblock, start_new_session=True)
    code = None
    while code is None:
        got = signal.sigwait(signals)
        if got is not signal.SIGCHLD:
            server.terminate()
            code = 0
        else:
            code = _reaped().get(server.pid)
    _end_all(server.pid)
    return code


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _reaped() -> dict[int, int]:
    """Exit codes of the children that have ended."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _end_all(server: int) -> None:
    """Once the server has ended, ask the rest to; kill what takes too long."""
    began = time.monotonic()
    while living := tree(os.getpid()):
        if time.monotonic() - began > GRACE_S:
            _signal(living, signal.SIGKILL)
        elif server not in living:
            _signal(living, signal.SIGTERM)
        time.sleep(POLL_S)
        _reaped()


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, which)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main())
