"""The real load balancer: routes go to Envoy through files, and Envoy says when they are live.

The files are the truth. Envoy may be restarted, and so may the control plane, at any moment: both
start from what the files say, and the clusters' file always has every endpoint that the routes'
file refers to. One thread publishes; what all callers ask for within 50 ms goes out together.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from havre.balancer.admin import Admin, Serving
from havre.balancer.clusters import clusters
from havre.balancer.files import Files
from havre.balancer.resources import DEFAULT_LIMITS, Limits, Resources
from havre.balancer.routing import route_table
from havre.balancer.table import Table
from havre.domain.errors import InvalidParameter, Unavailable
from havre.domain.route import Route
from havre.home import SOCKET_PATH_LIMIT, Home

COALESCE_S = 0.05
POLL_S = 0.01
RETRY_S = 1.0
"""Pause before what could not be confirmed is tried again, though nobody waits for it."""
MOVE_AGAIN_S = 2.0
"""A file may be moved into place just before a starting Envoy begins to watch it."""

_log = logging.getLogger(__name__)


class EnvoyBalancer:
    """Thread-safe. Use it between ``start`` and ``stop``; questions may be asked before.

    With ``keys`` (base64 of DER, by key id) predictions must be signed by one of them; what it
    returns is looked at every second. Raises Unavailable if what an earlier control plane published
    cannot be read.
    """

    def __init__(
        self,
        home: Home,
        *,
        limits: Limits = DEFAULT_LIMITS,
        keys: Callable[[], Mapping[str, str]] | None = None,
        deadline_s: float = 10.0,
    ) -> None:
        self._home = home
        self._files = Files(home)
        self._admin = Admin(home.admin_socket)
        self._limits = limits
        self._keys = keys
        self._published_keys: Mapping[str, str] | None = None
        self._deadline_s = deadline_s
        self._table = Table.from_json(self._files.read(self._files.table) or _NO_ROUTES)
        self._changes: dict[str, Route | None] = {}
        self._publishing: frozenset[str] = frozenset()
        self._retire: dict[str, frozenset[str]] = {}
        self._outcome: Future[None] = Future()
        self._asked = True
        self._unfinished = False
        self._stopping = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def start(self) -> None:
        """Publish from now on; first of all, what an earlier control plane left unfinished."""
        self._thread.start()

    def stop(self) -> None:
        """End the publisher; what it is doing is finished or comes to its deadline first."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join()

    def publish(self, route: Route) -> None:
        for endpoint in route.endpoints:
            if len(str(endpoint.socket).encode()) > SOCKET_PATH_LIMIT:
                raise InvalidParameter(
                    f"the socket path {endpoint.socket} is longer than {SOCKET_PATH_LIMIT} bytes"
                )
        self._change(route.deployment_id, route)

    def withdraw(self, deployment_id: str) -> None:
        self._change(deployment_id, None)

    def current(self, deployment_id: str) -> Route | None:
        with self._wake:
            return self._table.confirmed(deployment_id)

    def is_settled(self, deployment_id: str) -> bool:
        with self._wake:
            return deployment_id not in self._moving()

    def deployments(self) -> set[str]:
        with self._wake:
            return self._table.deployments()

    def active_requests(self, instance_id: str) -> int:
        with self._wake:
            needed = self._table.needed()
        sockets = {
            str(endpoint.socket)
            for route in needed
            for endpoint in route.endpoints
            if endpoint.instance_id == instance_id
        }
        if not sockets:
            return 0
        active = self._admin.active_requests()
        return sum(active.get(socket, 0) for socket in sockets)

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        with self._wake:
            if deployment_id not in self._table.retiring:
                return
            self._retire[deployment_id] = frozenset(alive)
            outcome = self._ask()
        self._wait(outcome)

    def _change(self, deployment_id: str, route: Route | None) -> None:
        with self._wake:
            if (
                deployment_id not in self._moving()
                and self._table.routes.get(deployment_id) == route
            ):
                return
            self._changes[deployment_id] = route
            outcome = self._ask()
        self._wait(outcome)

    def _moving(self) -> set[str]:
        return self._changes.keys() | self._publishing | self._table.unconfirmed.keys()

    def _ask(self) -> Future[None]:
        self._asked = True
        self._wake.notify_all()
        return self._outcome

    def _wait(self, outcome: Future[None]) -> None:
        # A publication before this one may take its whole deadline.
        try:
            outcome.result(timeout=2 * self._deadline_s + 1)
        except FutureTimeoutError as error:
            raise Unavailable(_UNCONFIRMED) from error

    # The publisher's thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._asked or self._stopping,
                    timeout=RETRY_S if self._unfinished or self._keys is not None else None,
                )
                if not (self._asked or self._stopping or self._unfinished or self._has_new_keys()):
                    continue
                self._wake.wait_for(lambda: self._stopping, timeout=COALESCE_S)
                if self._stopping:
                    self._outcome.set_exception(Unavailable("the control plane is stopping"))
                    return
                changes, self._changes = self._changes, {}
                self._publishing = frozenset(changes)
                retire, self._retire = self._retire, {}
                outcome, self._outcome = self._outcome, Future()
                self._asked = False
            try:
                self._publish(changes, retire)
            except Exception as error:
                self._unfinished = True
                _log.warning("publishing routes failed: %s", error, exc_info=_is_bug(error))
                outcome.set_exception(
                    error if isinstance(error, Unavailable) else Unavailable(str(error))
                )
            else:
                self._unfinished = False
                outcome.set_result(None)
            with self._wake:
                self._publishing = frozenset()

    def _publish(self, changes: dict[str, Route | None], retire: dict[str, frozenset[str]]) -> None:
        """New endpoints, then routes, then away with the old: each confirmed before the next.

        Until the routes' file is replaced a failure leaves everything as it was. From then on the
        files say the new, and Envoy will come to serve it.
        """
        deadline = time.monotonic() + self._deadline_s
        wanted = self._table.change(changes)
        self._publish_clusters(wanted, deadline)
        self._write_table(wanted)
        keys = self._keys() if self._keys is not None else None
        routes = route_table(wanted.routes, self._limits, keys)
        self._publish_file(self._files.routes, routes, deadline)
        self._published_keys = keys
        # Not what this very publication replaced: nobody has seen that drain.
        seen = {key: alive for key, alive in retire.items() if key not in changes}
        finished = wanted.confirm().retire(seen, now=time.time())
        self._write_table(finished)
        if finished.retiring != wanted.retiring:
            self._publish_clusters(finished, deadline)

    def _has_new_keys(self) -> bool:
        return self._keys is not None and self._keys() != self._published_keys

    def _publish_clusters(self, table: Table, deadline: float) -> None:
        needed = clusters(
            table.needed(),
            api_socket=self._home.api_socket,
            stand_ins=table.standing_in(time.time()),
        )
        self._publish_file(self._files.clusters, needed, deadline)

    def _write_table(self, table: Table) -> None:
        if table != self._table:
            self._files.write(self._files.table, table.to_json())
            with self._wake:
                self._table = table

    def _publish_file(self, path: Path, content: Resources, deadline: float) -> None:
        """Move the content into place and wait until Envoy serves it, its clusters warm."""
        before = self._serving()
        if self._files.version(path) != content.version:
            self._files.publish(path, content)
        moved = time.monotonic()
        while not self._is_live(path, content.version, before):
            now = time.monotonic()
            if now > deadline:
                raise Unavailable(_UNCONFIRMED)
            if now > moved + MOVE_AGAIN_S:
                self._files.publish(path, content)
                moved = now
            time.sleep(POLL_S)

    def _is_live(self, path: Path, version: str, before: Serving | None) -> bool:
        serving = self._serving()
        if serving is None:
            return False
        if before is not None and serving.refused > before.refused:
            raise Unavailable(f"the load balancer refused {path.name}; its log says why")
        live = serving.clusters if path == self._files.clusters else serving.routes
        return live == version and serving.warming == 0

    def _serving(self) -> Serving | None:
        try:
            return self._admin.serving()
        except Unavailable:
            return None


_NO_ROUTES = Table().to_json()
_UNCONFIRMED = "the load balancer did not confirm the change in time; publish again"


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, Unavailable | OSError)
