"""Responses: bodies in the API's names, and the headers that go with them."""

from collections.abc import Mapping, Sequence

from fastapi import Response
from pydantic_core import to_json

from havre.api.conditions import Versioned, etag_of
from havre.contract.base import ResponseModel

JSON = "application/json"


def make_response(
    body: ResponseModel | Sequence[ResponseModel] | None = None,
    *,
    status: int = 200,
    row: Versioned | None = None,
    work_request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``row`` gives the etag; ``work_request_id`` is how clients follow a long operation."""
    headers = dict(headers or {})
    if row is not None:
        headers["etag"] = etag_of(row)
    if work_request_id is not None:
        headers["opc-work-request-id"] = work_request_id
    if body is None:
        return Response(None, status, headers)
    return Response(to_json(body, by_alias=True), status, headers, JSON)
