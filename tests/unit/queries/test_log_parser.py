"""The language of log searches, read."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.errors import InvalidParameter, RelatedNotFound
from havre.domain.logs import (
    Category,
    LogAddress,
    Scope,
    all_categories,
    built_in_group,
    built_in_log,
    require_known,
    streams_of,
)
from havre.queries.log_ast import (
    Aggregate,
    And,
    Arithmetic,
    Call,
    Comparison,
    Dedup,
    Extend,
    Field,
    Limit,
    LogQuery,
    NamedExpression,
    Not,
    Null,
    Number,
    Or,
    Select,
    Sort,
    SortKey,
    Summarize,
    Text,
    Where,
)
from havre.queries.log_parser import parse_query, quote_text

STATUS, MESSAGE, MOMENT = Field("data.status"), Field("data.message"), Field("datetime")


def stages(text: str):
    return parse_query(f'search "c" | {text}').stages


def condition(text: str):
    [stage] = stages(text)
    assert isinstance(stage, Where)
    return stage.condition


def test_what_ads_sends() -> None:
    assert parse_query(
        "SEARCH \"c/g/l\" | WHERE source = '*ocid1.x' AND data.status >= 500"
        " | SORT BY datetime DESC"
    ) == LogQuery(
        (Scope("c", "g", "l"),),
        (
            Where(
                And(
                    (
                        Comparison("=", Field("source"), Text(("", "ocid1.x"))),
                        Comparison(">=", STATUS, Number(500)),
                    )
                )
            ),
            Sort((SortKey(MOMENT, is_descending=True),)),
        ),
    )


def test_scopes() -> None:
    scopes = (Scope("a"), Scope("b", "g"), Scope("c", "g", "l"))
    for text in ('"a", "b/g", "c/g/l"', '"a" "b/g" "c/g/l"', '"a","b/g" "c/g/l"'):
        assert parse_query(f"search {text}").scopes == scopes


def test_stages() -> None:
    assert stages("top 3 by n") == (Sort((SortKey(Field("n"), is_descending=True),)), Limit(3))
    assert stages("dedup source, type") == (Dedup((Field("source"), Field("type"))),)
    assert stages("count") == (Summarize((Aggregate("count", None, "count"),), ()),)
    assert stages("select *, id as who, data.status") == (
        Select(
            (NamedExpression(Field("id"), "who"), NamedExpression(STATUS, "data.status")),
            is_whole=True,
        ),
    )
    assert stages("extend data.status + 1 as 'more'") == (
        Extend((NamedExpression(Arithmetic("+", STATUS, Number(1)), "more"),)),
    )
    assert stages(
        "summarize count() as n, AVG( data.status ) by source, rounddown(datetime, '1m')"
    ) == (
        Summarize(
            (Aggregate("count", None, "n"), Aggregate("avg", STATUS, "AVG( data.status )")),
            (
                NamedExpression(Field("source"), "source"),
                NamedExpression(Call("rounddown", (MOMENT, Text(("1m",)))), "datetime"),
            ),
        ),
    )
    assert stages("/* all */ sort by type -- and\n, id desc") == (
        Sort((SortKey(Field("type")), SortKey(Field("id"), is_descending=True))),
    )


def test_conditions() -> None:
    fails = Comparison(">", STATUS, Number(499))
    assert condition("data.status > 499") == condition("where (data.status>499)") == fails
    assert condition("logContent.data.status > 4.99e2") == fails
    assert condition("not data.status > 499") == Not(fails)
    a, b, c = (Comparison("=", Field(name), Number(1)) for name in "abc")
    assert condition("a = 1 or b == 1 and c = 1") == Or((a, And((b, c))))
    assert condition("(a = 1 or b = 1) AND c = 1") == And((Or((a, b)), c))
    assert condition("a in (1, 2)") == Or((a, Comparison("=", Field("a"), Number(2))))
    assert condition("a <> null") == Comparison("!=", Field("a"), Null())
    total = Arithmetic("-", Number(1), Arithmetic("*", Number(2), Number(-3)))
    assert condition("a = 1 - 2 * -3") == Comparison("=", Field("a"), total)
    assert condition("'it''s'") == Text(("it's",))


def test_names_and_texts_in_quotes() -> None:
    assert condition('"data"."message"') == condition('"data.message"') == MESSAGE
    assert condition('data."first ""name"""') == Field('data.first "name"')
    assert condition(r"'a\*b*\'c\\\d'") == Text(("a*b", "'c\\\\d"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at its end: expected search"),
        ("select *", "at character 1, 'select *': expected search"),
        ("search", "expected a scope"),
        ("search all", "in quotes"),
        ('search "a//b"', "expected a scope"),
        ('search "a" where b = 1', "expected | or the end"),
        ('search "a" |', "expected a field"),
        ('search "a" | b =', "at its end: expected a field, a 'text', a number or a function"),
        ('search "a" | (b = 1', "expected )"),
        ('search "a" | b = \'c', "expected the end of the quotes"),
        ('search "a" | b = 1;', "expected a word or a sign"),
        ('search "a" | sort datetime', "expected by"),
        ('search "a" | limit 0', "expected 1 to 10000"),
        ('search "a" | limit many', "expected a number of entries"),
        ('search "a" | top 5', "expected by"),
        ('search "a" | summarize median(b)', "expected one of count, sum, avg"),
        ('search "a" | summarize sum()', "expected a field"),
        ('search "a" | select b as 5', "expected a name"),
        ('search "a" | b = 1e999', "not so large"),
        (f'search "a" | {"(" * 31}b{")" * 31}', "at most 30 levels"),
        (f'search "a" | {"not " * 31} b = 1', "at most 30 levels"),
        (f'search "a" {"| count" * 51}', "at most 50 stages"),
        (f"search \"a\" | b = '{'c' * 10_000}'", "10000 characters"),
    ],
)
def test_a_refusal_says_where_and_what_was_expected(text, told) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_query(text)
    assert "searchQuery" in refused.value.message
    assert told in refused.value.message


