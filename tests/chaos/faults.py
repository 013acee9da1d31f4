"""What goes wrong, and what it may cost."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import httpx
import psutil
import pytest
from tests.chaos.changes import Hit
from tests.chaos.stage import KEEP_ALIVE, PREDICT_TIMEOUT_S, SHORT_LIVED, Stage
from tests.e2e.killing import is_alive, kill, kill_everything, kill_supervisor
from tests.e2e.operated_server import wait_for

from havre.client import ApiError
from havre.supervisor.protocol import BALANCER, CONTROL_PLANE, TELEMETRY

IN_A_STANDSTILL = 3 * SHORT_LIVED
"""Who makes a new connection may wait for longer than the short time limit of these servers, and
anew, until the keeper is ended."""
IN_AN_INSTANCE = (KEEP_ALIVE + SHORT_LIVED) // 2
"""Requests in one of two instances, waiting ones included, when the machine is so busy that every
client waits for an answer. Usually it is one or two."""


class Away(Enum):
    UNTIL_ANSWERED = "until a request succeeds that was sent when the strike was over"
    UNTIL_WELL = "until all is well"


@dataclass(frozen=True, slots=True)
class Fault:
    """``strike`` returns the processes it has hit; the rest must live on.

    ``fails`` is how many requests may fail by it. ``away`` is until when it may be any number.
    """

    name: str
    strike: Callable[[Stage], Hit]
    fails: int = 0
    away: Away | None = None


def _control_plane(stage: Stage) -> Hit:
    with lives_on(stage, CONTROL_PLANE) as hit:
        kill(stage.operated, CONTROL_PLANE)
    return hit


def _envoy(stage: Stage) -> Hit:
    with lives_on(stage, BALANCER) as hit:
        kill(stage.operated, BALANCER)
    return hit


def _telemetry(stage: Stage) -> Hit:
    with lives_on(stage, TELEMETRY) as hit:
        kill(stage.operated, TELEMETRY)
    return hit


def _supervisor(stage: Stage) -> Hit:
    hit = {psutil.Process(stage.operated.supervisor_pid())}
    kill_supervisor(stage.operated)
    stage.operated.up_again()
    return hit


def _control_plane_of_a_dead_supervisor(stage: Stage) -> Hit:
    """Nobody restarts it until `havre up`."""
    operated = stage.operated
    control_plane = psutil.Process(operated.pids()[CONTROL_PLANE])
    hit = {psutil.Process(operated.supervisor_pid()), control_plane}
    kill_supervisor(operated)
    control_plane.kill()
    wait_for("its end", lambda: not is_alive(control_plane))
    operated.up_again()
    return hit


def _keeper(stage: Stage) -> Hit:
    """Its copies serve on until another instance is there."""
    keeper, *copies = _an_instance(stage)
    keeper.kill()
    return {keeper, *copies}


def _standstill(stage: Stage) -> Hit:
    """A keeper is stopped, not dead; it is ended when it is noticed, and then as above."""
    keeper, *copies = _an_instance(stage)
    keeper.suspend()
    wait_for("its end", lambda: not is_alive(keeper))
    return {keeper, *copies}


def _copy(stage: Stage) -> Hit:
    _, *copies = _an_instance(stage)
    copy = stage.chance.choice(copies)
    copy.kill()
    return {copy}


def _instance(stage: Stage) -> Hit:
    """A keeper and all its copies: what they served and what waited for them is lost."""
    everything = _an_instance(stage)
    for process in everything:
        process.kill()
    return set(everything)


def _several(stage: Stage) -> Hit:
    return _keeper(stage) | _copy(stage) | _control_plane(stage)


def _everything(stage: Stage) -> Hit:
    hit = stage.census()
    kill_everything(stage.operated)
    stage.operated.up_again()
    return hit


def _hung(stage: Stage) -> Hit:
    """A copy hangs in C, with the interpreter's lock held, until its time is up."""
    instances = stage.operated.instances(stage.busy)
    copies = {each for instance in instances for each in stage.instance_processes(instance)[1:]}
    where = f"{stage.operated.url}/{stage.busy}/predict"
    body = {"echo": -1, "act": "hang in C"}
    answer = httpx.post(where, json=body, timeout=10 * PREDICT_TIMEOUT_S, trust_env=False)
    assert answer.status_code == 500, answer.text
    return copies  # one of them: which it was is not told


def _locked(stage: Stage) -> Hit:
    """The database's write lock is held until a change has been refused."""
    with stage.operated.hold_the_database():
        with pytest.raises(ApiError) as refused:
            stage.operated.change(stage.near, displayName="never")
        assert (refused.value.status, refused.value.code) == (503, "ServiceUnavailable")
    return set()


def _an_instance(stage: Stage) -> list[psutil.Process]:
    """Keeper and copies of one that is routed and ready: a change's own are not yet promised.

    After another fault there may be none yet: it is waited for.
    """

    def candidates() -> list[list[psutil.Process]]:
        return [
            processes
            for instance in sorted(stage.routed(stage.busy))
            if len(processes := stage.instance_processes(instance)) > 1
        ]

    return stage.chance.choice(wait_for("an instance that serves", candidates))


@contextlib.contextmanager
def lives_on(stage: Stage, name: str) -> Iterator[Hit]:
    """Waits for another process of this name."""
    before = psutil.Process(stage.operated.pids()[name])
    yield {before}
    wait_for(f"another {name}", lambda: stage.operated.pids().get(name) not in (None, before.pid))


EVERYTHING = Fault("everything", _everything, away=Away.UNTIL_WELL)
FAULTS = (
    Fault("control plane", _control_plane),
    Fault("a copy", _copy, fails=1),
    Fault("a keeper", _keeper),
    Fault("a keeper that stands still", _standstill, fails=IN_A_STANDSTILL),
    Fault("an instance", _instance, fails=IN_AN_INSTANCE),
    Fault("Envoy", _envoy, away=Away.UNTIL_ANSWERED),
    Fault("telemetry", _telemetry),
    Fault("supervisor", _supervisor),
    Fault("supervisor and control plane", _control_plane_of_a_dead_supervisor),
    Fault("control plane, keeper, copy", _several, fails=1),
    Fault("a copy hung in C", _hung),
    Fault("database locked", _locked),
    EVERYTHING,
)
