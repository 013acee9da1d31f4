"""The syntax tree of a log query: scopes, and stages that a stream of entries passes through.

The language is that of OCI's log search; `log_parser.py` parses it. A field is named by its path in
an entry without the leading ``logContent``: ``data.status``, ``source``, ``datetime``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from havre.domain.logs import Scope

WHOLE_ENTRY = "logContent"
"""The field that stands for every value of an entry."""


@dataclass(frozen=True, slots=True)
class Field:
    path: str


@dataclass(frozen=True, slots=True)
class Text:
    """A literal. ``parts`` are the texts between its wildcards: several, if it has any."""

    parts: tuple[str, ...]

    @property
    def value(self) -> str:
        return "*".join(self.parts)

    @property
    def is_pattern(self) -> bool:
        return len(self.parts) > 1

    def matches(self, text: str) -> bool:
        first, *rest = self.parts
        if not rest:
            return text == first
        *middle, last = rest
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last):
            return False
        offset = len(first)
        for part in middle:
            start = text.find(part, offset)
            if start < 0:
                return False
            offset = start + len(part)
        return offset <= end


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float


@dataclass(frozen=True, slots=True)
class Boolean:
    value: bool


@dataclass(frozen=True, slots=True)
class Null:
    pass


@dataclass(frozen=True, slots=True)
class Call:
    """``name`` is in lower case; whether there is such a function has not been checked."""

    name: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``operator``: ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``."""

    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Not:
    operand: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple["Expression", ...]


Expression = (
    Field | Text | Number | Boolean | Null | Call | Arithmetic | Comparison | Not | And | Or
)


@dataclass(frozen=True, slots=True)
class NamedExpression:
    """An expression and its name in the result."""

    expression: Expression
    name: str


@dataclass(frozen=True, slots=True)
class SortKey:
    """What to sort by."""

    expression: Expression
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``operand`` None: counts rows."""

    function: str
    operand: Expression | None
    name: str


@dataclass(frozen=True, slots=True)
class Where:
    condition: Expression


@dataclass(frozen=True, slots=True)
class Sort:
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    count: int


@dataclass(frozen=True, slots=True)
class Select:
    """``is_whole``: ``*`` is among the items."""

    items: tuple[NamedExpression, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Extend:
    items: tuple[NamedExpression, ...]


@dataclass(frozen=True, slots=True)
class Dedup:
    keys: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Summarize:
    aggregates: tuple[Aggregate, ...]
    groups: tuple[NamedExpression, ...]


Stage = Where | Sort | Limit | Select | Extend | Dedup | Summarize


@dataclass(frozen=True, slots=True)
class LogQuery:
    scopes: tuple[Scope, ...]
    stages: tuple[Stage, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it selects whole entries, by source and type alone."""
        conditions = (
            condition
            for stage in self.stages
            if isinstance(stage, Where)
            for condition in _conjuncts(stage.condition)
        )
        return all(isinstance(stage, Where | Sort) for stage in self.stages) and all(
            isinstance(condition, Comparison)
            and condition.left in (Field("source"), Field("type"))
            and isinstance(condition.right, Text)
            for condition in conditions
        )

    def required_texts(self, path: str) -> list[Text]:
        """Texts that a field must be equal to in every entry of the result.

        They may be fewer than the query states, never more: other entries need not be read.
        """
        texts = []
        for stage in self.stages:
            if not isinstance(stage, Where):
                break
            for condition in _conjuncts(stage.condition):
                match condition:
                    case Comparison("=", Field(named), Text() as text) if named == path:
                        texts.append(text)
        return texts


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    if isinstance(condition, And):
        for operand in condition.operands:
            yield from _conjuncts(operand)
    else:
        yield condition
