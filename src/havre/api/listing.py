"""Lists: paging, sorting and filtering as every list call of the API takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query, Response
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute

from havre.api.responses import make_response
from havre.contract.base import ResponseModel
from havre.store.paging import Order, Page

MAX_PAGE = 100
Row = TypeVar("Row")

CompartmentId = Annotated[str, Query(alias="compartmentId")]
"""Required by every list; an unknown compartment is just empty."""


@dataclass(frozen=True, slots=True)
class Paging:
    """What the client asked for; ``order`` settles the rest."""

    limit: int
    page: str | None
    sort_order: Literal["ASC", "DESC"] | None

    def order(
        self,
        sort_by: str,
        columns: Mapping[str, InstrumentedAttribute[Any]],
        *,
        tie: InstrumentedAttribute[Any],
    ) -> Order:
        """Newest first for moments, A to Z for everything else, unless stated."""
        column = columns[sort_by]
        if self.sort_order is None:
            return Order(sort_by, column, tie, column.type.python_type is datetime)
        return Order(sort_by, column, tie, self.sort_order == "DESC")


async def _paging(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
    page: str | None = None,
    sort_order: Annotated[Literal["ASC", "DESC"] | None, Query(alias="sortOrder")] = None,
) -> Paging:
    return Paging(limit, page, sort_order)


Pages = Annotated[Paging, Depends(_paging)]


def apply_filters(
    statement: Select[Row], filters: Mapping[InstrumentedAttribute[Any], Any]
) -> Select[Row]:
    """Only the rows that agree with every filter that was stated."""
    for column, value in filters.items():
        if value is not None:
            statement = statement.where(column == value)
    return statement


def page_response(page: Page[Row], items: Sequence[ResponseModel]) -> Response:
    """A bare array. The header is left out on the last page: clients go on while it is there."""
    headers = {"opc-next-page": page.next_token} if page.next_token else {}
    return make_response(items, headers=headers)
