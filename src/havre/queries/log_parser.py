"""Parses log queries. It knows the grammar, not which fields and functions exist.

::

    query      = "search" scope { [","] scope } { "|" stage }
    scope      = '"compartment[/group[/log]]"'
    stage      = ["where"] condition | "sort by" key {"," key} | "limit" n | "top" n "by" expression
               | "select" item {"," item} | "extend" item {"," item} | "dedup" expression {"," …}
               | "count" | "summarize" aggregate {"," aggregate} ["by" item {"," item}]
    item       = expression ["as" name]

Keywords are case-insensitive; comments are ``-- …`` and ``/* … */``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from havre.domain.errors import InvalidParameter
from havre.domain.logs import Scope
from havre.queries.log_ast import (
    WHOLE_ENTRY,
    Aggregate,
    And,
    Arithmetic,
    Boolean,
    Call,
    Comparison,
    Dedup,
    Expression,
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
    Stage,
    Summarize,
    Text,
    Where,
)

MAX_QUERY_LENGTH = 10_000
MAX_DEPTH = 30
MAX_STAGES = 50
MAX_COUNT = 10_000
MAX_NAME_LENGTH = 100
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


def parse_query(text: str) -> LogQuery:
    """Raises InvalidParameter, which says where and what was expected."""
    if len(text) > MAX_QUERY_LENGTH:
        raise InvalidParameter(f"searchQuery may have {MAX_QUERY_LENGTH} characters")
    return _Parser(text).query()


def quote_text(text: str) -> str:
    """A literal of the language that stands for exactly this text."""
    return "'" + re.sub(r"[\\'*]", lambda match: "\\" + match[0], text) + "'"


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._index = 0
        self._depth = 0

    def query(self) -> LogQuery:
        self._expect_word("search")
        scopes = [self._scope()]
        while self._accept_sign(",") or self._next.kind in ("quoted", "text"):
            scopes.append(self._scope())
        stages: list[Stage] = []
        while self._accept_sign("|"):
            stages += self._stage()
            if len(stages) > MAX_STAGES:
                self._fail(f"at most {MAX_STAGES} stages")
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
        self._index += 1
        return Scope(*parts)

    def _stage(self) -> tuple[Stage, ...]:
        word = self._word()
        if word == "count" and self._peek().text in ("|", ""):
            self._index += 1
            return (Summarize((Aggregate("count", None, "count"),), ()),)
        if word not in _STAGES:
            return (Where(self._condition()),)
        self._index += 1
        if word == "where":
            return (Where(self._condition()),)
        if word == "sort":
            self._expect_word("by")
            return (Sort(self._list_of(self._key)),)
        if word in ("limit", "top"):
            count = Limit(self._count())
            return (count,) if word == "limit" else (self._descending_sort(), count)
        if word == "select":
            return (self._select(),)
        if word == "extend":
            return (Extend(self._list_of(self._named)),)
        if word == "dedup":
            return (Dedup(self._list_of(self._sum)),)
        return (self._summarize(),)

    def _descending_sort(self) -> Sort:
        self._expect_word("by")
        return Sort((SortKey(self._sum(), is_descending=True),))

    def _select(self) -> Select:
        is_whole = False
        items: list[NamedExpression] = []
        while True:
            if self._accept_sign("*"):
                is_whole = True
            else:
                items.append(self._named())
            if not self._accept_sign(","):
                return Select(tuple(items), is_whole)

    def _summarize(self) -> Summarize:
        aggregates = self._list_of(self._aggregate)
        groups = self._list_of(self._named) if self._accept_word("by") else ()
        return Summarize(aggregates, groups)

    def _aggregate(self) -> Aggregate:
        start = self._next.start
        function = self._word()
        if function not in AGGREGATES or self._peek().text != "(":
            self._fail(f"one of {', '.join(AGGREGATES)}, with what it is of: count(), sum(…)")
        self._index += 2
        is_bare = self._next.text == ")" and function == "count"
        operand = None if is_bare else self._sum()
        self._expect_sign(")")
        written = function if operand is None else self._source_text(start)
        return Aggregate(function, operand, self._name(written))

    def _named(self) -> NamedExpression:
        start = self._next.start
        expression = self._sum()
        written = self._source_text(start)
        match expression:
            case Field():
                written = written.replace('"', "")
            case Call("rounddown", (Field("datetime"), *_)):
                written = "datetime"  # what clients look for when they draw a chart over time
        return NamedExpression(expression, self._name(written))

    def _name(self, default: str) -> str:
        """What follows ``as``; else the text of the expression."""
        if not self._accept_word("as"):
            return default[:MAX_NAME_LENGTH]
        token = self._next
        if token.kind not in ("word", "quoted", "text") or len(token.text) > MAX_NAME_LENGTH:
            self._fail(f"a name of at most {MAX_NAME_LENGTH} characters")
        self._index += 1
        return token.text.strip("\"'")

    def _key(self) -> SortKey:
        expression = self._sum()
        if self._accept_word("desc"):
            return SortKey(expression, is_descending=True)
        self._accept_word("asc")
        return SortKey(expression)

    def _count(self) -> int:
        token = self._next
        if not token.text.isascii() or not token.text.isdigit() or not 1 <= len(token.text) <= 9:
            self._fail("a number of entries")
        if not 1 <= int(token.text) <= MAX_COUNT:
            self._fail(f"1 to {MAX_COUNT}")
        self._index += 1
        return int(token.text)

    def _condition(self) -> Expression:
        return self._joined("or", lambda: self._joined("and", self._negated, And), Or)

    def _joined(
        self, word: str, operand: Callable[[], Expression], join: type[And] | type[Or]
    ) -> Expression:
        operands = [operand()]
        while self._accept_word(word):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else join(tuple(operands))

    def _negated(self) -> Expression:
        if self._word() == "not":
            self._index += 1
            return Not(self._nested(self._negated))
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._sum()
        sign = self._next.text
        if self._next.kind == "sign" and sign in _COMPARISONS:
            self._index += 1
            return Comparison(_ONE_SIGN.get(sign, sign), left, self._sum())
        if self._accept_word("in"):
            self._expect_sign("(")
            choices = self._list_of(self._sum)
            self._expect_sign(")")
            return Or(tuple(Comparison("=", left, choice) for choice in choices))
        return left

    def _sum(self) -> Expression:
        return self._arithmetic("+-", lambda: self._arithmetic("*/", self._signed))

    def _arithmetic(self, signs: str, operand: Callable[[], Expression]) -> Expression:
        left = operand()
        while self._next.kind == "sign" and self._next.text in signs:
            sign = self._next.text
            self._index += 1
            left = Arithmetic(sign, left, operand())
        return left

    def _signed(self) -> Expression:
        if self._accept_sign("-"):
            operand = self._nested(self._signed)
            if isinstance(operand, Number):
                return Number(-operand.value)
            return Arithmetic("-", Number(0), operand)
        self._accept_sign("+")
        return self._operand()

    def _operand(self) -> Expression:
        token = self._next
        if token.kind == "number":
            self._index += 1
            return Number(self._number(token))
        if token.kind == "text":
            self._index += 1
            return _text(token.text)
        if self._accept_sign("("):
            inner = self._nested(self._condition)
            self._expect_sign(")")
            return inner
        if token.kind == "word" and self._peek().text == "(":
            return self._call(token.text.lower())
        word = self._word()
        if word in ("true", "false"):
            self._index += 1
            return Boolean(word == "true")
        if word == "null":
            self._index += 1
            return Null()
        if token.kind in ("word", "quoted"):
            return self._field()
        return self._fail("a field, a 'text', a number or a function")

    def _call(self, name: str) -> Expression:
        self._index += 2
        arguments: tuple[Expression, ...] = ()
        if self._next.text != ")":
            arguments = self._nested(lambda: self._list_of(self._condition))
        self._expect_sign(")")
        return Call(name, arguments)

    def _field(self) -> Field:
        parts = []
        while True:
            token = self._next
            if token.kind not in ("word", "quoted"):
                self._fail("the name of a field")
            self._index += 1
            is_quoted = token.kind == "quoted"
            parts.append(token.text[1:-1].replace('""', '"') if is_quoted else token.text)
            if not self._accept_sign("."):
                return Field(".".join(parts).removeprefix(f"{WHOLE_ENTRY}."))

    def _number(self, token: _Token) -> int | float:
        value = float(token.text)
        if abs(value) > 1e300:
            self._fail("a number that is not so large", token)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    def _list_of(self, parse: Callable[[], T]) -> tuple[T, ...]:
        items = [parse()]
        while self._accept_sign(","):
            items.append(parse())
        return tuple(items)

    def _nested(self, parse: Callable[[], T]) -> T:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"at most {MAX_DEPTH} levels of parentheses")
        result = parse()
        self._depth -= 1
        return result

    @property
    def _next(self) -> _Token:
        return self._tokens[self._index]

    def _peek(self) -> _Token:
        return self._tokens[min(self._index + 1, len(self._tokens) - 1)]

    def _word(self) -> str:
        """The next token in lower case, if it is a word."""
        return self._next.text.lower() if self._next.kind == "word" else ""

    def _accept_word(self, word: str) -> bool:
        is_next = self._word() == word
        self._index += is_next
        return is_next

    def _accept_sign(self, sign: str) -> bool:
        is_next = self._next.kind == "sign" and self._next.text == sign
        self._index += is_next
        return is_next

    def _expect_word(self, word: str) -> None:
        if not self._accept_word(word):
            self._fail(word)

    def _expect_sign(self, sign: str) -> None:
        if not self._accept_sign(sign):
            self._fail(sign)

    def _source_text(self, start: int) -> str:
        return " ".join(self._text[start : self._tokens[self._index - 1].end].split())

    def _fail(self, expected: str, token: _Token | None = None) -> NoReturn:
        raise _error(self._text, (token or self._next).start, expected)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            what = "the end of the quotes" if text[offset] in "'\"" else "a word or a sign"
            raise _error(text, offset, what)
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match[0], match.start(), match.end()))
        offset = match.end()
    return [*tokens, _Token("end", "", len(text), len(text))]


def _text(literal: str) -> Text:
    """``\\'`` and ``''`` are a quote, ``\\*`` a star, ``\\\\`` a backslash; a bare star matches."""
    parts = [""]
    for escaped, doubled, star, other in _PIECE.findall(literal[1:-1]):
        if star:
            parts.append("")
        elif escaped:
            parts[-1] += escaped if escaped in "'*\\\"" else "\\" + escaped
        else:
            parts[-1] += "'" if doubled else other
    return Text(tuple(parts))


def _error(text: str, offset: int, expected: str) -> InvalidParameter:
    near = text[offset : offset + 30]
    where = f"at character {offset + 1}, {near!r}" if near else "at its end"
    return InvalidParameter(f"searchQuery: {where}: expected {expected}")
