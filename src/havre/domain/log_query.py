"""What a search over logs asks, once it is read: scopes, and stages that a stream passes through.

The language is that of OCI's log search; `log_syntax.py` reads it. A field is named by its path in
an entry without the leading ``logContent``: ``data.status``, ``source``, ``datetime``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

WHOLE = "logContent"
"""The field that stands for every value of an entry."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A compartment's OCID, a log group's and a log's OCID or name; None: all there are."""

    compartment: str
    group: str | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Field:
    path: str


@dataclass(frozen=True, slots=True)
class Text:
    """A literal. ``parts`` are what lies between its wildcards: several, if it has any."""

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
        place = len(first)
        for part in middle:
            found = text.find(part, place)
            if found < 0:
                return False
            place = found + len(part)
        return place <= end


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class Null:
    pass


@dataclass(frozen=True, slots=True)
class Call:
    """``name`` is in lower case; nobody has looked yet whether there is such a function."""

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


Expression = Field | Text | Number | Truth | Null | Call | Arithmetic | Comparison | Not | And | Or


@dataclass(frozen=True, slots=True)
class Named:
    """An expression and what it is called in the answer."""

    expression: Expression
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """What is sorted by."""

    expression: Expression
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``operand`` None: rows are counted."""

    function: str
    operand: Expression | None
    name: str


@dataclass(frozen=True, slots=True)
class Where:
    condition: Expression


@dataclass(frozen=True, slots=True)
class Sort:
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    count: int


@dataclass(frozen=True, slots=True)
class Select:
    """``is_whole``: ``*`` is among the items."""

    items: tuple[Named, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Extend:
    items: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Dedup:
    keys: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Summarize:
    aggregates: tuple[Aggregate, ...]
    groups: tuple[Named, ...]


Stage = Where | Sort | Limit | Select | Extend | Dedup | Summarize


@dataclass(frozen=True, slots=True)
class LogQuery:
    scopes: tuple[Scope, ...]
    stages: tuple[Stage, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it asks for whole entries of some sources and types, and nothing else of them."""
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

    def wanted(self, path: str) -> list[Text]:
        """What a field must be equal to for an entry to be of interest at all.

        It may be less than the query says, never more: entries without it may be passed over.
        """
        found = []
        for stage in self.stages:
            if not isinstance(stage, Where):
                break
            for condition in _conjuncts(stage.condition):
                match condition:
                    case Comparison("=", Field(named), Text() as text) if named == path:
                        found.append(text)
        return found


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    if isinstance(condition, And):
        for operand in condition.operands:
            yield from _conjuncts(operand)
    else:
        yield condition
