"""A server under load, what is known of it, and whether all is as it should be."""

import contextlib
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx
import psutil
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, wait_for
from tests.e2e.remains import is_empty

from havre.client import ApiError
from havre.domain.errors import EngineFault, HavreError
from havre.domain.states import BUSY, FINISHED
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY, Phase

KEEP_ALIVE, SHORT_LIVED = 64, 8
PAUSE_S = 0.2
WORK_S = 0.004
"""How long a prediction takes: a copy that is hit is often serving one."""
PREDICT_TIMEOUT_S = 8.0
"""Long enough for a copy that gets no processor for some seconds."""
WELL_WITHIN_S = 120.0
ACCEPTED_WITHIN_S = 60.0

UNLOADABLE = "def load_model():\n    raise OSError('no weights')\n\ndef predict(data): ...\n"
ENDLESS = "import time\n\ndef load_model():\n    time.sleep(600)\n\ndef predict(data): ...\n"

T = TypeVar("T")


class Stage:
    """``busy`` has two instances and most of the load, ``near`` one and a little, ``far`` none."""

    def __init__(self, operated: OperatedServer, chance: random.Random) -> None:
        self.operated = operated
        self.chance = chance
        self.models = [operated.save(), operated.save(TROUBLED + "\n# another\n")]
        self.unloadable, self.endless = operated.save(UNLOADABLE), operated.save(ENDLESS)
        self.seen_instances: set[str] = set()
        self.is_everything_lost = False
        """Whether the present round kills every process of the server."""
        self.busy = self.near = self.far = ""

    def deploy(self) -> None:
        create = self.operated.create
        made = [create(self.models[0], instances=count) for count in (2, 1, 1)]
        for _, work_request in made:
            assert self.end_of(work_request) == "SUCCEEDED"
        self.busy, self.near, self.far = (deployment for deployment, _ in made)

    def warm_up(self) -> None:
        """Use everything once: what is made on first use is there to stay."""
        for model in (*self.models, self.unloadable, self.endless):
            made, _ = self.operated.create(model)
            # An artifact is unpacked before there is an instance of it.
            wait_for(
                "an instance, or the end",
                lambda made=made: (
                    self.operated.instances(made) or self.operated.state(made) != "CREATING"
                ),
            )
            self.operated.delete(made)
        self.deploy()
        self.clear()

    def clear(self) -> None:
        for deployment in (self.busy, self.near, self.far):
            self.operated.delete(deployment)
        wait_for("an empty server", lambda: is_empty(self.operated))

    @contextlib.contextmanager
    def under_load(self) -> Iterator[list[Load]]:
        at = self.operated.url
        with ExitStack() as running:
            yield [
                running.enter_context(
                    Load(
                        f"{at}/{self.busy}",
                        keep_alive=KEEP_ALIVE,
                        short_lived=SHORT_LIVED,
                        pause_s=PAUSE_S,
                        sleep=WORK_S,
                    )
                ),
                running.enter_context(
                    Load(f"{at}/{self.near}", keep_alive=3, short_lived=1, pause_s=PAUSE_S / 4)
                ),
            ]

    # Asking

    def patiently(self, call: Callable[[], T]) -> T:
        """What a client does while the API or the supervisor is away, or the deployment is
        changing: try again.
        """
        end = time.monotonic() + ACCEPTED_WITHIN_S
        while True:
            try:
                return call()
            except (httpx.TransportError, EngineFault):
                if time.monotonic() > end:
                    raise
            except ApiError as refused:
                is_passing = refused.status == 503 or refused.code == "IncorrectState"
                if not is_passing or time.monotonic() > end:
                    raise
            time.sleep(self.chance.uniform(0.01, 0.1))

    def end_of(self, work_request: str) -> str:
        """Its final status."""
        return str(self.patiently(lambda: self.operated.end_of(work_request))["status"])

    def reason_of(self, work_request: str) -> str:
        return str(self.patiently(lambda: self.operated.end_of(work_request))["reason"])

    def wait_for_state(self, deployment: str, state: str) -> None:
        wait_for(state, lambda: self.patiently(lambda: self.operated.state(deployment)) == state)

    def instance_count(self, deployment: str) -> int:
        row = self.patiently(lambda: self.operated.client.deployment(deployment))
        shown = row["modelDeploymentConfigurationDetails"]
        return int(shown["modelConfigurationDetails"]["scalingPolicy"]["instanceCount"])

    # Looking

    def routed(self, deployment: str) -> set[str]:
        """The instances in its published route."""
        return self._routes()[1].get(deployment, set())

    def instance_processes(self, instance: str) -> list[psutil.Process]:
        """Its keeper, then its copies; nothing if its keeper is gone."""
        with contextlib.suppress(KeyError, psutil.NoSuchProcess):
            keeper = psutil.Process(self.operated.pids()[f"i-{instance}"])
            return [keeper, *keeper.children(recursive=True)]
        return []

    def census(self) -> set[psutil.Process]:
        """Every process of the server (a process is its pid and when it began)."""
        found = {psutil.Process(self.operated.supervisor_pid())}
        for pid in self.operated.pids().values():
            with contextlib.suppress(psutil.NoSuchProcess):  # a change ends it just now
                process = psutil.Process(pid)
                found |= {process, *process.children(recursive=True)}
        return found

    def wait_until_well(self) -> None:
        """Every change has ended, and what runs is exactly what is wanted."""
        wrong = "?"

        def is_well() -> bool:
            nonlocal wrong
            try:
                wrong = self._what_is_wrong()
            except (AssertionError, HavreError, httpx.TransportError, psutil.Error) as error:
                wrong = repr(error)
            except (KeyError, OSError, ValueError, sqlite3.Error) as error:
                wrong = repr(error)
            return not wrong

        try:
            wait_for("the end of it", is_well, within_s=WELL_WITHIN_S)
        except BaseException as error:
            error.add_note(f"still wrong: {wrong}")
            raise

    def _what_is_wrong(self) -> str:
        """The first thing that is not as it should be; empty when nothing is."""
        server = self.operated
        if not server.is_healthy():
            return "the API does not answer"
        if unfinished := self._read(_NOT_IN.format("id", "work_requests", "status", _ENDED)):
            return f"work requests have not ended: {unfinished}"
        if busy := self._read(_IN.format("id", "deployments", "lifecycle_state", _CHANGING)):
            return f"deployments are changing: {busy}"
        wanted: dict[str, set[str]] = {}
        for row in server.client.deployments():
            instances = set(server.instances(row["id"]))
            if wrong := self._what_is_wrong_with(row, instances):
                return wrong
            if instances:
                wanted[row["id"]] = instances
        running = {instance for each in wanted.values() for instance in each}
        self.seen_instances |= running
        if set(self._read("SELECT id FROM instances")) != running:
            return "records and instances differ"
        waiting, routes = self._routes()
        if waiting or routes != wanted:
            return f"routes {routes}, waiting {waiting}, instances {wanted}"
        names = {BALANCER, CONTROL_PLANE, TELEMETRY, *(f"i-{instance}" for instance in running)}
        processes = server.processes()
        if set(processes) != names:
            return f"processes {sorted(processes)}, wanted {sorted(names)}"
        if any(each.phase is not Phase.RUNNING for each in processes.values()):
            return f"not running: {processes}"
        sockets = {path.name for path in server.home.instance_sockets.iterdir()}
        if sockets != {f"{each}.{end}" for each in running for end in ("sock", "ctl")}:
            return f"sockets {sockets}"
        return ""

    def _what_is_wrong_with(self, row: dict[str, Any], instances: set[str]) -> str:
        name, state = row["id"], row["lifecycleState"]
        count = row["modelDeploymentSystemData"]["currentInstanceCount"]
        policy = row["modelDeploymentConfigurationDetails"]["modelConfigurationDetails"]
        wanted = policy["scalingPolicy"]["instanceCount"] if state == "ACTIVE" else 0
        if state not in {"ACTIVE", "INACTIVE"}:
            return f"{name} is {state}"
        if not count == len(instances) == wanted:
            return f"{name}: {wanted} instances wanted, {count} told, {instances} there"
        for instance in instances:
            told = self.operated.keeper(instance)
            spec = json.loads((self.operated.home.instances / instance / "spec.json").read_text())
            if (told.phase, told.ready) != ("ready", spec["copies"]):
                return f"{instance} is {told.phase} with {told.ready} copies"
        return ""

    def _routes(self) -> tuple[set[str], dict[str, set[str]]]:
        """Deployments whose routes are not final yet, and the instances of published routes.

        A route before the current one is kept until the next stop; if all its instances are in the
        current one, it waits for nobody.
        """
        table = json.loads((self.operated.home.balancer / "routes.json").read_text())
        routes = {
            route["deployment_id"]: {each["instance_id"] for each in route["endpoints"]}
            for route in table["routes"]
        }
        draining = {
            deployment
            for deployment, old in table["retiring"].items()
            for route in old
            if {each["instance_id"] for each in route["endpoints"]} - routes.get(deployment, set())
        }
        return {*table["unconfirmed"], *draining}, routes

    def _read(self, statement: str) -> list[str]:
        path = f"file:{self.operated.home.database}?mode=ro"
        with contextlib.closing(sqlite3.connect(path, uri=True, timeout=10)) as database:
            return [row[0] for row in database.execute(statement)]


_IN = "SELECT {0} FROM {1} WHERE {2} IN ({3})"
_NOT_IN = "SELECT {0} FROM {1} WHERE {2} NOT IN ({3})"
_ENDED = ", ".join(f"'{state}'" for state in sorted(FINISHED))
_CHANGING = ", ".join(f"'{state}'" for state in sorted(BUSY))
