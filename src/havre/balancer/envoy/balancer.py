"""The real load balancer: routes go to Envoy through files, and Envoy reports when they are live.

The files are the truth. Envoy may be restarted, and so may the control plane, at any moment: both
start from what the files hold, and the clusters' file always has every endpoint that the routes'
file refers to. One thread publishes; what all callers request within 50 ms is published together.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from havre.balancer.base import DEFAULT_TIMEOUTS, OpenTo, Timeouts
from havre.balancer.envoy.admin import Admin, Serving
from havre.balancer.envoy.clusters import clusters
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.resources import Resources
from havre.balancer.envoy.routing import route_configuration
from havre.balancer.envoy.table import RoutingTable, read_table
from havre.domain.address import UnixAddress
from havre.domain.errors import InvalidParameter, Unavailable
from havre.domain.route import Route
from havre.home import SOCKET_PATH_LIMIT, Home

COALESCE_S = 0.05
POLL_S = 0.01
RETRY_S = 1.0
"""Pause before what could not be confirmed is tried again, though no caller waits for it."""
MOVE_AGAIN_S = 2.0
"""A file may be moved into place just before a starting Envoy begins to watch it."""

_log = logging.getLogger(__name__)


class EnvoyBalancer:
    """Thread-safe. Use it between ``start`` and ``stop``; it may be read before.

    With ``keys`` (base64 of DER, by key id) predictions must be signed by one of them; what it
    returns is checked every second. Without, requests must come from those that the server is
    ``open_to``. Raises Unavailable if what an earlier control plane published cannot be read.
    """

    def __init__(
        self,
        home: Home,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        keys: Callable[[], Mapping[str, str]] | None = None,
        open_to: OpenTo = OpenTo(),
        deadline_s: float = 10.0,
    ) -> None:
        self._home = home
        self._files = Files(home)
        self._admin = Admin(home.balancer_socket)
        self._timeouts = timeouts
        self._keys = keys
        self._open_to = open_to
        self._published_keys: Mapping[str, str] | None = None
        self._deadline_s = deadline_s
        self._table = read_table(self._files)
        self._changes: dict[str, Route | None] = {}
        self._publishing: frozenset[str] = frozenset()
        self._retire: dict[str, frozenset[str]] = {}
        self._outcome: Future[None] = Future()
        self._is_requested = True
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
            address = endpoint.address
            if isinstance(address, UnixAddress) and (
                len(os.fsencode(address.path)) > SOCKET_PATH_LIMIT
            ):
                raise InvalidParameter(
                    f"the socket path {address.path} is longer than {SOCKET_PATH_LIMIT} bytes"
                )
        self._change(route.deployment_id, route)

    def withdraw(self, deployment_id: str) -> None:
        self._change(deployment_id, None)

    def current(self, deployment_id: str) -> Route | None:
        with self._wake:
            return self._table.confirmed(deployment_id)

    def is_settled(self, deployment_id: str) -> bool:
        with self._wake:
            return deployment_id not in self._unsettled()

    def deployments(self) -> set[str]:
        with self._wake:
            return self._table.deployments()

    def active_requests(self, instance_ids: Collection[str]) -> dict[str, int]:
        with self._wake:
            needed = self._table.needed()
        addresses = {
            (endpoint.instance_id, endpoint.address)
            for route in needed
            for endpoint in route.endpoints
            if endpoint.instance_id in instance_ids
        }
        by_address = self._admin.active_requests() if addresses else {}
        active = dict.fromkeys(instance_ids, 0)
        for instance_id, address in addresses:
            active[instance_id] += by_address.get(address, 0)
        return active

    def retire(self, deployment_id: str, *, alive: Collection[str]) -> None:
        with self._wake:
            if deployment_id not in self._table.retiring:
                return
            self._retire[deployment_id] = frozenset(alive)
            outcome = self._request()
        self._wait(outcome)

    def _change(self, deployment_id: str, route: Route | None) -> None:
        with self._wake:
            if (
                deployment_id not in self._unsettled()
                and self._table.routes.get(deployment_id) == route
            ):
                return
            self._changes[deployment_id] = route
            outcome = self._request()
        self._wait(outcome)

    def _unsettled(self) -> set[str]:
        return self._changes.keys() | self._publishing | self._table.unconfirmed.keys()

    def _request(self) -> Future[None]:
        self._is_requested = True
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
                    lambda: self._is_requested or self._stopping,
                    timeout=RETRY_S if self._unfinished or self._keys is not None else None,
                )
                if not (
                    self._is_requested or self._stopping or self._unfinished or self._has_new_keys()
                ):
                    continue
                self._wake.wait_for(lambda: self._stopping, timeout=COALESCE_S)
                if self._stopping:
                    self._outcome.set_exception(Unavailable("the control plane is stopping"))
                    return
                changes, self._changes = self._changes, {}
                self._publishing = frozenset(changes)
                retire, self._retire = self._retire, {}
                outcome, self._outcome = self._outcome, Future()
                self._is_requested = False
            failure: Unavailable | None = None
            try:
                self._publish(changes, retire)
            except Exception as error:
                _log.warning("publishing routes failed: %s", error, exc_info=_is_bug(error))
                failure = error if isinstance(error, Unavailable) else Unavailable(str(error))
            self._unfinished = failure is not None
            # Before anybody hears of it, who may ask at once whether it is settled.
            with self._wake:
                self._publishing = frozenset()
            if failure is None:
                outcome.set_result(None)
            else:
                outcome.set_exception(failure)

    def _publish(self, changes: dict[str, Route | None], retire: dict[str, frozenset[str]]) -> None:
        """New endpoints, then routes, then the removal of the old: each confirmed before the next.

        Until the routes' file is replaced a failure leaves everything as it was. From then on the
        files hold the new, and Envoy will come to serve it.
        """
        deadline = time.monotonic() + self._deadline_s
        desired = self._table.change(changes)
        self._publish_clusters(desired, deadline)
        self._write_table(desired)
        keys = self._keys() if self._keys is not None else None
        routes = route_configuration(desired.routes, self._timeouts, keys, open_to=self._open_to)
        self._publish_file(self._files.route_configuration, routes, deadline)
        self._published_keys = keys
        # Not what this very publication replaced: its draining has not been observed.
        drained = {key: alive for key, alive in retire.items() if key not in changes}
        finished = desired.confirm().retire(drained, now=time.time())
        self._write_table(finished)
        if finished.retiring != desired.retiring:
            self._publish_clusters(finished, deadline)

    def _has_new_keys(self) -> bool:
        return self._keys is not None and self._keys() != self._published_keys

    def _publish_clusters(self, table: RoutingTable, deadline: float) -> None:
        needed = clusters(
            table.needed(),
            api_socket=self._home.api_socket,
            aliases=table.aliases_at(time.time()),
        )
        self._publish_file(self._files.clusters, needed, deadline)

    def _write_table(self, table: RoutingTable) -> None:
        if table != self._table:
            self._files.write(self._files.routing_table, table.to_json())
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


_UNCONFIRMED = "the load balancer did not confirm the change in time; publish again"


def _is_bug(error: Exception) -> bool:
    return not isinstance(error, Unavailable | OSError)
