"""Which requests are combined, and who gets what of the result."""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre_copy.batch_proof import find_difference, is_close
from havre_copy.batching import NotShareable, combine, form_of, share_out, slice_rows

ROW = st.one_of(
    st.just(st.lists(st.integers(-9, 9), min_size=2, max_size=2)),
    st.just(st.text(max_size=3)),
    st.just(st.floats(allow_nan=False)),
    st.just(st.builds(dict, a=st.integers(), b=st.text(max_size=3))),
)
FIXED = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text(max_size=2))


@st.composite
def requests(draw):
    """Several requests' data, of one form."""
    row = draw(ROW)
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    kind = draw(st.sampled_from(["list", "columns", "array"]))
    if kind == "array":
        return [np.arange(length * 3).reshape(length, 3) for length in lengths]
    made = [draw(st.lists(row, min_size=length, max_size=length)) for length in lengths]
    if kind == "list":
        return made
    fixed = draw(FIXED)
    return [{"rows": rows, "more": list(range(len(rows))), "how": fixed} for rows in made]


def plain(value):
    return json.loads(json.dumps(value, default=lambda array: array.tolist()))


class Tensor(np.ndarray):
    """Looks like one of PyTorch's."""


@given(requests())
def test_combined_requests_are_shared_out_again(many):
    forms = [form_of(data) for data in many]
    assert len({(form.structure, form.fixed) for form in forms}) == 1
    before = copy.deepcopy(many)
    combined = combine(many)
    sizes = [form.rows for form in forms]
    assert form_of(combined) == forms[0]._replace(rows=sum(sizes))
    shares = share_out(combined, sizes)
    assert plain(shares) == plain(before)
    assert plain(many) == plain(before)  # nobody's data were changed


@given(requests(), st.data())
def test_rows_of_a_request_have_its_form(many, data):
    form = form_of(many[0])
    begin = data.draw(st.integers(0, form.rows - 1))
    end = data.draw(st.integers(begin + 1, form.rows))
    assert form_of(slice_rows(many[0], begin, end)) == form._replace(rows=end - begin)


@pytest.mark.parametrize(
    "data",
    [
        [],
        [[1], {"a": 1}],
        [1, "a"],
        [None, 1],
        {},
        {"a": 1},
        {"a": [1], "b": [1, 2]},
        {"a": []},
        {"a": [1], "b": {"c": [1]}},
        {"a": [1], "b": object()},
        "text",
        b"bytes",
        7,
        None,
        np.float64(1),
        np.array(5),
        np.zeros((0, 3)),
    ],
)
def test_what_has_no_rows_is_answered_alone(data):
    assert form_of(data) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([[1, 2]], [[1, 2, 3]]),
        ([[1, 2]], [1, 2]),
        ([[1, 2]], {"data": [[1, 2]]}),
        ({"data": [1]}, {"instances": [1]}),
        ({"data": [1], "k": 1}, {"data": [1], "k": 2}),
        ({"data": [1], "k": 1}, {"data": [1], "k": True}),
        ({"data": [1], "k": 1}, {"data": [1]}),
        ({"a": [1], "b": [2]}, {"b": [2], "a": [1]}),
        ([{"a": 1}], [{"a": 1, "b": 2}]),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]),
        ([{"a": 1}], [{"a": None}]),
        ([[1, 2]], [[1, "2"]]),
        ({"data": [[1, 2]]}, {"data": [[1, True]]}),
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros((2, 3)), np.zeros((2, 3), "f4")),
        (np.zeros((2, 3)), np.zeros((2, 3, 1))),
    ],
)
def test_what_differs_is_not_combined(one, other):
    assert form_of(one)[:2] != form_of(other)[:2]


def test_whole_numbers_are_like_others():
    assert form_of([[1, 2]]) == form_of([[1.5, 2]])
    assert form_of([{"a": 1, "b": 2}]) == form_of([{"a": 1.5, "b": 2.5}])


def test_a_plain_value_is_no_part_of_the_structure():
    one, other = ({"data": [[1]], "threshold": value} for value in (0.5, 0.7))
    assert form_of(one).structure == form_of(other).structure


