"""Monitoring's query language: what can be read, what is refused and how."""

import pytest

from havre.domain.errors import InvalidParameter
from havre.queries.mql_parser import (
    Between,
    BinaryOperation,
    Number,
    Regrouping,
    Selection,
    Statistic,
    parse,
    parse_duration,
    selections,
)

CPU = Selection("CpuUtilization", 60, (), None, Statistic("mean"))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("CpuUtilization[1m].mean()", CPU),
        (" CpuUtilization [ 1m ] . avg ( ) ", CPU),
        (
            "CpuUtilization[5m].groupBy(resourceId, instanceId).percentile(0.99)",
            Selection(
                "CpuUtilization",
                300,
                (),
                ("resourceId", "instanceId"),
                Statistic("percentile", 0.99),
            ),
        ),
        (
            "CpuUtilization[1d].grouping().max()",
            Selection("CpuUtilization", 86_400, (), (), Statistic("max")),
        ),
        (
            "A.b-c[1h].absent(20h)",
            Selection("A.b-c", 3600, (), None, Statistic("absent", 72_000)),
        ),
        ("A[30s].absent()", Selection("A", 30, (), None, Statistic("absent", 7200))),
        ("A[30s].absent(20)", Selection("A", 30, (), None, Statistic("absent", 72_000))),
        ("CpuUtilization[1m].mean() > 80", BinaryOperation(">", CPU, Number(80))),
        ("CpuUtilization[1m].mean() in (60, 80)", Between(CPU, 60, 80, False)),
        ("CpuUtilization[1m].mean() not in (-1, 8e1)", Between(CPU, -1, 80, True)),
        (
            "CpuUtilization[1m].mean() + 2 * 3 >= 4 && CpuUtilization[1m].mean() < 5 || "
            "CpuUtilization[1m].mean()-1 == 0",
            BinaryOperation(
                "||",
                BinaryOperation(
                    "&&",
                    BinaryOperation(
                        ">=",
                        BinaryOperation("+", CPU, BinaryOperation("*", Number(2), Number(3))),
                        Number(4),
                    ),
                    BinaryOperation("<", CPU, Number(5)),
                ),
                BinaryOperation("==", BinaryOperation("-", CPU, Number(1)), Number(0)),
            ),
        ),
        (
            "(CpuUtilization[1m].mean() > 80).groupBy(resourceId).sum()",
            Regrouping(BinaryOperation(">", CPU, Number(80)), ("resourceId",), Statistic("sum")),
        ),
        (
            "(CpuUtilization[1m].mean()).count()",
            Regrouping(CPU, (), Statistic("count")),
        ),
    ],
)
def test_what_a_text_says(text, query):
    assert parse(text) == query


@pytest.mark.parametrize(
    ("condition", "dimensions", "holds"),
    [
        ('a = "x"', {"a": "x"}, True),
        ("a == 'x'", {"a": "x"}, True),
        ('a = "x"', {}, False),
        ('a != "x"', {}, True),
        ('a = "x", b = "y"', {"a": "x", "b": "z"}, False),
        ('a = "x" && b = "y"', {"a": "x", "b": "y"}, True),
        ('a =~ "ab*"', {"a": "abc"}, True),
        ('a =~ "*b*d"', {"a": "abcd"}, True),
        ('a =~ "*b*d"', {"a": "abc"}, False),
        ('a =~ "ab*ba"', {"a": "aba"}, False),
        ('a =~ "x|y*"', {"a": "yes"}, True),
        ('a !~ "x|y*"', {"a": "yes"}, False),
        ('a =~ "x.z"', {"a": "xyz"}, False),
        ('a in ("x", "y")', {"a": "y"}, True),
        ('a not in ("x", "y")', {"a": "y"}, False),
        (r'a = "say \"no\""', {"a": 'say "no"'}, True),
        ("", {"a": "x"}, True),
    ],
)
def test_which_streams_a_condition_takes(condition, dimensions, holds):
    (selection,) = selections(parse(f"M[1m]{{{condition}}}.sum()"))
    assert all(each.holds(dimensions) for each in selection.conditions) is holds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a metric with its interval"),
        ("CpuUtilization", "a metric with its interval"),
        ("CpuUtilization.mean()", "a metric with its interval"),
        ("M[1m]", ". expected at character 6, not 'the end'"),
        ("M[1m].mean", "( expected"),
        ("M[1m].average()", "a statistic (avg, "),
        ("M[1m].percentile(99)", "a share from 0 to 1"),
        ("M[1m].mean() >", "a metric with its interval"),
        ("M[1m].mean() > 1 2", "an operator or the end expected at character 18"),
        ("M[1m].mean() in (1)", ", expected"),
        ("M[1m].mean() not 1", "in expected"),
        ("M[7s].mean()", "the interval '7s'"),
        ("M[2d].mean()", "the interval '2d'"),
        ("M[0m].mean()", "the interval '0m'"),
        ("M[1m]{a}.mean()", "=, !=, =~"),
        ("M[1m]{a = b}.mean()", "a value in quotes"),
        ('M[1m]{a = "x" b = "y"}.mean()', "a comma or }"),
        ('M[1m]{a = "x}.mean()', "cannot be read"),
        ("M[1m].groupBy().mean()", "the name of a dimension"),
        ("(M[1m].mean()).rate()", "rate() goes with a metric"),
        ("1 > 2", "names no metric"),
        ("M[1m].mean() # 3", "'# 3' cannot be read"),
        ("(" * 31 + "M[1m].mean()" + ")" * 31, "30 deep"),
        ("M[1m].mean()" + " " * 4000, "may have 4000 characters"),
        ("- M[1m].mean()", "a number expected at character 3"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, told):
    with pytest.raises(InvalidParameter) as caught:
        parse(text)
    assert told in caught.value.message


def test_a_pattern_of_many_stars_takes_no_time():
    (selection,) = selections(parse('M[1m]{a =~ "' + "*a" * 200 + '*b"}.sum()'))
    assert not selection.conditions[0].holds({"a": "a" * 100_000})


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("5", None)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
