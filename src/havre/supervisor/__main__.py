"""``python -m havre.supervisor``: the program behind `havre up`.

With ``--end`` it takes over what an earlier supervisor left behind only to stop it, in order.
"""

import argparse
import contextlib
import fcntl
import os
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from havre.domain.errors import HavreError, IncorrectState, SystemFault
from havre.home import Home
from havre.release import current
from havre.supervisor import port, server_file
from havre.supervisor.identity import identify
from havre.supervisor.protocol import BALANCER
from havre.supervisor.supervisor import Supervisor
from havre.supervisor.system_calls import PR_SET_CHILD_SUBREAPER, prctl

DESCRIPTOR_LIMIT = 65536
WILDCARD = "0.0.0.0"


def main() -> int:
    options = _parse_options()
    home = Home(Path(options.home).absolute())
    try:
        home.make()
        _check_private(home)
        with _lock(home):
            return _supervise(home, options)
    except HavreError as error:
        print(f"havre: {error}", file=sys.stderr, flush=True)
    except OSError as error:
        print(f"havre: the supervisor cannot run: {error}", file=sys.stderr, flush=True)
    return 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m havre.supervisor", description=__doc__)
    parser.add_argument("--home", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--end", action="store_true", help="stop what was left behind, and exit")
    parser.add_argument("--foreground", action="store_true", help="log to standard error, too")
    return parser.parse_args()


def _supervise(home: Home, options: argparse.Namespace) -> int:
    _set_child_subreaper()
    _raise_descriptor_limit()
    os.chdir(home.root)
    supervisor = Supervisor(home, log=_Log(home, is_aloud=options.foreground))
    supervisor.adopt()
    if options.end:
        supervisor.begin_shutdown()
        return supervisor.run()
    serves = supervisor.is_running(BALANCER)
    earlier = server_file.read_if_whole(home)
    if serves and earlier is None:
        raise SystemFault(
            f"{home.server_file} is missing or damaged, and the load balancer of this home serves "
            "where it said: stop it with `havre down`, then start with `havre up`"
        )
    with _take_port(earlier if serves else None, options) as reservation:
        number = reservation.getsockname()[1]
        about = _describe(options, number)
        server_file.write(home, about)
        # With another port than before, the load balancer needs new files first.
        if earlier is None or (earlier["host"], earlier["port"]) == (options.host, number):
            supervisor.restart_dead()
        supervisor.listen(about)
        return supervisor.run()


def _check_private(home: Home) -> None:
    """The run folder may lie in a folder that others write to: it must be ours alone."""
    stat = home.run.lstat()
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o077:
        raise SystemFault(
            f"{home.run} is open to other users; remove it, or make it yours with mode 0700"
        )


@contextmanager
def _lock(home: Home) -> Iterator[None]:
    """One supervisor per home. The lock goes with the process, however it ends."""
    with open(home.root / "supervisor.lock", "a", opener=_open_private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IncorrectState(f"a supervisor of {home.root} runs already") from error
        yield


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _take_port(serving: dict[str, Any] | None, options: argparse.Namespace) -> socket.socket:
    """``serving`` describes the server whose load balancer was adopted alive."""
    if serving is None:
        return port.reserve(options.host, options.port)
    if options.host != serving["host"] or options.port not in (0, serving["port"]):
        raise IncorrectState(
            f"the load balancer of this home still serves {serving['url']}; "
            "stop it with `havre down` before moving to another address"
        )
    return port.join(serving["host"], serving["port"])


def _describe(options: argparse.Namespace, number: int) -> dict[str, Any]:
    myself = identify(os.getpid())
    assert myself is not None
    host, release = options.host, current()
    reachable = "127.0.0.1" if host == WILDCARD else host
    return {
        "host": host,
        "port": number,
        "url": f"http://{reachable}:{number}",
        "version": release.version,
        "code": release.code,
        "foreground": options.foreground,
        "supervisor": asdict(myself),
    }


def _set_child_subreaper() -> None:
    """Processes whose parent died become our children, not those of the machine's first one."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def _raise_descriptor_limit() -> None:
    """For ourselves and, inherited, for the load balancer: it needs two per connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = DESCRIPTOR_LIMIT if hard == resource.RLIM_INFINITY else min(DESCRIPTOR_LIMIT, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _Log:
    """The supervisor's own log: a sentence a line. A full disk or a closed terminal costs lines."""

    def __init__(self, home: Home, *, is_aloud: bool) -> None:
        self._path = home.logs / "supervisor.log"
        self._is_aloud = is_aloud

    def __call__(self, sentence: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError), open(self._path, "a", opener=_open_private) as file:
            file.write(f"{stamp} {sentence}\n")
        if self._is_aloud:
            with contextlib.suppress(OSError):
                print(f"havre: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
