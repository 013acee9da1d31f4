"""What a home is reached by stays in its place: its sockets' names, and the file with its address.

Files of a run folder are lost without anybody's ill will: a cleaner of temporary files, a command
that was meant for another folder. Without them a server that works could not be used or stopped.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from havre.domain.errors import SystemFault
from havre.home import Home
from havre.supervisor import server_file
from havre.supervisor.clients import Clients
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, Phase
from havre.supervisor.sockets import Sockets
from havre.supervisor.supervised_process import SupervisedProcess

LOOK_S = 2.0
LISTENS_WITHIN_S = 60.0
"""A process that was adopted without the socket that it binds itself may be at its beginning."""


class Reachability:
    """Of one home, for as long as its supervisor lives. Times are monotonic seconds.

    ``log`` takes sentences for the log.
    """

    def __init__(self, home: Home, clients: Clients, log: Callable[[str], None]) -> None:
        self._home = home
        self._clients = clients
        self._log = log
        self._about: Mapping[str, Any] = {}
        self._sockets = Sockets(home.run, home.instance_sockets)
        self._own = {CONTROL_PLANE: home.api_socket, BALANCER: home.balancer_socket}
        self._next_look = math.inf
        self._reported = ""

    def listen(self, about: Mapping[str, Any]) -> None:
        """Open the control socket, and keep everything in its place from now on. Raises OSError."""
        self._about = about
        self._sockets.expect([self._home.supervisor_socket])
        self._clients.listen(self._home.supervisor_socket)
        self._next_look = 0.0

    def starting(self, process: SupervisedProcess) -> None:
        """It is about to bind its sockets, or to get them bound. Raises OSError."""
        self._sockets.expect(path for path, _ in self._sockets_of(process))

    def stopped(self, process: SupervisedProcess) -> None:
        """Nothing of it runs: nobody is reached by its sockets. Raises OSError."""
        self._sockets.expect(path for path, _ in self._sockets_of(process))

    def look_in(self, now: float) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next_look - now)

    def look(self, processes: Iterable[SupervisedProcess], now: float) -> None:
        """If it is time to: put back what is missing, and end what cannot be reached any more."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        try:
            self._look([process for process in processes if _is_to_be_reached(process)], now)
        except (OSError, SystemFault) as error:
            if str(error) != self._reported:
                self._log(f"what the home is reached by is not looked after: {error}")
            self._reported = str(error)
        else:
            self._reported = ""

    def close(self) -> None:
        """Leave no name. Raises OSError."""
        self._next_look = math.inf
        self._home.server_file.unlink(missing_ok=True)
        self._home.supervisor_socket.unlink(missing_ok=True)
        self._sockets.close()

    def _look(self, processes: Iterable[SupervisedProcess], now: float) -> None:
        owners = {
            path: (process, is_bound or _should_listen(process, now))
            for process in processes
            for path, is_bound in self._sockets_of(process)
        }
        required = {path: is_due for path, (_, is_due) in owners.items()}
        back, lost = self._sockets.restore({**required, self._home.supervisor_socket: True})
        for path in back:
            self._log(f"{path}: the socket had lost its name, and has it back")
        for path in lost:
            self._sockets.expect([path])
            if path == self._home.supervisor_socket:
                self._log(f"{path}: the socket was lost; there is another one")
                self._clients.listen(path)
        unreachable = {owners[path][0].name: owners[path][0] for path in lost if path in owners}
        for process in unreachable.values():
            self._log(f"{process.name}: killed, its socket was lost and nobody can reach it")
            process.kill()
        if server_file.read_if_whole(self._home) != self._about:
            self._log(f"{self._home.server_file}: written again")
            server_file.write(self._home, self._about)

    def _sockets_of(self, process: SupervisedProcess) -> list[tuple[Path, bool]]:
        """Each with whether it is bound before the process begins."""
        sockets = [(Path(path), True) for path in process.spec.listen]
        if process.name in self._own:
            sockets.append((self._own[process.name], False))
        return sockets


def _is_to_be_reached(process: SupervisedProcess) -> bool:
    return process.phase is Phase.RUNNING and not process.is_stopping


def _should_listen(process: SupervisedProcess, now: float) -> bool:
    return process.adopted and now > process.started_at + LISTENS_WITHIN_S
