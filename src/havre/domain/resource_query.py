"""Reads the query language of resource searches. Knows its grammar, not which fields there are.

::

    query     = "query" type {"," type} "resources" ["return" field {"," field}]
                ["where" condition] ["matching" text] ["sorted by" field [order] {"," …}]
    condition = all {("||" | "or") all}
    all       = single {("&&" | "and") single}
    single    = ["!" | "not"] "(" condition ")" | field comparison value
              | field ["not"] "in" "(" value {"," value} ")"
    value     = 'text' | "text" | number | true | false | "now" [("+" | "-") 3d] | "today"

Words of the language may be in any case.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from havre.domain.errors import InvalidParameter

MAX_QUERY_LENGTH = 10_000
MAX_DEPTH = 30
ALL = "all"
EVERY_FIELD = "alladditionalfields"

COMPARISONS = ("=", "==", "!=", "!==", "=~", "!~", "<", "<=", ">", ">=")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<number>-?\d+(?:\.\d+)?(?![\w.]))
    |(?P<span>\d+[smhdw]\b)
    |(?P<word>[A-Za-z_][\w.-]*)
    |(?P<sign>!==|==|!=|=~|!~|<=|>=|&&|\|\||[!=<>(),+-])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class FromNow:
    """A moment that is settled when the query runs; ``today`` is the last midnight, UTC."""

    offset: timedelta = timedelta(0)
    is_today: bool = False


Value = str | float | bool | FromNow


@dataclass(frozen=True, slots=True)
class Comparison:
    """``field`` is in lower case, as are the names of the tags' parts: ``freeformtags.key``."""

    field: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class AllOf:
    """Conditions joined by ``&&`` in one pair of parentheses: on tags they mean one tag."""

    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Condition"


Condition = Comparison | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True)
class SortKey:
    field: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """Names of types and fields are in lower case. ``types`` is empty for all of them."""

    types: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    where: Condition | None = None
    matching: str = ""
    sorted_by: tuple[SortKey, ...] = ()


def read_resource_query(text: str) -> ResourceQuery:
    """Raises InvalidParameter, saying where and what was expected."""
    if len(text) > MAX_QUERY_LENGTH:
        raise InvalidParameter(f"query may have {MAX_QUERY_LENGTH} characters")
    return _Reader(text).query()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def query(self) -> ResourceQuery:
        self._expect("query")
        types = [self._name("a resource type")]
        while self._take(","):
            types.append(self._name("a resource type"))
        self._expect("resources")
        returned: list[str] = []
        where: Condition | None = None
        matching = ""
        keys: list[SortKey] = []
        if self._take("return"):
            returned = [self._name("a field")]
            while self._take(","):
                returned.append(self._name("a field"))
        if self._take("where"):
            where = self._any_of()
        if self._take("matching"):
            matching = self._text()
        if self._take("sorted"):
            self._expect("by")
            keys = [self._key()]
            while self._take(","):
                keys.append(self._key())
        if self._peek().kind != "end":
            self._fail("the end, or one of return, where, matching and sorted by, in this order")
        chosen = () if ALL in types else tuple(dict.fromkeys(types))
        return ResourceQuery(chosen, tuple(returned), where, matching, tuple(keys))

    def _any_of(self) -> Condition:
        parts = [self._all_of()]
        while self._take("||", "or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all_of(self) -> Condition:
        parts = [self._single()]
        while self._take("&&", "and"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _single(self) -> Condition:
        if self._take("!", "not"):
            return self._nested(lambda: Not(self._single()))
        if self._take("("):
            inner = self._nested(self._any_of)
            self._expect(")")
            return inner
        field = self._name("a field")
        if self._take("not"):
            self._expect("in")
            return Not(self._in(field))
        if self._take("in"):
            return self._in(field)
        operator = self._peek().text
        if operator not in COMPARISONS:
            self._fail(f"one of {' '.join(COMPARISONS)}, or in")
        self._at += 1
        return Comparison(field, operator, self._value())

    def _nested(self, read: Callable[[], Condition]) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidParameter(f"query: conditions may be nested {MAX_DEPTH} deep")
        inner = read()
        self._depth -= 1
        return inner

    def _in(self, field: str) -> Condition:
        self._expect("(")
        parts = [Comparison(field, "=", self._value())]
        while self._take(","):
            parts.append(Comparison(field, "=", self._value()))
        self._expect(")")
        return AnyOf(tuple(parts))

    def _value(self) -> Value:
        token = self._peek()
        if token.kind == "text":
            return self._text()
        if token.kind == "number":
            self._at += 1
            return float(token.text)
        if self._take("true", "false"):
            return token.text.lower() == "true"
        if self._take("now", "today"):
            return FromNow(self._offset(), token.text.lower() == "today")
        return self._fail("a value: 'text' in quotes, a number, true, false, now or today")

    def _offset(self) -> timedelta:
        sign = -1 if self._take("-") else 1 if self._take("+") else 0
        if not sign:
            return timedelta(0)
        span = self._peek()
        if span.kind != "span" or len(span.text) > 7:
            self._fail("a span of time such as 30m, 12h, 7d or 2w")
        self._at += 1
        return sign * timedelta(**{_UNITS[span.text[-1].lower()]: int(span.text[:-1])})

    def _key(self) -> SortKey:
        field = self._name("a field")
        if self._take("asc", "desc"):
            return SortKey(field, self._tokens[self._at - 1].text.lower() == "desc")
        return SortKey(field)

    def _text(self) -> str:
        token = self._peek()
        if token.kind != "text":
            self._fail("a text in quotes")
        self._at += 1
        return _ESCAPED.sub(r"\1", token.text[1:-1])

    def _name(self, what: str) -> str:
        token = self._peek()
        if token.kind != "word":
            self._fail(what)
        self._at += 1
        return token.text.lower()

    def _take(self, *words: str) -> bool:
        token = self._peek()
        if token.kind in ("word", "sign") and token.text.lower() in words:
            self._at += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take(word):
            self._fail(repr(word))

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _fail(self, expected: str) -> NoReturn:
        token = self._peek()
        actual = "the end" if token.kind == "end" else repr(token.text[:50])
        raise InvalidParameter(
            f"query: {expected} was expected at character {token.start + 1}, not {actual}; it "
            "reads query TYPE resources where FIELD = 'value' && … sorted by FIELD desc"
        )


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidParameter(
                f"query: character {at + 1} ({text[at]!r}) begins nothing of the query language; "
                "texts are in quotes"
            )
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return [*tokens, _Token("end", "", len(text))]
