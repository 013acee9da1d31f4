"""Pages of a list that stay right while rows are added: each begins after the last row
of the one before.

A page token holds the order and the last row's position in it. It is opaque to clients, not secret:
a forged one only changes the position.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.orm import InstrumentedAttribute, Session

from havre.domain.errors import InvalidParameter

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Order:
    """``column`` sorts, ``tie`` (unique) orders equals; ``name`` is the API's word for it."""

    name: str
    column: InstrumentedAttribute[Any]
    tie: InstrumentedAttribute[Any]
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """``next_token`` is None on the last page."""

    rows: Sequence[Row]
    next_token: str | None


def read_page(
    session: Session, statement: Select[Row], order: Order, *, limit: int, token: str | None
) -> Page[Row]:
    """The page after ``token``. Raises InvalidParameter for a token that is not of this list."""
    column, tie = _comparable(session, order.column), _comparable(session, order.tie)
    if token:
        value, last = _decode(token, order)
        beyond = column < value if order.descending else column > value
        beyond_tie = tie < last if order.descending else tie > last
        statement = statement.where(or_(beyond, and_(column == value, beyond_tie)))
    directed = [key.desc() if order.descending else key.asc() for key in (column, tie)]
    rows = session.scalars(statement.order_by(*directed).limit(limit + 1)).all()
    if len(rows) <= limit:
        return Page(rows, None)
    rows = rows[:limit]
    return Page(rows, _encode(rows[-1], order))


def _comparable(session: Session, column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    """Text compares by code point, so that order is case-sensitive and the same everywhere."""
    if column.type.python_type is str and session.get_bind().dialect.name == "postgresql":
        return column.collate("C")
    return column.expression


def _encode(row: object, order: Order) -> str:
    values = [getattr(row, order.column.key), getattr(row, order.tie.key)]
    position = [value.isoformat() if isinstance(value, datetime) else value for value in values]
    direction = "DESC" if order.descending else "ASC"
    text = json.dumps([order.name, direction, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(token: str, order: Order) -> tuple[Any, Any]:
    refusal = InvalidParameter(
        "page is not a token of this list in this order; start again without it"
    )
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        name, direction, value, last = json.loads(text)
        if (name, direction) != (order.name, "DESC" if order.descending else "ASC"):
            raise refusal
        return _column_value(value, order.column), _column_value(last, order.tie)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise refusal from error


def _column_value(value: object, column: InstrumentedAttribute[Any]) -> Any:
    kind = column.type.python_type
    if kind is datetime:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
        if moment.tzinfo is None or not 1970 <= moment.year <= 9990:
            raise ValueError(value)
        return moment
    if type(value) is not kind:
        raise TypeError(value)
    if isinstance(value, str):
        value.encode()  # raises for half of a surrogate pair
        if "\x00" in value:
            raise ValueError(value)
    if isinstance(value, int) and abs(value) >= 2**63:
        raise OverflowError(value)
    return value
