"""Several die at once, and the whole machine does: what it costs, and what is found afterwards."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from tests.e2e.killing import is_alive, kill, kill_supervisor
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, configuration, wait_for
from tests.e2e.operated_server import operated as operated

from havre.balancer.envoy.files import Files
from havre.client import ApiError
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE

COPIES = 4
VARIABLES = {"WEB_CONCURRENCY": str(COPIES)}
ROUNDS = max(2, int(os.environ.get("CHAOS_ROUNDS", "10")) // 5)
"""`make chaos` runs more of them."""
ANOTHER_BOOT = "00000000-0000-0000-0000-000000000000"
Record = Callable[[str, object], None]


@pytest.fixture
def hit(operated: OperatedServer) -> Iterator[str]:
    made = operated.deploy(variables=VARIABLES)
    yield made
    operated.delete(made)


@pytest.fixture
def bystander(operated: OperatedServer) -> Iterator[str]:
    """Its processes must be the same ones afterwards, whatever happens to others."""
    made = operated.deploy()
    before = pids(operated, made)
    yield made
    assert pids(operated, made) == before
    operated.delete(made)


def pids(operated: OperatedServer, deployment: str) -> set[int]:
    """Its keepers and copies."""
    known = operated.pids()
    keepers = {known[f"i-{instance}"] for instance in operated.instances(deployment)}
    return keepers | {copy.pid for copy in operated.copies(deployment)}


def test_the_control_plane_and_envoy_are_killed(
    operated: OperatedServer, hit: str, bystander: str, record_property: Record
) -> None:
    before = pids(operated, hit)
    with Load(f"{operated.url}/{hit}") as load:
        load.wait_for_more()
        kill(operated, CONTROL_PLANE)
        kill(operated, BALANCER)
        load.wait_for_more()
        wait_for("the API", operated.is_healthy)
    # Envoy's routes are its own files': they do not wait for the control plane.
    record_property("failed_requests", len(load.failures))
    assert [failure for failure in load.failures if failure.what[0].isdigit()] == []
    assert pids(operated, hit) == before
    assert operated.state(hit) == "ACTIVE"


def test_the_supervisor_and_the_control_plane_are_killed(
    operated: OperatedServer, hit: str, bystander: str
) -> None:
    before, running = pids(operated, hit), operated.pids()
    with Load(f"{operated.url}/{hit}") as load:
        load.wait_for_more()
        kill_supervisor(operated)
        os.kill(running[CONTROL_PLANE], signal.SIGKILL)
        wait_for("no API", lambda: not operated.is_healthy())
        load.wait_for_more()
        operated.up_again()
        load.wait_for_more()
        assert operated.pids()[BALANCER] == running[BALANCER]
        assert pids(operated, hit) == before
        operated.delete(operated.deploy())
    assert load.failures == []


@pytest.mark.parametrize("first", ["the keeper", "the copy"])
def test_a_keeper_and_one_of_its_copies_are_killed(
    operated: OperatedServer, hit: str, bystander: str, first: str
) -> None:
    [instance] = operated.instances(hit)
    with Load(f"{operated.url}/{hit}") as load:
        load.wait_for_more()
        victims = [operated.pids()[f"i-{instance}"], operated.copies(hit)[0].pid]
        for pid in victims if first == "the keeper" else reversed(victims):
            os.kill(pid, signal.SIGKILL)
        wait_for("a replacement", lambda: operated.instances(hit) not in ([instance], []))
        wait_for("one instance", lambda: len(operated.instances(hit)) == 1)
        load.wait_for_more()
        assert operated.keeper_of(hit).ready == COPIES
    # The one request that the copy was serving, if it was serving any.
    assert len(load.failures) <= 1, load.counts


# The machine goes down


def test_the_machine_goes_down_while_everything_is_written(operated: OperatedServer) -> None:
    chance = random.Random(7)
    kept = operated.deploy(variables=VARIABLES)
    with stranger_of_this_machine() as stranger:
        for _ in range(ROUNDS):
            supervisor_pid = operated.server.status()["supervisor_pid"]
            with Writers(operated, chance) as writers:
                writers.wait_for_some()
                time.sleep(chance.uniform(0.0, 1.5))  # any moment will do
                end_the_machine(operated, supervisor_pid)
            assert_nothing_is_half_written(operated)
            give_records_to(stranger.pid, operated)
            operated.up_again()
            wait_for("nothing under way", lambda: unfinished(operated) == [])
            found = {row["id"]: row for row in operated.client.deployments()}
            for made, url in [*writers.deployed, (kept, f"{operated.url}/{kept}")]:
                assert found[made]["modelDeploymentUrl"] == url
            for made in found:
                wait_for(f"{made} predicts", lambda made=made: operated.answers(made))
                wait_for("ACTIVE", lambda made=made: operated.state(made) == "ACTIVE")
            for model, content in writers.uploaded.items():
                assert artifact_of(operated, model) == content
            for made in found.keys() - {kept}:
                operated.delete(made)
        assert stranger.poll() is None, "a record of another boot was believed"
    operated.delete(kept)


class Writers:
    """Threads that upload, create, update and delete until the server is gone.

    ``deployed`` are deployments with their URLs that were ACTIVE and not asked to change since;
    ``uploaded`` are the bytes by model whose upload was confirmed.
    """

    def __init__(self, server: OperatedServer, chance: random.Random) -> None:
        self.deployed: list[tuple[str, str]] = []
        self.uploaded: dict[str, bytes] = {}
        self._server = server
        self._seeds = [chance.random() for _ in range(3)]
        self._models: list[str] = []
        self._faults: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(work, random.Random(seed)))
            for work, seed in zip(
                (self._upload, self._create, self._change), self._seeds, strict=True
            )
        ]

    def __enter__(self) -> "Writers":
        self._models.append(self._server.save())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()
        if self._faults:
            raise self._faults[0]

    def wait_for_some(self) -> None:
        wait_for("an upload and a deployment", lambda: self.uploaded and self.deployed)

    def _run(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        """Until the server is not there any more."""
        try:
            while True:
                work(chance)
        except httpx.TransportError:
            pass
        except ApiError as refusal:
            if refusal.status < 500:
                self._faults.append(refusal)
        except BaseException as fault:
            self._faults.append(fault)

    def _upload(self, chance: random.Random) -> None:
        with tempfile.NamedTemporaryFile(suffix=".zip") as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("score.py", TROUBLED)
                archive.writestr("weights.bin", chance.randbytes(chance.randrange(1, 3_000_000)))
            file.flush()
            content = Path(file.name).read_bytes()
            model = self._server.save_archive(Path(file.name))
        self.uploaded[model] = content
        self._models.append(model)

    def _create(self, chance: random.Random) -> None:
        made, accepted = self._server.create(chance.choice(self._models))
        if self._server.end_of(accepted)["status"] == "SUCCEEDED":
            row = self._server.client.deployment(made)
            self.deployed.append((made, row["modelDeploymentUrl"]))
        while len(self.deployed) > 2:
            gone, _ = self.deployed.pop(0)
            self._server.end_of(self._server.client.delete_deployment(gone))

    def _change(self, chance: random.Random) -> None:
        """One of its own: whatever becomes of it, it must end."""
        made, accepted = self._server.create(chance.choice(self._models))
        self._server.end_of(accepted)
        for _ in range(chance.randrange(3)):
            told = configuration(chance.choice(self._models), variables={"MARK": "changed"})
            self._server.end_of(self._server.client.update_deployment(made, told))
        self._server.end_of(self._server.client.delete_deployment(made))


def end_the_machine(operated: OperatedServer, supervisor_pid: int) -> None:
    """Nothing of the home lives when this returns.

    Its supervisor first, which would start others again; then whatever names the home (in its
    command, or as its working folder), until the last that was being started is gone as well.
    """
    supervisor = psutil.Process(supervisor_pid)
    supervisor.kill()
    wait_for("the supervisor's end", lambda: not is_alive(supervisor))
    mark = str(operated.home.root)

    def kill_the_rest() -> bool:
        found = [
            process
            for process in psutil.process_iter(["cmdline", "cwd"])
            if mark in " ".join([*(process.info["cmdline"] or []), process.info["cwd"] or ""])
            and is_alive(process)
        ]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return not found

    wait_for("the end of it all", kill_the_rest)


@contextmanager
def stranger_of_this_machine() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as stranger:
        try:
            yield stranger
        finally:
            stranger.kill()


def assert_nothing_is_half_written(operated: OperatedServer) -> None:
    """As the files lie there, before anything of ours has mended them."""
    home = operated.home
    with closing(sqlite3.connect(home.database)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        known = {digest for (digest,) in database.execute("SELECT digest FROM artifacts")}
    there = {path.name: path for path in home.artifacts.glob("sha256/*/*")}
    assert known <= there.keys()
    for digest, path in there.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    for folder in home.unpacked.glob("[!.]*"):
        with zipfile.ZipFile(there[folder.name]) as archive:
            for name in archive.namelist():
                assert (folder / name).read_bytes() == archive.read(name)
    files = Files(home)
    resources = (files.bootstrap, files.listeners, files.clusters, files.route_configuration)
    for file in (*resources, files.routing_table):
        assert json.loads(file.read_text()), file


def give_records_to(pid: int, operated: OperatedServer) -> None:
    """As after a start of the machine: the process ids are others' by now."""
    for record in operated.home.processes.glob("*.json"):
        stored = json.loads(record.read_text())
        stored["identity"] |= {"pid": pid, "boot_id": ANOTHER_BOOT}
        record.write_text(json.dumps(stored))


def unfinished(operated: OperatedServer) -> list[str]:
    """Work requests that are not at their end."""
    with closing(sqlite3.connect(operated.home.database)) as database:
        rows = database.execute("SELECT id FROM work_requests WHERE time_finished IS NULL")
        return [found for (found,) in rows]


def artifact_of(operated: OperatedServer, model: str) -> bytes:
    answer = httpx.get(
        f"{operated.url}/20190101/models/{model}/artifact/content", timeout=60, trust_env=False
    )
    answer.raise_for_status()
    return answer.content
