"""The query language of resource searches: what it means, and what is said of what it does not."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from havre.domain.errors import InvalidParameter
from havre.domain.resource_query import (
    MAX_DEPTH,
    MAX_QUERY_LENGTH,
    AllOf,
    AnyOf,
    Comparison,
    FromNow,
    Not,
    ResourceQuery,
    SortKey,
    read_resource_query,
)


def where(text: str):
    return read_resource_query(f"query all resources where {text}").where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query all resources", ResourceQuery()),
        ("QUERY All Resources", ResourceQuery()),
        (
            "query DataScienceModel, log resources",
            ResourceQuery(("datasciencemodel", "log")),
        ),
        ("query log, all resources", ResourceQuery()),
        (
            "query log resources return allAdditionalFields",
            ResourceQuery(("log",), ("alladditionalfields",)),
        ),
        (
            "query log resources return description, createdBy matching 'a b'",
            ResourceQuery(("log",), ("description", "createdby"), matching="a b"),
        ),
        (
            "query all resources sorted by timeCreated desc, displayName",
            ResourceQuery(sorted_by=(SortKey("timecreated", True), SortKey("displayname"))),
        ),
        (
            "query\n  all resources\n  where\n    x='1'\n  matching \"y\"\n sorted by x ASC\n",
            ResourceQuery(where=Comparison("x", "=", "1"), matching="y", sorted_by=(SortKey("x"),)),
        ),
    ],
)
def test_clauses(text: str, expected: ResourceQuery) -> None:
    assert read_resource_query(text) == expected


A, B, C = (Comparison(name, "=", "1") for name in "abc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a='1'", A),
        ("(a = '1')", A),
        ("a='1' && b='1'", AllOf((A, B))),
        ("a='1' AND b='1' and c='1'", AllOf((A, B, C))),
        ("a='1' || b='1' && c='1'", AnyOf((A, AllOf((B, C))))),
        ("(a='1' or b='1') && c='1'", AllOf((AnyOf((A, B)), C))),
        ("(a='1' && b='1') && c='1'", AllOf((AllOf((A, B)), C))),
        ("!(a='1')", Not(A)),
        ("not (a='1' && b='1')", Not(AllOf((A, B)))),
        ("a in ('1', '1')", AnyOf((A, A))),
        ("a not in ('1')", Not(AnyOf((A,)))),
        ("freeformTags.key = 'k'", Comparison("freeformtags.key", "=", "k")),
        ('a = "it\'s"', Comparison("a", "=", "it's")),
        (r"a = 'it\'s'", Comparison("a", "=", "it's")),
        ("a = 3", Comparison("a", "=", 3.0)),
        ("a != -2.5", Comparison("a", "!=", -2.5)),
        ("a = true", Comparison("a", "=", True)),
        ("a > now", Comparison("a", ">", FromNow())),
        ("a >= Now - 7d", Comparison("a", ">=", FromNow(timedelta(days=-7)))),
        ("a < now+12h", Comparison("a", "<", FromNow(timedelta(hours=12)))),
        ("a >= today", Comparison("a", ">=", FromNow(is_today=True))),
        *((f"a {sign} '1'", Comparison("a", sign, "1")) for sign in ("==", "!==", "=~", "!~")),
    ],
)
def test_conditions(text: str, expected: object) -> None:
    assert where(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'query' was expected at character 1, not the end"),
        ("drop table", "'query' was expected at character 1, not 'drop'"),
        ("query resources", "'resources' was expected"),
        ("query log", "'resources' was expected at character 10, not the end"),
        ("query log resources where", "a field was expected"),
        ("query log resources where a", "one of = =="),
        ("query log resources where a = b", "a value: 'text' in quotes"),
        ("query log resources where a = 'b", "begins nothing"),
        ("query log resources where a = 'b' &&", "a field was expected"),
        ("query log resources where (a = 'b'", "'\\)' was expected"),
        ("query log resources where a in 'b'", "'\\(' was expected"),
        ("query log resources where a > now - 3 d", "a span of time"),
        ("query log resources where a > now - 99999999d", "a span of time"),
        ("query log resources matching a", "a text in quotes"),
        ("query log resources sorted timeCreated", "'by' was expected"),
        ("query log resources sorted by a where b='1'", "the end, or one of return"),
        ("query log resources where a='1'; drop", "character 32 \\(';'\\)"),
        ("query log resources where " + "(" * 40 + "a='1'" + ")" * 40, f"nested {MAX_DEPTH} deep"),
        ("query " + "x" * MAX_QUERY_LENGTH, "10000 characters"),
    ],
)
def test_what_is_not_of_the_language_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        read_resource_query(text)


@given(st.text(alphabet="query resources where()'\"=!~&|<>,.\\ 1d-now", max_size=80))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    try:
        read_resource_query(text)
    except InvalidParameter:
        return
