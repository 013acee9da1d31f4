"""What a newer Python has and an older environment lacks."""

import time

import pytest

from havre_copy.newer_python import advice


def _syntax(line):
    return SyntaxError("invalid syntax", ("score.py", 3, 1, line + "\n"))


@pytest.mark.parametrize(
    ("error", "since", "what"),
    [
        (_syntax("match command:"), (3, 10), "match statements"),
        (_syntax("    case [x, *rest]:"), (3, 10), "match statements"),
        (_syntax("except* ValueError:"), (3, 11), "except*"),
        (_syntax("type Row = list[int]"), (3, 12), "type statements"),
        (_syntax("def first[T](rows: list[T]) -> T:"), (3, 12), "type parameters"),
        (_syntax("class Box[T]:"), (3, 12), "type parameters"),
        (_syntax("with (open(a) as f,"), (3, 9), "with statements in parentheses"),
        (_syntax("if (n := len(rows)) > 3:"), (3, 8), ":="),
        (_syntax("def f(a, /, b):"), (3, 8), "by position only"),
        (_syntax('f"{row["a"]}"'), (3, 12), "f-strings"),
        (_syntax("(x=)"), (3, 8), "{x=}"),
        (_syntax("x[*rows]"), (3, 11), "stars in an index"),
        (_syntax("@registry[0].add"), (3, 9), "decorators"),
        (_syntax("except ValueError, KeyError:"), (3, 14), "except without parentheses"),
        (ModuleNotFoundError("No module named 'tomllib'", name="tomllib"), (3, 11), "tomllib"),
        (ImportError("cannot import name 'Self' from 'typing' (/x)"), (3, 11), "Self"),
        (AttributeError("'str' object has no attribute 'removeprefix'"), (3, 9), "removeprefix()"),
        (TypeError("'type' object is not subscriptable"), (3, 9), "list[int]"),
        (TypeError("unsupported operand type(s) for |: 'type' and 'NoneType'"), (3, 10), "None"),
        (TypeError("unsupported operand type(s) for |: 'dict' and 'dict'"), (3, 9), "dicts"),
    ],
)
def test_it_is_named_with_both_versions_in_an_older_python_only(error, since, what):
    major, minor = since
    hint = advice(error, (major, minor - 1))
    assert what in hint
    assert f"need Python {major}.{minor}, and the inference environment has 3.{minor - 1}" in hint
    assert not advice(error, since)


@pytest.mark.parametrize(
    "error",
    [
        _syntax("def predict(data:"),
        _syntax("print 'x'"),
        _syntax("rows = [1, 2"),
        _syntax("x = {'match': 1"),
        SyntaxError("invalid syntax"),
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        ImportError("cannot import name 'nothing' from 'typing'"),
        AttributeError("'Model' object has no attribute 'predct'"),
        TypeError("unsupported operand type(s) for |: 'int' and 'str'"),
        ValueError("match x:"),
    ],
)
def test_other_errors_get_no_advice(error):
    assert not advice(error, (3, 7))


@pytest.mark.parametrize("run", ['f"{', "def ,", "lambda ,", "@)", "f'{"], ids=repr)
def test_a_line_that_a_client_sent_costs_little(run):
    """ast.literal_eval() keeps the whole of what it cannot read."""
    began = time.process_time()
    advice(_syntax(run + run[-1] * 200_000), (3, 7))
    assert time.process_time() - began < 1
