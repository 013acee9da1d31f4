"""Searches over logs, as OCI's Logging Search has them: ADS and the CLI read logs with these."""

import base64
import binascii
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response

from havre.api.responses import make_response
from havre.api.services import Deps, Services
from havre.contract.logs import (
    FieldInfo,
    SearchLogsDetails,
    SearchResponse,
    SearchResult,
    SearchResultSummary,
)
from havre.domain.errors import InvalidParameter
from havre.domain.logs import LogStream, require_known
from havre.queries.log_ast import LogQuery
from havre.queries.log_parser import parse_query
from havre.store import logs
from havre.telemetry.files.query import QueryTooLarge, QueryTooLong
from havre.telemetry.search.expressions import ValueKind

MAX_WINDOW = timedelta(days=14)
MAX_ROWS = 1000
ROWS = 500
MAX_BYTES = 10 * 1000 * 1000
TOO_LARGE = "search result is too large"
"""ADS looks for these words, and then asks for half the time, twice."""

_FIELD_TYPES = {ValueKind.NUMBER: "NUMBER", ValueKind.TIME: "NUMBER", ValueKind.BOOLEAN: "BOOLEAN"}

router = APIRouter(prefix="/20190909", tags=["log search"])


@router.post("/search", response_model=SearchResponse)
def search_logs(
    body: SearchLogsDetails,
    here: Deps,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = ROWS,
    page: str | None = None,
) -> Response:
    from_ms, to_ms = _window(body)
    query = parse_query(body.search_query)
    digest = _digest(body.search_query, from_ms, to_ms)
    offset = _offset(page, digest) if page else 0
    try:
        results = here.log_search.search(
            query, _streams(query, here), from_ms=from_ms, to_ms=to_ms, limit=limit, offset=offset
        )
    except (QueryTooLong, QueryTooLarge) as error:
        raise InvalidParameter(f"{TOO_LARGE}: {error.message}") from error
    fields = None
    if body.is_return_field_info:
        fields = [
            FieldInfo(field_name=field.name, field_type=_FIELD_TYPES.get(field.kind, "STRING"))
            for field in results.fields
        ]
    response = make_response(
        SearchResponse(
            results=[SearchResult(data=row) for row in results.rows],
            fields=fields,
            summary=SearchResultSummary(
                result_count=len(results.rows), field_count=len(fields or ())
            ),
        ),
        headers={"opc-next-page": _token(offset + limit, digest)} if results.has_more else {},
    )
    if len(response.body) > MAX_BYTES:
        raise InvalidParameter(
            f"{TOO_LARGE}: it has more than {MAX_BYTES // 1_000_000} MB; ask for less time, fewer "
            "entries (limit) or a part of them (select)"
        )
    return response


def _window(body: SearchLogsDetails) -> tuple[int, int]:
    """Its ends in epoch ms. Raises InvalidParameter."""
    start, end = _utc(body.time_start), _utc(body.time_end)
    if start >= end:
        raise InvalidParameter("timeStart must be before timeEnd")
    if end - start > MAX_WINDOW:
        raise InvalidParameter(
            f"timeEnd may be at most {MAX_WINDOW.days} days after timeStart; ask several times"
        )
    return _epoch_ms(start), _epoch_ms(end)


def _streams(query: LogQuery, here: Services) -> list[LogStream]:
    """What the scopes of a query cover. Raises RelatedNotFound."""
    with here.database.read() as session:
        known = logs.addresses(session)
        streams = logs.streams(session, known=known, tenancy=here.identity.tenancy_ocid)
    for scope in query.scopes:
        require_known(scope, known.values(), streams)
    return [stream for stream in streams if any(stream.is_in(scope) for scope in query.scopes)]


def _token(offset: int, digest: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([digest, offset]).encode()).decode().rstrip("=")


def _offset(token: str, digest: str) -> int:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        stated, offset = json.loads(text)
        if stated == digest and type(offset) is int and 0 <= offset < 2**53:
            return offset
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise InvalidParameter("page is not a token of this search; start again without it")


def _digest(query: str, from_ms: int, to_ms: int) -> str:
    return hashlib.sha256(f"{from_ms} {to_ms} {query}".encode()).hexdigest()[:16]


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _epoch_ms(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
