"""Deployments come and go; processes, sockets, folders, descriptors and logs do not pile up."""

import os

import pytest
from tests.e2e.load import Load
from tests.e2e.operated_server import TROUBLED, OperatedServer, wait_for
from tests.e2e.operated_server import operated as operated
from tests.e2e.remains import cgroups, is_empty, names_below, standing, wait_for_no_more

from havre.domain.address import UnixAddress

CYCLES = int(os.environ.get("CHAOS_ROUNDS", "10"))
SLACK = 9
"""Descriptors and threads that may be there for good after all: pools fill up as they are used.
Below one per cycle, so that a leak shows."""


def test_everything_goes_with_its_deployment(operated: OperatedServer) -> None:
    models = [operated.save(), operated.save(TROUBLED + "\n# another\n")]
    broken = operated.save("def load_model():\n    raise OSError\n\ndef predict(data): ...\n")
    watched = standing(operated)
    seen: set[str] = set()
    for _ in range(2):  # what is made on first use is there to stay
        seen |= live_and_die(operated, models, broken)
    wait_for("an empty server", lambda: is_empty(operated))
    descriptors = {name: process.num_fds() for name, process in watched.items()}
    threads = {name: process.num_threads() for name, process in watched.items()}
    files = names_below(operated.home.root)
    for _ in range(CYCLES):
        seen |= live_and_die(operated, models, broken)
    wait_for("an empty server", lambda: is_empty(operated))
    assert len(seen) >= 3 * CYCLES
    for name, process in watched.items():
        wait_for(
            f"the descriptors of {name}",
            lambda name=name, process=process: process.num_fds() <= descriptors[name] + SLACK,
        )
        wait_for(
            f"the threads of {name}",
            lambda name=name, process=process: process.num_threads() <= threads[name] + SLACK,
        )
    wait_for_no_more(operated, files)
    api = {UnixAddress(operated.home.api_socket)}
    wait_for("no other cluster", lambda: operated.balancer.active_requests().keys() <= api)
    assert cgroups() & seen == set()


def test_predictions_leave_no_trace_in_the_servers_own_logs(
    operated: OperatedServer,
) -> None:
    deployment = operated.deploy()
    logs = [*operated.home.logs.glob("*.log"), *operated.home.logs.glob("instances/*.log")]

    def size() -> int:
        return sum(path.stat().st_size for path in logs)

    with Load(f"{operated.url}/{deployment}", keep_alive=4, short_lived=2, pause_s=0) as load:
        load.wait_for_more(20)
        before = size()
        load.wait_for_more(2_000)
    assert load.failures == []
    assert size() - before < 2_000
    operated.delete(deployment)


def live_and_die(operated: OperatedServer, models: list[str], broken: str) -> set[str]:
    """One life: created, changed, failed to change, scaled, deleted. The instances it had."""
    model, another = models
    deployment, work_request = operated.create(model)
    assert operated.end_of(work_request)["status"] == "SUCCEEDED"
    seen = set(operated.instances(deployment))
    operated.update(deployment, another, variables={"MARK": "changed"})
    seen |= set(operated.instances(deployment))
    with pytest.raises(AssertionError):
        operated.update(deployment, broken)
    operated.update(deployment, another, variables={"MARK": "changed"}, instances=2)
    seen |= set(operated.instances(deployment))
    with Load(f"{operated.url}/{deployment}", keep_alive=2, short_lived=2) as load:
        load.wait_for_more(10)
    operated.delete(deployment)
    failed, work_request = operated.create(broken)
    assert operated.end_of(work_request)["status"] == "FAILED"
    operated.delete(failed)
    return seen
