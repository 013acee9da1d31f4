"""Resource search: structured queries and free text, over every type of resource that there is."""

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from havre.api.responses import make_response
from havre.api.services import Deps
from havre.contract.search import (
    QueryableField,
    ResourceSummary,
    ResourceSummaryCollection,
    ResourceType,
    SearchContext,
    SearchDetails,
)
from havre.domain.errors import InvalidParameter, NotFound
from havre.domain.resource_query import ResourceQuery, read_resource_query
from havre.domain.resources import COMMON, TAGS, TEXT, TYPES, Resource, Search, check, highlights
from havre.store.resources import read_resources

MAX_RESULTS = 1000
Limit = Annotated[int, Query(ge=1, le=MAX_RESULTS)]

router = APIRouter(prefix="/20180409", tags=["search"])


@router.post("/resources", response_model=ResourceSummaryCollection)
def search_resources(
    body: SearchDetails, here: Deps, limit: Limit = 500, page: str | None = None
) -> Response:
    query = (
        ResourceQuery(matching=body.text or "")
        if body.type == "FreeText"
        else read_resource_query(body.query or "")
    )
    search = check(query, datetime.now(UTC))
    with here.database.read() as session:
        there = list(read_resources(session, search.types))
    # Outside of the transaction: a long query of many resources takes seconds.
    rows = search.ordered([resource for resource in there if search.matches(resource)])
    offset = _offset(rows, page)
    wants_highlights = body.matching_context_type == "HIGHLIGHTS" and bool(query.matching)
    items = [_summary(row, search, wants_highlights) for row in rows[offset : offset + limit]]
    end = offset + limit
    headers = {"opc-next-page": _token(rows[end - 1], end)} if end < len(rows) else {}
    return make_response(ResourceSummaryCollection(items=items), headers=headers)


@router.get("/resourceTypes", response_model=list[ResourceType])
def list_resource_types(limit: Limit = MAX_RESULTS, page: str | None = None) -> Response:
    del limit, page  # there are few: every page has all of them
    return make_response([_described(name) for name in TYPES])


@router.get("/resourceTypes/{name}", response_model=ResourceType)
def get_resource_type(name: str) -> Response:
    for known in TYPES:
        if known.lower() == name.lower():
            return make_response(_described(known))
    raise NotFound(f"there is no resource type {name[:100]!r}; there are {', '.join(TYPES)}")


def _summary(row: Resource, search: Search, wants_highlights: bool) -> ResourceSummary:
    context = None
    if wants_highlights:
        context = SearchContext(highlights=highlights(row, search.query.matching))
    return ResourceSummary(
        resource_type=row.resource_type,
        identifier=row.identifier,
        compartment_id=row.compartment_id,
        time_created=row.time_created,
        display_name=row.display_name,
        lifecycle_state=row.lifecycle_state,
        freeform_tags=dict(row.freeform_tags),
        defined_tags={name: dict(tags) for name, tags in row.defined_tags.items()},
        search_context=context,
        additional_details=search.returned(row),
    )


def _described(name: str) -> ResourceType:
    fields = [
        QueryableField(field_name=field, field_type=kind)
        for field, kind in {**COMMON, **TYPES[name]}.items()
    ]
    for field, parts in TAGS.items():
        inner = [QueryableField(field_name=part, field_type=TEXT) for part in parts]
        fields.append(
            QueryableField(
                field_name=field, field_type="OBJECT", is_array=True, object_properties=inner
            )
        )
    return ResourceType(name=name, fields=fields)


def _token(last: Resource, end: int) -> str:
    """Opaque to clients: the last row of a page, and its offset should that be gone by then."""
    text = json.dumps([last.identifier, end])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _offset(rows: list[Resource], token: str | None) -> int:
    """Where a page begins: after the last row of the one before. Raises InvalidParameter."""
    if not token:
        return 0
    try:
        identifier, end = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        offset = min(int(end), len(rows))
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        raise InvalidParameter("page is not a token of a search; start again without it") from error
    for number, row in enumerate(rows):
        if row.identifier == identifier:
            return number + 1
    return max(offset, 0)
