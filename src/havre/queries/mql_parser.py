"""Parses Monitoring's query language into a tree of the classes below. Pure.

::

    PredictLatency[1m]{resourceId = "ocid1…", result =~ "S*"}.groupBy(resourceId).percentile(0.99)
    (CpuUtilization[5m].mean() > 80 && QueueDepth[1m].max() >= 4).grouping().sum()

What each part means is in docs/reference/metrics.md; `havre.queries.mql_eval` evaluates it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from havre.domain.errors import InvalidParameter

MAX_QUERY_LENGTH = 4000
MAX_DEPTH = 30
MAX_INTERVAL_S = 86_400
PERIOD_S = 10
"""How often points are collected; an interval is a multiple of it."""
ABSENCE_S = 2 * 3600.0
"""How long `absent()` reports an absence by default."""

_ACROSS = ("avg", "count", "max", "mean", "min", "percentile", "sum")
STATISTICS = (*_ACROSS, "absent", "first", "increment", "last", "rate")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Condition:
    """``values`` are alternatives. ``is_pattern``: they may hold ``*``."""

    dimension: str
    values: tuple[str, ...]
    is_pattern: bool = False
    is_negated: bool = False

    def holds(self, dimensions: Mapping[str, str]) -> bool:
        """An absent dimension counts as empty."""
        value = dimensions.get(self.dimension, "")
        if self.is_pattern:
            matches = any(_is_like(pattern, value) for pattern in self.values)
        else:
            matches = value in self.values
        return matches is not self.is_negated


@dataclass(frozen=True, slots=True)
class Statistic:
    """``argument``: the share (0 to 1) of ``percentile``, the seconds of ``absent``."""

    name: str
    argument: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Points of one metric, aggregated. ``group`` None: each stream by itself."""

    metric: str
    interval_s: int
    conditions: tuple[Condition, ...]
    group: tuple[str, ...] | None
    statistic: Statistic


@dataclass(frozen=True, slots=True)
class Regrouping:
    """The values of several streams at the same moment, aggregated."""

    inner: "Query"
    group: tuple[str, ...]
    statistic: Statistic


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Between:
    """Whether a value is between two bounds, inclusive."""

    inner: "Query"
    low: float
    high: float
    is_negated: bool


@dataclass(frozen=True, slots=True)
class BinaryOperation:
    """``operator`` is one of ``+ - * / % > >= < <= == != && ||``."""

    operator: str
    left: "Query"
    right: "Query"


Query = Selection | Regrouping | Number | Between | BinaryOperation


def parse(text: str) -> Query:
    """Raises InvalidParameter, which says where the text cannot be parsed."""
    if len(text) > MAX_QUERY_LENGTH:
        raise InvalidParameter(f"query may have {MAX_QUERY_LENGTH} characters, not {len(text)}")
    return _Parser(text).query()


def selections(query: Query) -> list[Selection]:
    """Every metric that a query reads, in order."""
    if isinstance(query, Selection):
        return [query]
    if isinstance(query, BinaryOperation):
        return [*selections(query.left), *selections(query.right)]
    return [] if isinstance(query, Number) else selections(query.inner)


