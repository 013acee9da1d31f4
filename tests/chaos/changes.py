"""What is asked of the deployments: each change goes to its end, and that is the one expected."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
from tests.chaos.stage import Stage
from tests.e2e.operated_server import configuration, wait_for

from havre.client import ApiError

Hit = set[psutil.Process]
"""Processes that may be gone afterwards. Whoever is not among them must live on."""


@dataclass(frozen=True, slots=True)
class Change:
    """``make`` returns when it has ended. No request may fail by it."""

    name: str
    make: Callable[[Stage], Hit]

    @property
    def is_one_step(self) -> bool:
        return self.make not in (_cancel, _rest, _come_and_go)


def _update(*, ends: str = "SUCCEEDED", **wishes: Any) -> Callable[[Stage], Hit]:
    """A change that needs new copies. A wish that can be called is told the stage."""

    def make(stage: Stage) -> Hit:
        before = _processes_of(stage, stage.busy)
        told = {key: wish(stage) if callable(wish) else wish for key, wish in wishes.items()}
        _ask(stage, told, ends)
        return before if ends == "SUCCEEDED" else set()

    return make


def _update_in_place(**wishes: Any) -> Callable[[Stage], Hit]:
    """A change that needs none."""

    def make(stage: Stage) -> Hit:
        _ask(stage, {key: wish(stage) for key, wish in wishes.items()}, "SUCCEEDED")
        return set()

    return make


def _scale(stage: Stage) -> Hit:
    """From two instances to three, or back."""
    count = stage.instance_count(stage.busy)
    before = _processes_of(stage, stage.busy) if count > 2 else set()
    _ask(stage, {"instances": 2 if count > 2 else 3}, "SUCCEEDED")
    return before


def _cancel(stage: Stage) -> Hit:
    """Of an update whose model loads for ever."""
    operated = stage.operated

    def accepted() -> str:
        # Asked again because an answer was lost, it is under way already, and has no end.
        running = operated.client.running_change(stage.busy)
        return running["id"] if running else operated.change(stage.busy, model_id=stage.endless)

    asked = stage.patiently(accepted)
    with unless_done_before():
        stage.patiently(lambda: operated.ask("DELETE", f"/workRequests/{asked}"))
    assert stage.end_of(asked) == "CANCELED"
    return set()


def _rest(stage: Stage) -> Hit:
    """The far deployment is deactivated and comes back."""
    before = _processes_of(stage, stage.far)
    for action, state in (("deactivate", "INACTIVE"), ("activate", "ACTIVE")):
        path = f"/modelDeployments/{stage.far}/actions/{action}"
        with unless_done_before():
            stage.patiently(lambda path=path: stage.operated.ask("POST", path))
        stage.wait_for_state(stage.far, state)
    return before


def _come_and_go(stage: Stage) -> Hit:
    """A neighbour is made, answers, and is deleted."""
    operated = stage.operated
    body = {
        "displayName": "passing",
        "projectId": operated.client.project_id,
        "compartmentId": operated.client.compartment_id,
        "modelDeploymentConfigurationDetails": configuration(stage.chance.choice(stage.models)),
    }
    once = {"opc-retry-token": f"{stage.chance.random()}"}
    path = "/modelDeployments"
    answer = stage.patiently(lambda: operated.ask("POST", path, json=body, headers=once))
    assert stage.end_of(answer.headers["opc-work-request-id"]) == "SUCCEEDED"
    made = answer.json()["id"]
    wait_for("an answer", lambda: operated.answers(made))
    with unless_done_before():
        stage.patiently(lambda: operated.ask("DELETE", f"{path}/{made}"))
    stage.wait_for_state(made, "DELETED")
    return set()


@contextlib.contextmanager
def unless_done_before() -> Iterator[None]:
    """Asked again because an answer was lost, the API says that it is done: good."""
    try:
        yield
    except ApiError as refused:
        if refused.code != "Conflict":
            raise


def _ask(stage: Stage, wishes: dict[str, Any], ends: str) -> None:
    asked = stage.patiently(lambda: stage.operated.change(stage.busy, **wishes))
    ended = stage.end_of(asked)
    # What was started for the change and has not served yet may have died with everything else.
    may_be = {ends, "FAILED"} if stage.is_everything_lost else {ends}
    assert ended in may_be, f"{wishes} ended {ended}: {stage.reason_of(asked)}"


def _processes_of(stage: Stage, deployment: str) -> Hit:
    instances = stage.operated.instances(deployment)
    return stage.patiently(
        lambda: {each for instance in instances for each in stage.instance_processes(instance)}
    )


def _any_text(stage: Stage) -> str:
    return f"{stage.chance.random()}"


def _variables(stage: Stage) -> dict[str, str]:
    return {"MARK": _any_text(stage)}


def _log(stage: Stage) -> dict[str, Any]:
    client = stage.operated.client
    shown = stage.patiently(lambda: client.deployment(stage.busy))["categoryLogDetails"]
    return {"access": stage.chance.choice(list(shown.values()))}


def _memory(stage: Stage) -> float:
    return float(stage.chance.randrange(4, 33))


CHANGES = (
    Change("another model", _update(model_id=lambda stage: stage.chance.choice(stage.models),
                                    variables=_variables)),
    Change("another shape", _update(shape="VM.Standard2.1", variables=_variables)),
    Change("memory", _update(shape="VM.Standard.E4.Flex", ocpus=1.0, memory_gb=_memory,
                             variables=_variables)),
    Change("variables", _update(variables=_variables)),
    Change("instances up or down", _scale),
    Change("instances down or up", _scale),
    Change("bandwidth", _update_in_place(
        bandwidth_mbps=lambda stage: stage.chance.randrange(100, 1000))),
    Change("logs", _update_in_place(categoryLogDetails=_log)),
    Change("a name and tags", _update_in_place(
        displayName=_any_text, freeformTags=lambda stage: {"tag": _any_text(stage)})),
    Change("several at once", _update(
        model_id=lambda stage: stage.chance.choice(stage.models), variables=_variables,
        shape="VM.Standard.E4.Flex", ocpus=1.0, memory_gb=_memory, instances=2,
        bandwidth_mbps=lambda stage: stage.chance.randrange(100, 1000), displayName=_any_text,
    )),
    Change("an update that fails", _update(
        model_id=lambda stage: stage.unloadable, ends="FAILED")),
    Change("a canceled update", _cancel),
    Change("deactivate, activate", _rest),
    Change("create, delete", _come_and_go),
)  # fmt: skip
