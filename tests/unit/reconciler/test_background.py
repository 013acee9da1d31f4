"""Tasks beside the passes: one for each key, with an outcome that is looked up later."""

from concurrent import futures

import pytest
from tests.unit.reconciler.world import Inline

from havre.domain.rollout.planner_input import Outcome, Stage
from havre.reconciler.background import Background

DONE, FAILED = Outcome(Stage.DONE), Outcome(Stage.FAILED, "no")


@pytest.fixture
def background() -> Background[str]:
    return Background(Inline())


def test_a_key_that_was_never_begun_has_no_outcome(background: Background[str]) -> None:
    assert background.task("a").outcome == Outcome(Stage.NONE)
    assert not background.is_running("a")


@pytest.mark.parametrize("outcome", [DONE, FAILED])
def test_a_job_with_an_outcome_is_not_begun_again(
    background: Background[str], outcome: Outcome
) -> None:
    runs = []

    def act() -> None:
        runs.append(background.is_running("a"))
        background.begin("a", act)  # at most one at a time
        assert background.finish("a", outcome)

    background.begin("a", act)
    background.begin("a", act)
    assert runs == [True]
    assert background.task("a").outcome == outcome


def test_a_job_without_an_outcome_is_begun_again_and_its_faults_are_kept(
    background: Background[str],
) -> None:
    def act() -> None:
        background.finish("a", Outcome(), faults=background.task("a").faults + 1)

    for _ in range(3):
        background.begin("a", act)
    assert background.task("a").faults == 3


def test_the_outcome_of_a_job_that_was_dropped_is_not_recorded(
    background: Background[str],
) -> None:
    def act() -> None:
        background.drop(lambda key, _: key == "a")
        assert not background.is_running("a")
        assert not background.finish("a", DONE)

    background.begin("a", act)
    assert background.task("a").outcome.stage is Stage.NONE


def test_only_what_is_dropped_is_dropped(background: Background[str]) -> None:
    for key, outcome in (("a", DONE), ("b", FAILED)):
        background.begin(key, lambda key=key, outcome=outcome: background.finish(key, outcome))
    background.drop(lambda _, task: task.outcome.stage is Stage.FAILED)
    assert background.task("a").outcome == DONE
    assert background.task("b").outcome.stage is Stage.NONE


def test_at_the_end_nothing_is_wanted_any_more() -> None:
    with futures.ThreadPoolExecutor(1) as pool:
        background: Background[str] = Background(pool)
        began, over = futures.Future[None](), futures.Future[bool]()

        def act() -> None:
            began.set_result(None)
            background.pause(10)
            over.set_result(background.is_running("a") or background.finish("a", DONE))

        background.begin("a", act)
        began.result(10)
        background.close()
        assert not over.result(10)
