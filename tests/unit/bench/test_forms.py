"""How each server is asked, and where its predictions are found."""

import pytest
from bench.forms import FORMS, is_same

ROWS = [[1.0, 2.0], [3.0, 4.0]]
QUESTIONS = {
    "plain": {"data": ROWS},
    "instances": {"instances": ROWS},
    "inputs": {"inputs": ROWS},
    "tensors": {
        "inputs": [
            {"name": "rows", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0]}
        ]
    },
}
ANSWERS = {
    "plain": {"prediction": [0, 1]},
    "instances": {"predictions": [0, 1]},
    "inputs": {"predictions": [0, 1]},
    "tensors": {"model_name": "bench", "outputs": [{"name": "out", "data": [0.0, 1.0]}]},
}


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_asks_and_finds_the_answer(name: str) -> None:
    form = FORMS[name]
    assert form.ask(ROWS) == QUESTIONS[name]
    assert is_same(form.answer(ANSWERS[name]), [0, 1])


@pytest.mark.parametrize("wrong", [[1, 0], [0], [0, 1, 1], [[0, 2]], "01", None])
def test_other_predictions_are_not_the_same(wrong: object) -> None:
    assert not is_same(wrong, [0, 1])


def test_nesting_does_not_matter() -> None:
    assert is_same([[0], [1]], [0, 1])
