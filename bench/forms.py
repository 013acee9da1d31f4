"""How rows are put to a server, and where its answer holds the predictions."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Rows = list[list[float]]


@dataclass(frozen=True, slots=True)
class Form:
    """``ask`` makes the JSON of a request; ``answer`` takes the predictions out of an answer's."""

    ask: Callable[[Rows], Any]
    answer: Callable[[Any], Any]


def _named(question: str, answer: str) -> Form:
    return Form(lambda rows: {question: rows}, lambda body: body[answer])


def _tensors(rows: Rows) -> Any:
    """The Open Inference Protocol, version 2."""
    flat = list(itertools.chain.from_iterable(rows))
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "rows", "shape": shape, "datatype": "FP64", "data": flat}]}


FORMS = {
    "plain": _named("data", "prediction"),
    "instances": _named("instances", "predictions"),
    "inputs": _named("inputs", "predictions"),
    "tensors": Form(_tensors, lambda body: body["outputs"][0]["data"]),
}


def is_same(predictions: Any, expected: Any) -> bool:
    """Whether they are the same numbers in the same order, however nested: 1 is 1.0."""
    return _flat(predictions) == _flat(expected)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [item for part in value for item in _flat(part)]
    return [value]
