from itertools import product

import pytest

from havre.domain.states import (
    BUSY,
    DEPLOYMENT_TRANSITIONS,
    FINISHED,
    WORK_REQUEST_TRANSITIONS,
    DeploymentState,
    IllegalTransition,
    WorkRequestState,
    transition,
)


@pytest.mark.parametrize(
    ("table", "states"),
    [(DEPLOYMENT_TRANSITIONS, DeploymentState), (WORK_REQUEST_TRANSITIONS, WorkRequestState)],
)
def test_only_the_moves_of_the_table_are_made(table, states):
    assert set(table) == set(states)
    for current, to in product(states, states):
        if to == current or to in table[current]:
            assert transition(current, to) is to
        else:
            with pytest.raises(IllegalTransition, match=f"{current} -> {to}"):
                transition(current, to)


def test_every_deployment_can_be_deleted_and_then_nothing_else():
    for state in set(DeploymentState) - {DeploymentState.DELETING, DeploymentState.DELETED}:
        assert DeploymentState.DELETING in DEPLOYMENT_TRANSITIONS[state]
    assert DEPLOYMENT_TRANSITIONS[DeploymentState.DELETED] == frozenset()


def test_what_is_busy_can_come_to_rest():
    for state in BUSY:
        assert DEPLOYMENT_TRANSITIONS[state] - BUSY


def test_finished_is_final_and_everything_else_can_finish():
    for state in WorkRequestState:
        assert (WORK_REQUEST_TRANSITIONS[state] == frozenset()) == (state in FINISHED)
        assert state in FINISHED or WORK_REQUEST_TRANSITIONS[state] & FINISHED
