"""Reads the language of log searches. It knows its grammar, not which fields and functions exist.

::

    query      = "search" scope { [","] scope } { "|" stage }
    scope      = '"compartment[/group[/log]]"'
    stage      = ["where"] condition | "sort by" key {"," key} | "limit" n | "top" n "by" expression
               | "select" item {"," item} | "extend" item {"," item} | "dedup" expression {"," …}
               | "count" | "summarize" aggregate {"," aggregate} ["by" item {"," item}]
    item       = expression ["as" name]

Words of the language may be in any case; comments are ``-- …`` and ``/* … */``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from havre.domain.errors import InvalidParameter
from havre.domain.log_query import (
    WHOLE,
    Aggregate,
    And,
    Arithmetic,
    Call,
    Comparison,
    Dedup,
    Expression,
    Extend,
    Field,
    Key,
    Limit,
    LogQuery,
    Named,
    Not,
    Null,
    Number,
    Or,
    Scope,
    Select,
    Sort,
    Stage,
    Summarize,
    Text,
    Truth,
    Where,
)

LONGEST_QUERY = 10_000
DEEPEST = 30
MOST_STAGES = 50
LARGEST_COUNT = 10_000
LONGEST_NAME = 100
AGGREGATES = ("count", "sum", "avg", "min", "max", "first", "last")

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\]|\\.|'')*')
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>\$?[A-Za-z_][A-Za-z_0-9]*)
    |(?P<sign><=|>=|!=|<>|==|[|,.()=<>*/+-])""",
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(r"\\(.)|('')|(\*)|(.)", re.DOTALL)
_ONE_SIGN = {"==": "=", "<>": "!="}
_STAGES = frozenset({"where", "sort", "limit", "top", "select", "extend", "dedup", "summarize"})
_COMPARISONS = frozenset({"=", "==", "!=", "<>", "<", "<=", ">", ">="})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def read_query(text: str) -> LogQuery:
    """Raises InvalidParameter, saying where and what was expected."""
    if len(text) > LONGEST_QUERY:
        raise InvalidParameter(f"searchQuery may have {LONGEST_QUERY} characters")
    return _Reader(text).query()


