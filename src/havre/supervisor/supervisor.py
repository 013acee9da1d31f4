"""The supervisor's loop: one thread that owns every process of a home and answers its clients."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from havre.home import Home
from havre.supervisor import orphans, records
from havre.supervisor.cgroups import Cgroups, find_trees
from havre.supervisor.clients import Clients
from havre.supervisor.connection import Connection
from havre.supervisor.identity import living_processes
from havre.supervisor.limits import OwnLimits
from havre.supervisor.protocol import STOP_ORDER, Phase, ProcessSpec, Restart
from havre.supervisor.reachability import Reachability
from havre.supervisor.spawn import SpawnFault, check, ended_children
from havre.supervisor.supervised_process import SupervisedProcess

STOP_TICK_S = 0.02
GROUP_TICK_S = 1.0


class RequestRefused(Exception):
    """The text is the answer's ``error``."""


class Supervisor:
    """``log`` takes sentences for the log."""

    def __init__(self, home: Home, *, log: Callable[[str], None]) -> None:
        self.exit_code = 0
        self._home = home
        self._about: Mapping[str, Any] = {}
        self._log = log
        self._limits = OwnLimits(log)
        self._cgroups = Cgroups(find_trees(is_root=os.geteuid() == 0), home.root)
        self._processes: dict[str, SupervisedProcess] = {}
        self._stop_waiters: dict[str, list[Connection]] = {}
        self._shutdown_waiters: list[Connection] | None = None
        self._selector = selectors.DefaultSelector()
        self._clients = Clients(self._selector)
        self._reachability = Reachability(home, self._clients, log)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._successor: tuple[list[str], dict[str, str]] | None = None

    def adopt(self) -> None:
        """Take over what the records name, in whatever state it is, and end what they lost."""
        now = time.monotonic()
        recorded, problems = records.load_all(self._home.processes)
        for problem in problems:
            self._log(problem)
        for record in recorded:
            process = self._new_process(record.spec)
            process.adopt(record, now)
            self._processes[process.name] = process
            self._log(f"{process.name}: adopted, {process.phase} (pid {record.identity.pid})")
            if process.pidfd is not None:
                self._selector.register(process.pidfd, selectors.EVENT_READ, process)
        orphans.clear(self._home, self._processes, self._log)
        for name in self._cgroups.clean(self._processes):
            self._log(f"{name}: ended what no record names")

    def restart_dead(self) -> None:
        """Restart those that must always run and were found dead."""
        for process in self._processes.values():
            if process.phase is Phase.EXITED and process.spec.restart is Restart.ALWAYS:
                process.died(process.exit_code, time.monotonic())

    def is_running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.phase is Phase.RUNNING

    def listen(self, about: Mapping[str, Any]) -> None:
        """Open the control socket; ``about`` is what `ping` returns. Raises OSError."""
        self._about = about
        self._reachability.listen(about)

    def run(self) -> int:
        """Until everything is shut down. Returns the exit code."""
        self._catch_signals()
        while not self._is_over():
            for key, _ in self._selector.select(self._pause()):
                self._handle(key)
            self._tick()
            if self._successor is not None:
                self._hand_over(*self._successor)
        self._end()
        return self.exit_code

    def begin_shutdown(self) -> None:
        """Stop everything in order; asked again, without grace."""
        if self._shutdown_waiters is None:
            self._shutdown_waiters = []
            self._log("shutting down")
        else:
            for process in self._processes.values():
                process.begin_stop(0.0, time.monotonic())

    # What happens.

    def _catch_signals(self) -> None:
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the wake-up descriptor has which it was
        # A child may have ended before the handler stood.
        self._reap()

    def _handle(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._wake_reader:
            self._handle_signals()
        elif isinstance(key.data, Clients):
            key.data.accept()
        elif isinstance(key.data, SupervisedProcess):
            self._reap()  # with its exit code, if it is a child of ours
            if key.data.pidfd is not None:
                self._on_death(key.data, None)
        elif isinstance(key.data, Connection):
            self._serve(key.data)

    def _handle_signals(self) -> None:
        numbers = set(self._wake_reader.recv(4096))
        if numbers & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self.begin_shutdown()
        self._reap()

    def _reap(self) -> None:
        """Bury the children that ended, and orphans that fell to us because we are a subreaper."""
        # Those that an earlier program in our place started are our children, and adopted too.
        by_pid = {
            process.identity.pid: process
            for process in sorted(self._processes.values(), key=lambda process: not process.adopted)
            if process.phase is Phase.RUNNING
        }
        for pid, exit_code in ended_children():
            if process := by_pid.get(pid):
                self._on_death(process, exit_code)
        for process in self._processes.values():
            if process.phase is Phase.EXITED and process.group_has_emptied():
                self._announce(process)

    def _on_death(self, process: SupervisedProcess, exit_code: int | None) -> None:
        if process.pidfd is not None:
            self._selector.unregister(process.pidfd)
        process.died(exit_code, time.monotonic())
        self._announce(process)

    def _tick(self) -> None:
        now = time.monotonic()
        if self._shutdown_waiters is not None:
            self._advance_shutdown(now)
        else:
            self._reachability.look(self._processes.values(), now)
        for process in list(self._processes.values()):
            if process.has_ended_unnoticed():
                self._on_death(process, None)
            if process.is_stopping:
                self._advance_stop(process, now)
            elif process.retry_at is not None and process.retry_at <= now:
                self._limits.restore()
                self._retry(process, now)
                self._announce(process)
            elif process.phase is Phase.EXITED and process.adopted and process.group_has_emptied():
                self._announce(process)

    def _retry(self, process: SupervisedProcess, now: float) -> None:
        try:
            self._reachability.starting(process)
        except OSError as error:
            self._log(f"{process.name}: what its sockets left is in the way: {error}")
        process.retry(now)

    def _advance_stop(self, process: SupervisedProcess, now: float) -> None:
        try:
            if not process.has_stopped(now):
                return
        except TimeoutError as error:
            process.kill_at = None
            self._respond_to_stop(process.name, {"ok": False, "error": str(error)})
            self._log(str(error))
            self._send_progress(str(error))
            return
        process.forget()
        del self._processes[process.name]
        try:
            self._reachability.stopped(process)
        except OSError as error:
            self._log(f"{process.name}: its sockets' names are left behind: {error}")
        self._log(f"{process.name}: stopped")
        self._announce(process)
        self._respond_to_stop(process.name, {"ok": True})
        self._send_progress(f"{process.name} stopped")

    def _respond_to_stop(self, name: str, response: Mapping[str, Any]) -> None:
        for connection in self._stop_waiters.pop(name, ()):
            self._clients.send(connection, response)

    def _send_progress(self, sentence: str) -> None:
        for connection in self._shutdown_waiters or ():
            self._clients.send(connection, {"progress": sentence})

    def _advance_shutdown(self, now: float) -> None:
        """Begin to stop the next in the order, once those before it are gone."""
        for name in STOP_ORDER:
            if process := self._processes.get(name):
                if not process.is_stopping:
                    process.begin_stop(process.spec.stop_grace_s, now)
                return
        for process in self._processes.values():
            if not process.is_stopping:
                process.begin_stop(process.spec.stop_grace_s, now)

    def _hand_over(self, argv: list[str], environment: dict[str, str]) -> None:
        """Go on as another program in our place, which adopts what the records name.

        Only a failure returns. The lock and the port it takes again; meanwhile the load balancer
        keeps the port from others.
        """
        self._successor = None
        self._log(f"going on as {' '.join(argv)}")
        signal.set_wakeup_fd(-1)
        try:
            os.execve(argv[0], argv, environment)
        except (OSError, ValueError) as error:  # no such program; no such strings
            self._log(f"cannot go on as {argv[0]}: {error}")
            signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)

    def _is_over(self) -> bool:
        return self._shutdown_waiters is not None and not self._processes

    def _pause(self) -> float:
        """Seconds until something must be looked at without anybody asking."""
        if self._shutdown_waiters is not None or any(
            process.is_stopping for process in self._processes.values()
        ):
            return STOP_TICK_S
        now = time.monotonic()
        pauses = [self._reachability.look_in(now)]
        pauses += [
            max(0.0, process.retry_at - now)
            for process in self._processes.values()
            if process.retry_at is not None
        ]
        if any(
            process.group_may_empty or process.ends_unnoticed
            for process in self._processes.values()
        ):
            pauses.append(GROUP_TICK_S)
        return min(pauses)

    def _end(self) -> None:
        """Kill what escaped its group, answer those who waited, leave no socket."""
        for stat in living_processes():
            if stat.parent == os.getpid():
                os.kill(stat.pid, signal.SIGKILL)  # our child: nobody else can have its number
        self._reachability.close()
        for connection in self._shutdown_waiters or ():
            self._clients.send_last(connection, {"ok": True})
        signal.set_wakeup_fd(-1)
        self._clients.close()

    # Clients.

    def _serve(self, connection: Connection) -> None:
        for request in self._clients.receive(connection):
            try:
                response = self._dispatch(connection, request)
            except (RequestRefused, SpawnFault, OSError) as error:
                response = {"ok": False, "error": str(error)}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                response = {"ok": False, "error": f"the request cannot be understood: {error!r}"}
            if response is not None:
                self._clients.send(connection, response)

    def _dispatch(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None when it comes later."""
        op = request.get("op")
        if op == "ping":
            is_shutting_down = self._shutdown_waiters is not None
            return {"ok": True, "about": {**self._about, "shutting_down": is_shutting_down}}
        if op == "start":
            return self._start(ProcessSpec.from_json(request["spec"]))
        if op == "renew":
            return self._renew(ProcessSpec.from_json(request["spec"]))
        if op == "stop":
            return self._stop(connection, request["name"], request.get("grace_s"))
        if op == "inspect":
            process = self._processes.get(request["name"])
            return {"ok": True, "status": process.status().to_json() if process else None}
        if op == "list":
            statuses = [process.status().to_json() for process in self._processes.values()]
            return {"ok": True, "statuses": statuses}
        if op == "watch":
            connection.is_watching = True
            for process in self._processes.values():
                self._clients.send(connection, {"event": process.status().to_json()})
            return None
        if op == "become":
            return self._re_exec(request["argv"], request["environment"])
        if op == "shutdown":
            self.exit_code = int(request.get("exit_code", 0))
            self.begin_shutdown()
            assert self._shutdown_waiters is not None
            self._shutdown_waiters.append(connection)
            return None
        raise RequestRefused(f"the supervisor does not know the operation {op!r}")

    def _start(self, spec: ProcessSpec) -> dict[str, Any]:
        check(spec, self._home.run)
        if self._shutdown_waiters is not None:
            raise RequestRefused("the server is shutting down")
        known = self._processes.get(spec.name)
        if known is not None:
            if known.is_stopping:
                raise RequestRefused(f"{spec.name} is being stopped")
            if known.phase is Phase.RUNNING:
                if known.spec.digest != spec.digest:
                    raise RequestRefused(
                        f"{spec.name} runs already, from another specification; stop it first"
                    )
                return {"ok": True, "status": known.status().to_json()}
            if known.members():
                raise RequestRefused(f"processes of the last {spec.name} still run; stop it first")
        process = self._new_process(spec)
        self._limits.restore()
        try:
            self._reachability.starting(process)
            process.start(time.monotonic())
        except (SpawnFault, OSError):
            self._processes.pop(spec.name, None)
            records.forget(self._home.processes, spec.name)
            raise
        self._processes[spec.name] = process
        self._log(f"{spec.name}: started (pid {process.identity.pid})")
        self._announce(process)
        return {"ok": True, "status": process.status().to_json()}

    def _renew(self, spec: ProcessSpec) -> dict[str, Any]:
        process = self._processes.get(spec.name)
        if process is None or process.is_stopping:
            raise RequestRefused(f"{spec.name} does not run")
        if process.spec.digest != spec.digest:
            process.renew(spec)
            self._log(f"{spec.name}: another specification holds from its next start on")
            self._announce(process)
        return {"ok": True, "status": process.status().to_json()}

    def _re_exec(self, argv: list[str], environment: dict[str, str]) -> dict[str, Any]:
        if self._shutdown_waiters is not None:
            raise RequestRefused("the server is shutting down")
        if not argv or not os.access(argv[0], os.X_OK):
            raise RequestRefused(f"{argv[:1]} is not a program to go on as")
        self._successor = list(map(str, argv)), {str(k): str(v) for k, v in environment.items()}
        return {"ok": True}

    def _stop(
        self, connection: Connection, name: str, grace_s: float | None
    ) -> dict[str, Any] | None:
        process = self._processes.get(name)
        if process is None:
            return {"ok": True}
        grace_s = process.spec.stop_grace_s if grace_s is None else float(grace_s)
        self._stop_waiters.setdefault(name, []).append(connection)
        process.begin_stop(grace_s, time.monotonic())
        return None

    def _announce(self, process: SupervisedProcess) -> None:
        self._clients.send_to_watchers({"event": process.status().to_json()})

    def _new_process(self, spec: ProcessSpec) -> SupervisedProcess:
        return SupervisedProcess(spec, self._home.processes, self._cgroups, self._log)