def parse_duration(text: str) -> int | None:
    """``90s``, ``5m``, ``1h``, ``1d`` in seconds; None if it is no duration."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    return int(match[1]) * _UNITS_S[match[2]] if match else None


_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<metric>[A-Za-z_$][\w.$-]{0,254}+)(?=\s*\[)"
    r"|(?P<word>[A-Za-z_$][\w$]*)"
    r"|(?P<duration>\d+[smhd]\b)"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<sign>&&|\|\||=~|!~|[<>=!]=|[-+*/%<>=(){}\[\],.])"
    r")"
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent, one method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split()
        self._next = 0
        self._depth = 0

    def query(self) -> Query:
        query = self._disjunction()
        if self._token.kind != "end":
            self._fail("an operator or the end")
        if not selections(query):
            raise InvalidParameter("query: it names no metric")
        return query

    def _split(self) -> list[_Token]:
        tokens, at, end = [], 0, len(self._text.rstrip())
        while at < end:
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None:
                raise InvalidParameter(f"query: {self._text[at:].strip()[:20]!r} cannot be read")
            tokens.append(
                _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            )
            at = match.end()
        return [*tokens, _Token("end", "the end", end)]

    # Operators, in order of precedence, lowest first.

    def _disjunction(self) -> Query:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidParameter(f"query: parentheses may be {MAX_DEPTH} deep")
        query = self._left_to_right(("||",), self._conjunction)
        self._depth -= 1
        return query

    def _conjunction(self) -> Query:
        return self._left_to_right(("&&",), self._comparison)

    def _comparison(self) -> Query:
        left = self._sum()
        is_negated = self._accept_word("not")
        if self._accept_word("in"):
            low, high = self._bounds()
            return Between(left, low, high, is_negated)
        if is_negated:
            self._fail("in")
        if (sign := self._accept(">", ">=", "<", "<=", "==", "!=")) is not None:
            return BinaryOperation(sign, left, self._sum())
        return left

    def _sum(self) -> Query:
        return self._left_to_right(("+", "-"), self._product)

    def _product(self) -> Query:
        return self._left_to_right(("*", "/", "%"), self._operand)

    def _left_to_right(self, signs: Sequence[str], operand: Callable[[], Query]) -> Query:
        left = operand()
        while (sign := self._accept(*signs)) is not None:
            left = BinaryOperation(sign, left, operand())
        return left

    # Operands.

    def _operand(self) -> Query:
        if self._token.kind in ("number", "sign") and self._token.text != "(":
            return Number(self._number())
        if self._accept("(") is not None:
            inner = self._disjunction()
            self._expect(")")
            return self._regrouped(inner)
        if self._token.kind != "metric":
            self._fail("a metric with its interval, like PredictLatency[1m]")
        return self._selection()

    def _regrouped(self, inner: Query) -> Query:
        while self._token.text == ".":
            group = self._group() or ()
            statistic = self._statistic()
            if statistic.name not in _ACROSS:
                raise InvalidParameter(
                    f"query: {statistic.name}() goes with a metric, not with parentheses"
                )
            inner = Regrouping(inner, group, statistic)
        return inner

    def _selection(self) -> Selection:
        metric = self._advance().text
        interval_s = self._interval()
        conditions = self._conditions() if self._accept("{") is not None else ()
        return Selection(metric, interval_s, conditions, self._group(), self._statistic())

    def _interval(self) -> int:
        self._expect("[")
        text = self._advance().text
        interval_s = parse_duration(text)
        if interval_s is None or not 0 < interval_s <= MAX_INTERVAL_S or interval_s % PERIOD_S:
            raise InvalidParameter(
                f"query: the interval {text!r} must be 1m to 60m, 1h to 24h or 1d, or a multiple "
                f"of {PERIOD_S}s"
            )
        self._expect("]")
        return interval_s

    def _conditions(self) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        while self._accept("}") is None:
            if conditions and self._accept(",", "&&") is None:
                self._fail("a comma or }")
            conditions.append(self._condition())
        return tuple(conditions)

    def _condition(self) -> Condition:
        dimension = self._advance_if("word", "the name of a dimension").text
        is_negated = self._accept_word("not")
        if self._accept_word("in"):
            self._expect("(")
            values = [self._string()]
            while self._accept(",") is not None:
                values.append(self._string())
            self._expect(")")
            return Condition(dimension, tuple(values), is_negated=is_negated)
        sign = None if is_negated else self._accept("=", "==", "!=", "=~", "!~")
        if sign is None:
            self._fail("=, !=, =~, !~, in or not in")
        value, is_negated = self._string(), sign.startswith("!")
        if sign.endswith("~"):
            return Condition(dimension, tuple(value.split("|")), True, is_negated)
        return Condition(dimension, (value,), is_negated=is_negated)

    def _group(self) -> tuple[str, ...] | None:
        """Up to the dot before the statistic; None without a grouping."""
        self._expect(".")
        if not self._accept_word("grouping"):
            if not self._accept_word("groupBy"):
                return None
            names = self._names()
        else:
            self._expect("(")
            self._expect(")")
            names = ()
        self._expect(".")
        return names

    def _names(self) -> tuple[str, ...]:
        self._expect("(")
        names = [self._advance_if("word", "the name of a dimension").text]
        while self._accept(",") is not None:
            names.append(self._advance_if("word", "the name of a dimension").text)
        self._expect(")")
        return tuple(names)

    def _statistic(self) -> Statistic:
        """After its dot."""
        name = self._token.text
        if name not in STATISTICS:
            self._fail(f"a statistic ({', '.join(STATISTICS)})")
        self._advance()
        self._expect("(")
        argument = 0.0
        if name == "percentile":
            argument = self._number()
            if not 0 <= argument <= 1:
                raise InvalidParameter("query: percentile takes a share from 0 to 1, like 0.99")
        elif name == "absent":
            argument = self._absence_limit_s()
        self._expect(")")
        return Statistic("mean" if name == "avg" else name, argument)

    def _absence_limit_s(self) -> float:
        """A duration, or a number of hours."""
        if self._token.kind == "duration":
            return float(parse_duration(self._advance().text) or 0)
        return self._number() * 3600 if self._token.kind == "number" else ABSENCE_S

    def _bounds(self) -> tuple[float, float]:
        self._expect("(")
        low = self._number()
        self._expect(",")
        high = self._number()
        self._expect(")")
        return low, high

    def _number(self) -> float:
        sign = -1.0 if self._accept("-") is not None else 1.0
        return sign * float(self._advance_if("number", "a number").text)

    def _string(self) -> str:
        quoted = self._advance_if("string", "a value in quotes").text
        return re.sub(r"\\(.)", r"\1", quoted[1:-1])

    # Tokens.

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _advance_if(self, kind: str, expected: str) -> _Token:
        if self._token.kind != kind:
            self._fail(expected)
        return self._advance()

    def _accept(self, *signs: str) -> str | None:
        if self._token.kind == "sign" and self._token.text in signs:
            return self._advance().text
        return None

    def _accept_word(self, word: str) -> bool:
        if self._token.kind == "word" and self._token.text == word:
            self._advance()
            return True
        return False

    def _expect(self, sign: str) -> None:
        if self._accept(sign) is None:
            self._fail(sign)

    def _fail(self, expected: str) -> NoReturn:
        token = self._token
        raise InvalidParameter(
            f"query: {expected} expected at character {token.at + 1}, not {token.text[:40]!r}"
        )


def _is_like(pattern: str, value: str) -> bool:
    """Whether the whole value matches, ``*`` standing for anything; in linear time."""
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == value
    last = middle.pop()
    if not value.startswith(first) or len(value) < len(first) + len(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in middle:
        start = value.find(part, at, end)
        if start < 0:
            return False
        at = start + len(part)
    return value.endswith(last)