def quote_text(text: str) -> str:
    """A literal of the language that stands for exactly this text."""
    return "'" + re.sub(r"[\\'*]", lambda found: "\\" + found[0], text) + "'"


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0

    def query(self) -> LogQuery:
        self._expect_word("search")
        scopes = [self._scope()]
        while self._take_sign(",") or self._next.kind in ("quoted", "text"):
            scopes.append(self._scope())
        stages: list[Stage] = []
        while self._take_sign("|"):
            stages += self._stage()
            if len(stages) > MOST_STAGES:
                self._fail(f"at most {MOST_STAGES} stages")
        if self._next.kind != "end":
            self._fail("| or the end")
        return LogQuery(tuple(scopes), tuple(stages))

    def _scope(self) -> Scope:
        token = self._next
        if token.kind not in ("quoted", "text"):
            self._fail('a scope: "<compartment OCID>[/<log group>[/<log>]]", in quotes')
        parts = token.text[1:-1].split("/")
        if len(parts) > 3 or not all(parts):
            self._fail('a scope: "<compartment OCID>[/<log group>[/<log>]]"')
        self._place += 1
        return Scope(*parts)

    def _stage(self) -> tuple[Stage, ...]:
        word = self._word()
        if word == "count" and self._peek().text in ("|", ""):
            self._place += 1
            return (Summarize((Aggregate("count", None, "count"),), ()),)
        if word not in _STAGES:
            return (Where(self._condition()),)
        self._place += 1
        if word == "where":
            return (Where(self._condition()),)
        if word == "sort":
            self._expect_word("by")
            return (Sort(self._several(self._key)),)
        if word in ("limit", "top"):
            count = Limit(self._count())
            return (count,) if word == "limit" else (self._greatest(), count)
        if word == "select":
            return (self._select(),)
        if word == "extend":
            return (Extend(self._several(self._named)),)
        if word == "dedup":
            return (Dedup(self._several(self._sum)),)
        return (self._summarize(),)

    def _greatest(self) -> Sort:
        self._expect_word("by")
        return Sort((Key(self._sum(), is_descending=True),))

    def _select(self) -> Select:
        is_whole = False
        items: list[Named] = []
        while True:
            if self._take_sign("*"):
                is_whole = True
            else:
                items.append(self._named())
            if not self._take_sign(","):
                return Select(tuple(items), is_whole)

    def _summarize(self) -> Summarize:
        aggregates = self._several(self._aggregate)
        groups = self._several(self._named) if self._take_word("by") else ()
        return Summarize(aggregates, groups)

    def _aggregate(self) -> Aggregate:
        start = self._next.start
        function = self._word()
        if function not in AGGREGATES or self._peek().text != "(":
            self._fail(f"one of {', '.join(AGGREGATES)}, with what it is of: count(), sum(…)")
        self._place += 2
        is_bare = self._next.text == ")" and function == "count"
        operand = None if is_bare else self._sum()
        self._expect_sign(")")
        written = function if operand is None else self._written(start)
        return Aggregate(function, operand, self._name(written))

    def _named(self) -> Named:
        start = self._next.start
        expression = self._sum()
        written = self._written(start)
        match expression:
            case Field():
                written = written.replace('"', "")
            case Call("rounddown", (Field("datetime"), *_)):
                written = "datetime"  # what clients look for when they draw a line over time
        return Named(expression, self._name(written))

    def _name(self, written: str) -> str:
        """What follows ``as``; else the expression itself, as it was written."""
        if not self._take_word("as"):
            return written[:LONGEST_NAME]
        token = self._next
        if token.kind not in ("word", "quoted", "text") or len(token.text) > LONGEST_NAME:
            self._fail(f"a name of at most {LONGEST_NAME} characters")
        self._place += 1
        return token.text.strip("\"'")

    def _key(self) -> Key:
        expression = self._sum()
        if self._take_word("desc"):
            return Key(expression, is_descending=True)
        self._take_word("asc")
        return Key(expression)

    def _count(self) -> int:
        token = self._next
        if not token.text.isascii() or not token.text.isdigit() or not 1 <= len(token.text) <= 9:
            self._fail("a number of entries")
        if not 1 <= int(token.text) <= LARGEST_COUNT:
            self._fail(f"1 to {LARGEST_COUNT}")
        self._place += 1
        return int(token.text)

    def _condition(self) -> Expression:
        return self._joined("or", lambda: self._joined("and", self._negated, And), Or)

    def _joined(
        self, word: str, operand: Callable[[], Expression], join: type[And] | type[Or]
    ) -> Expression:
        operands = [operand()]
        while self._take_word(word):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else join(tuple(operands))

    def _negated(self) -> Expression:
        if self._word() == "not":
            self._place += 1
            return Not(self._deeper(self._negated))
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._sum()
        sign = self._next.text
        if self._next.kind == "sign" and sign in _COMPARISONS:
            self._place += 1
            return Comparison(_ONE_SIGN.get(sign, sign), left, self._sum())
        if self._take_word("in"):
            self._expect_sign("(")
            choices = self._several(self._sum)
            self._expect_sign(")")
            return Or(tuple(Comparison("=", left, choice) for choice in choices))
        return left

    def _sum(self) -> Expression:
        return self._arithmetic("+-", lambda: self._arithmetic("*/", self._signed))

    def _arithmetic(self, signs: str, operand: Callable[[], Expression]) -> Expression:
        left = operand()
        while self._next.kind == "sign" and self._next.text in signs:
            sign = self._next.text
            self._place += 1
            left = Arithmetic(sign, left, operand())
        return left

    def _signed(self) -> Expression:
        if self._take_sign("-"):
            operand = self._deeper(self._signed)
            if isinstance(operand, Number):
                return Number(-operand.value)
            return Arithmetic("-", Number(0), operand)
        self._take_sign("+")
        return self._operand()

    def _operand(self) -> Expression:
        token = self._next
        if token.kind == "number":
            self._place += 1
            return Number(self._number(token))
        if token.kind == "text":
            self._place += 1
            return _text(token.text)
        if self._take_sign("("):
            inner = self._deeper(self._condition)
            self._expect_sign(")")
            return inner
        if token.kind == "word" and self._peek().text == "(":
            return self._call(token.text.lower())
        word = self._word()
        if word in ("true", "false"):
            self._place += 1
            return Truth(word == "true")
        if word == "null":
            self._place += 1
            return Null()
        if token.kind in ("word", "quoted"):
            return self._field()
        return self._fail("a field, a 'text', a number or a function")

    def _call(self, name: str) -> Expression:
        self._place += 2
        arguments: tuple[Expression, ...] = ()
        if self._next.text != ")":
            arguments = self._deeper(lambda: self._several(self._condition))
        self._expect_sign(")")
        return Call(name, arguments)

    def _field(self) -> Field:
        parts = []
        while True:
            token = self._next
            if token.kind not in ("word", "quoted"):
                self._fail("the name of a field")
            self._place += 1
            is_quoted = token.kind == "quoted"
            parts.append(token.text[1:-1].replace('""', '"') if is_quoted else token.text)
            if not self._take_sign("."):
                return Field(".".join(parts).removeprefix(f"{WHOLE}."))

    def _number(self, token: _Token) -> int | float:
        value = float(token.text)
        if abs(value) > 1e300:
            self._fail("a number that is not so large", token)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    def _several(self, read: Callable[[], T]) -> tuple[T, ...]:
        found = [read()]
        while self._take_sign(","):
            found.append(read())
        return tuple(found)

    def _deeper(self, read: Callable[[], T]) -> T:
        self._depth += 1
        if self._depth > DEEPEST:
            self._fail(f"at most {DEEPEST} levels of parentheses")
        found = read()
        self._depth -= 1
        return found

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _peek(self) -> _Token:
        return self._tokens[min(self._place + 1, len(self._tokens) - 1)]

    def _word(self) -> str:
        """The next token in lower case, if it is a word."""
        return self._next.text.lower() if self._next.kind == "word" else ""

    def _take_word(self, word: str) -> bool:
        is_next = self._word() == word
        self._place += is_next
        return is_next

    def _take_sign(self, sign: str) -> bool:
        is_next = self._next.kind == "sign" and self._next.text == sign
        self._place += is_next
        return is_next

    def _expect_word(self, word: str) -> None:
        if not self._take_word(word):
            self._fail(word)

    def _expect_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            self._fail(sign)

    def _written(self, start: int) -> str:
        return " ".join(self._text[start : self._tokens[self._place - 1].end].split())

    def _fail(self, expected: str, token: _Token | None = None) -> NoReturn:
        raise _refusal(self._text, (token or self._next).start, expected)


def _tokens(text: str) -> list[_Token]:
    found = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            what = "the end of the quotes" if text[place] in "'\"" else "a word or a sign"
            raise _refusal(text, place, what)
        kind = match.lastgroup or ""
        if kind != "space":
            found.append(_Token(kind, match[0], match.start(), match.end()))
        place = match.end()
    return [*found, _Token("end", "", len(text), len(text))]


def _text(written: str) -> Text:
    """``\\'`` and ``''`` are a quote, ``\\*`` a star, ``\\\\`` a backslash; a bare star matches."""
    parts = [""]
    for escaped, doubled, star, other in _PIECE.findall(written[1:-1]):
        if star:
            parts.append("")
        elif escaped:
            parts[-1] += escaped if escaped in "'*\\\"" else "\\" + escaped
        else:
            parts[-1] += "'" if doubled else other
    return Text(tuple(parts))


def _refusal(text: str, place: int, expected: str) -> InvalidParameter:
    near = text[place : place + 30]
    where = f"at character {place + 1}, {near!r}" if near else "at its end"
    return InvalidParameter(f"searchQuery: {where}: expected {expected}")
