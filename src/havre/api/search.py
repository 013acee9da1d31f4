"""Structured search for deployments: how clients ask which of them use a model."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import InstrumentedAttribute

from havre.api.answers import answer
from havre.api.listing import matching
from havre.api.services import Here
from havre.contract.search import ResourceSummary, ResourceSummaryCollection, SearchDetails
from havre.domain.errors import InvalidParameter, NotImplementedHere
from havre.store.deployments import listed
from havre.store.paging import Order, read_page
from havre.store.schema import Deployment

RESOURCE_TYPE = "DataScienceModelDeployment"
FIELDS: dict[str, InstrumentedAttribute[Any]] = {
    "modelid": Deployment.model_id,
    "identifier": Deployment.id,
    "compartmentid": Deployment.compartment_id,
    "displayname": Deployment.display_name,
    "lifecyclestate": Deployment.lifecycle_state,
}

_QUERY = re.compile(r"\s*query\s+(\w+)\s+resources(?:\s+where\s+(.+?))?\s*", re.I | re.S)
_CONDITION = re.compile(r"\s*(\w+)\s*==?\s*(?:'([^']*)'|\"([^\"]*)\")\s*", re.S)
_AND = re.compile(r"&&|\band\b", re.I)

router = APIRouter(tags=["search"])


@router.post("/20180409/resources", response_model=ResourceSummaryCollection)
def search_resources(
    body: SearchDetails,
    here: Here,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    page: str | None = None,
) -> Response:
    if body.type != "Structured" or body.query is None:
        raise NotImplementedHere("only structured searches with a query are answered here")
    statement = matching(listed(), parse_query(body.query))
    order = Order("timeCreated", Deployment.time_created, Deployment.id, descending=True)
    with here.database.read() as session:
        found = read_page(session, statement, order, limit=limit, token=page)
        items = [_summary(row) for row in found.rows]
    headers = {"opc-next-page": found.next_token} if found.next_token else {}
    return answer(ResourceSummaryCollection(items=items), headers=headers)


def parse_query(query: str) -> dict[InstrumentedAttribute[Any], str]:
    """The conditions of ``query datasciencemodeldeployment resources where A = 'a' && …``.

    Raises InvalidParameter for anything else.
    """
    match = _QUERY.fullmatch(query)
    if match is None or match[1].lower() != RESOURCE_TYPE.lower():
        raise InvalidParameter(
            f"query must read: query {RESOURCE_TYPE.lower()} resources where modelId = '…'"
        )
    conditions: dict[InstrumentedAttribute[Any], str] = {}
    for part in _AND.split(match[2]) if match[2] else []:
        condition = _CONDITION.fullmatch(part)
        column = FIELDS.get(condition[1].lower()) if condition else None
        if condition is None or column is None:
            raise InvalidParameter(
                f"query: {part.strip()[:100]!r} is not a condition that is known here; those are "
                f"{', '.join(FIELDS)} = '…', joined by &&"
            )
        value = condition[2] if condition[2] is not None else condition[3]
        if conditions.setdefault(column, value) != value:
            raise InvalidParameter(f"query: {condition[1]} cannot have two values")
    return conditions


def _summary(row: Deployment) -> ResourceSummary:
    return ResourceSummary(
        resource_type=RESOURCE_TYPE,
        identifier=row.id,
        compartment_id=row.compartment_id,
        time_created=row.time_created,
        display_name=row.display_name,
        lifecycle_state=row.lifecycle_state,
        freeform_tags=row.freeform_tags,
        defined_tags=row.defined_tags,
    )
