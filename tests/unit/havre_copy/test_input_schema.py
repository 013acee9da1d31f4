"""Requests held to input_schema.json: what is refused, in which words, and what passes."""

import json

import pytest

from havre_copy.faults import HttpError
from havre_copy.input_schema import checker, columns_of

ADS = {
    "schema": [
        {"name": "job", "dtype": "object", "order": 2},
        {"name": "age", "dtype": "int64", "order": 0, "required": True},
        {"name": "height", "dtype": "float64", "order": 1},
        {"name": "smokes", "dtype": "bool", "order": 3, "required": False},
    ]
}
JSON_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"age": {"type": "integer"}, "name": {"type": "string"}},
        "required": ["age"],
    },
}
ROW = {"age": 41, "height": 1.8, "job": "baker", "smokes": False}


@pytest.fixture
def check(tmp_path):
    def made(schema=ADS, **variables):
        (tmp_path / "input_schema.json").write_text(json.dumps(schema))
        return checker(str(tmp_path), variables or {"MODEL_CHECK_INPUT": "1"})

    return made


@pytest.mark.parametrize(
    "data",
    [
        [ROW],
        ROW,
        {"data": [ROW], "data_type": "pandas.core.frame.DataFrame"},
        {"data": "opaque"},
        [[41, 1.8, "baker", True]],
        [{**ROW, "age": 41.0, "height": 2, "more": "x"}, {**ROW, "age": None}],
        {name: [value] for name, value in ROW.items()},
        {name: {"0": value} for name, value in ROW.items()},
        [{name: value for name, value in ROW.items() if name != "smokes"}],
        {"instances": [1]},
        "text",
        7,
        [],
    ],
)
def test_data_that_fit_or_cannot_be_checked_pass(check, data):
    check()(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([ROW, {**ROW, "age": "old"}], "row 1, column 'age': \"old\" is not a whole number, and"),
        ([{**ROW, "age": 1.5}], "row 0, column 'age': 1.5 is not a whole number"),
        ([{**ROW, "height": True}], "row 0, column 'height': true is not a number"),
        ([{**ROW, "smokes": "yes"}], "column 'smokes': \"yes\" is not true or false"),
        ([ROW, {"age": 1, "job": "x"}], "row 1: column 'height' is missing; input_schema.json req"),
        ({"age": 1, "job": "x"}, "row 0: column 'height' is missing"),
        ({"age": [1], "job": ["x"]}, "column 'height' is missing"),
        ({"age": ["x"], "height": [1], "job": [""]}, "row 0, column 'age'"),
        ({"age": {"a": "x"}, "height": {"a": 1}, "job": {}}, "row a, column 'age'"),
        ([[41, 1.8]], "row 0 has 2 values, and input_schema.json has 4 columns"),
        ([[41, "tall", "x", True]], "row 0, column 'height': \"tall\" is not a number"),
        ({"data": [{"age": 1}]}, "row 0: column 'height' is missing"),
        ([{**ROW, "age": "x" * 500}], "xxx... is not a whole number"),
    ],
)
def test_what_does_not_is_named_by_row_and_column(check, data, message):
    with pytest.raises(HttpError) as raised:
        check()(data)
    assert message in raised.value.message
    assert (raised.value.status, raised.value.code) == (400, "InvalidParameter")
    assert len(raised.value.message) < 200


def test_json_schema_of_rows(check):
    ask = check(JSON_SCHEMA)
    ask([{"age": 1}])
    for data, message in (
        ([{"name": "x"}], "'age' is missing"),
        ([{"age": 1, "name": 2}], "not text"),
    ):
        with pytest.raises(HttpError, match=message):
            ask(data)


def test_who_asks_for_it(check, tmp_path):
    assert check(OTHER="1") is None
    assert check({**ADS, "checkInput": True}, OTHER="1") is not None
    assert check({**ADS, "checkInput": True}, MODEL_CHECK_INPUT="0") is None
    assert check({**ADS, "checkInput": "yes"}, OTHER="1") is None
    for broken in ("[]", "{", '{"checkInput": true}', '{"checkInput": true, "schema": [1]}'):
        (tmp_path / "input_schema.json").write_text(broken)
        assert checker(str(tmp_path), {"MODEL_CHECK_INPUT": "1"}) is None
    (tmp_path / "input_schema.json").unlink()
    assert checker(str(tmp_path), {"MODEL_CHECK_INPUT": "1"}) is None


def test_columns_are_taken_in_their_order():
    assert [name for name, *_ in columns_of(ADS)] == ["age", "height", "job", "smokes"]


def test_what_is_shown_of_a_request_is_bounded(check):
    nested = 1
    for _ in range(3000):
        nested = [nested]
    for value, message in (
        (nested, "column 'age': a list is not a whole number"),
        ({"x": 1}, "an object is not"),
        ("x" * 1_000_000, '"x+... is not'),
    ):
        with pytest.raises(HttpError, match=message) as no:
            check()([{**ROW, "age": value}])
        assert len(no.value.message) < 300
    with pytest.raises(HttpError) as no:
        check()({"age": {"y" * 1_000_000: "old"}, "height": {}})
    assert len(no.value.message) < 300