@pytest.mark.parametrize(
    ("result", "shares"),
    [
        ([1, 2, 3], [[1], [2, 3]]),
        ({"prediction": [1, 2, 3]}, [{"prediction": [1]}, {"prediction": [2, 3]}]),
        ({"p": [1, 2, 3], "v": "1"}, [{"p": [1], "v": "1"}, {"p": [2, 3], "v": "1"}]),
        ({"p": {"q": [1, 2, 3]}}, [{"p": {"q": [1]}}, {"p": {"q": [2, 3]}}]),
        (np.array([1, 2, 3]), [[1], [2, 3]]),
        ({"p": np.array([[1], [2], [3]])}, [{"p": [[1]]}, {"p": [[2], [3]]}]),
        (pd.Series([1, 2, 3], index=[2, 1, 0]), [[1], [2, 3]]),
        ({"p": pd.Series(["a", "b", "c"], dtype="category")}, [{"p": ["a"]}, {"p": ["b", "c"]}]),
        ({"p": np.array([[1], [2], [3]]).view(Tensor)}, [{"p": [[1]]}, {"p": [[2], [3]]}]),
    ],
)
def test_a_row_for_each_row_is_shared_out(result, shares):
    assert plain(share_out(result, [1, 2])) == shares


@pytest.mark.parametrize(
    "result",
    [
        [1, 2],
        {"prediction": [1, 2]},
        {"prediction": [1, 2, 3], "classes": ["a", "b"]},
        {"prediction": "three"},
        {},
        "abc",
        b"abc",
        (1, 2, 3),
        pd.Series([1, 2]),
        np.array(3).view(Tensor),
        None,
        3,
        np.zeros((2, 3)),
        iter([1, 2, 3]),
    ],
)
def test_anything_else_is_not(result):
    with pytest.raises(NotShareable):
        share_out(result, [1, 2])


SAMPLE = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


def tried(predict, sample=SAMPLE):
    return find_difference(lambda: copy.deepcopy(sample), predict, plain)


def spoils(data):
    data[0].append(0)
    return [sum(row) for row in data]


@pytest.mark.parametrize(
    "predict",
    [
        lambda data: [sum(row) for row in data],
        lambda data: {"prediction": [max(row) for row in data], "model": "v1"},
        lambda data: np.asarray(data) @ [1.0, 2.0],
        lambda data: [sum(row) * (1 + 1e-9 * len(data)) for row in data],
        spoils,
    ],
)
def test_a_model_of_rows_is_proved(predict):
    assert tried(predict) == ""
    assert tried(lambda data: predict(data), SAMPLE[:1]) == ""


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        (
            lambda data: [sum(row) / len(data) for row in data],
            "when requests are batched",
        ),
        (
            lambda data: sorted(sum(row) for row in data)[::-1],
            "when requests are batched",
        ),
        (
            lambda data: [object.__hash__(data)] * len(data),
            "when requests are batched",
        ),
        (lambda data: {"mean": sum(map(sum, data))}, "a dict without lists for 5 rows"),
        (
            lambda data: {"p": [0] * len(data), "q": {"r": (0,) * len(data)}},
            "a dict with a dict with a value of type tuple under 'r' under 'q' for 5 rows",
        ),
        (lambda data: [[sum(row) for row in data]], "list of 1 for 5 rows"),
        (lambda data: {"p": [0] * len(data), "classes": [1, 2, 3, 4, 5]}, "batched|rows"),
        (lambda data: {"p": [0] * len(data), "first": data[:2]}, "rows"),
        (lambda data: 1 / (4 - len(data)), "float"),
        (lambda data: [0] * len(data) if len(data) == 3 else 1 / 0, "alone: ZeroDivisionError"),
        (lambda data: [0] * len(data) if len(data) < 4 else 1 / 0, "together: ZeroDivision"),
    ],
)
def test_a_model_whose_rows_depend_on_each_other_is_detected(predict, reason):
    found = tried(predict)
    assert found
    assert re.search(reason, found), found


def test_a_sample_without_rows_proves_nothing():
    assert "no rows" in tried(lambda data: data, "text")


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.001, False),
        (0.0, 1e-300, True),
        (1, 2, False),
        (True, 1, False),
        (True, 1.0, False),
        ([1], [1, 2], False),
        ({"a": [1.0]}, {"a": [1.0000001]}, True),
        ({"a": 1}, {"b": 1}, False),
        ("a", "b", False),
        (None, 0.0, False),
    ],
)
def test_numbers_are_the_same_to_a_part_in_100000(one, other, equal):
    assert is_close(one, other) is equal
    assert is_close(other, one) is equal