PIECES = st.sampled_from(
    (
        *("search", "where", "sort by", "summarize", "count(", "by", "as", "not", "in", "null"),
        *('"c"', "'a*'", "'", '"', "|", ",", "(", ")", "=", "<", "-", "*", ".", "--", "/*", "*/"),
        *("data.status", "datetime", "5", "1e5", "desc", "limit", "\\", "é", "\n", "select", "$x"),
    )
)


@given(st.lists(PIECES, max_size=25), st.sampled_from(("", " ")))
def test_whatever_is_sent_is_read_or_refused(pieces, between) -> None:
    for text in (between.join(pieces), 'search "c" | ' + between.join(pieces)):
        with contextlib.suppress(InvalidParameter):
            assert isinstance(parse_query(text), LogQuery)


@given(st.text(max_size=50))
def test_a_quoted_text_stands_for_itself(text) -> None:
    assert condition(quote_text(text)) == Text((text,))


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=5), st.text("ab", max_size=12))
def test_a_star_stands_for_any_text(parts, text) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, parts)), text) is not None
    assert Text(tuple(parts)).matches(text) == expected


def test_what_every_entry_of_an_answer_has() -> None:
    query = parse_query(
        "search \"c\" | source = 'a' and (source = '*b' and data.status > 1) | where source = 'c'"
        " | sort by datetime | where source = 'd'"
    )
    assert [text.value for text in query.required_texts("source")] == ["a", "*b", "c"]
    either = parse_query("search \"c\" | source = 'a' or not source = 'b' | count")
    assert either.required_texts("source") == []


def test_a_deployment_has_a_log_for_each_category() -> None:
    mine = {"logId": "l", "logGroupId": "g"}
    built_in = {
        category: {"logGroupId": built_in_group("t"), "logId": built_in_log("t", category)}
        for category in Category
    }
    assert all_categories(None, "t") == all_categories({}, "t") == built_in
    assert all_categories({"access": mine}, "t") == {**built_in, Category.ACCESS: mine}
    assert len({*built_in_ids("t"), *built_in_ids("other")}) == 6


def built_in_ids(tenancy: str) -> list[str]:
    return [built_in_group(tenancy), *(built_in_log(tenancy, category) for category in Category)]


def test_a_log_that_an_earlier_version_stored_is_searched_by_its_name() -> None:
    details = {"access": {"logId": "old", "logGroupId": "gone"}}
    access, predict = streams_of("d", "c", details, known={}, tenancy="t")
    assert access.is_in(Scope("c", "gone", "old"))
    assert not access.is_in(Scope("c", "gone", "other"))
    assert not predict.is_in(Scope("c", "gone"))
    require_known(Scope("c", "gone", "old"), [], [access])
    require_known(Scope("nobody knows"), [], [])
    require_known(Scope("t", "name"), [LogAddress("t", "g", "name")], [])
    for scope in (Scope("c", "gone", "other"), Scope("c", "name")):
        with pytest.raises(RelatedNotFound, match="list log groups"):
            require_known(scope, [], [access])
