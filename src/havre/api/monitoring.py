"""OCI's Monitoring, as far as metrics of deployments go: which there are, and queries over them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from havre.api.listing import CompartmentId
from havre.api.responses import make_response
from havre.api.services import Deps, Services
from havre.contract.monitoring import (
    AggregatedDatapoint,
    ListMetricsDetails,
    Metric,
    MetricData,
    SummarizeMetricsDataDetails,
)
from havre.domain.errors import InvalidParameter
from havre.domain.metrics import BY_NAME, NAMESPACE, RESOURCE
from havre.queries.mql_eval import Series, Windows, evaluate, name_of
from havre.queries.mql_parser import PERIOD_S, parse, parse_duration, selections
from havre.store.schema import Deployment

RANGE = timedelta(hours=3)
RESOLUTION = "1m"
KEPT = timedelta(days=14)
MAX_METRICS = 1000

InSubtree = Annotated[bool, Query(alias="compartmentIdInSubtree")]

router = APIRouter(prefix="/20180401/metrics/actions", tags=["monitoring"])


@router.post("/summarizeMetricsData", response_model=list[MetricData])
def summarize_metrics_data(
    body: SummarizeMetricsDataDetails,
    here: Deps,
    compartment_id: CompartmentId,
    in_subtree: InSubtree = False,
) -> Response:
    """Blocks for as long as the query takes: it runs in a thread of the server."""
    query = parse(body.query)
    end = _aware(body.end_time) if body.end_time else here.clock()
    start = _aware(body.start_time) if body.start_time else end - RANGE
    if start >= end:
        raise InvalidParameter("startTime must be before endTime")
    intervals_s = [selection.interval_s for selection in selections(query)]
    resolution, step_s = _resolution(body.resolution, min(intervals_s))
    compartments = _deployments(here, compartment_id, in_subtree=in_subtree)
    if body.namespace != NAMESPACE or body.resource_group is not None:
        return make_response([])
    windows = Windows(_ms(start), _ms(end), step_s * 1000)
    evaluated = evaluate(
        query,
        windows,
        lambda selection, from_ms, to_ms: here.metrics.streams(
            selection, from_ms, to_ms, deployments=compartments.keys()
        ),
    )
    metric = BY_NAME.get(name_of(query))
    return make_response(
        [
            MetricData(
                namespace=NAMESPACE,
                compartment_id=compartments.get(
                    series.dimensions.get(RESOURCE, ""), compartment_id
                ),
                name=name_of(query),
                dimensions=dict(series.dimensions),
                metadata={"unit": metric.unit} if metric is not None else {},
                resolution=resolution,
                aggregated_datapoints=_datapoints(series),
            )
            for series in evaluated
        ]
    )


@router.post("/listMetrics", response_model=list[Metric])
def list_metrics(
    body: ListMetricsDetails,
    here: Deps,
    compartment_id: CompartmentId,
    in_subtree: InSubtree = False,
    limit: Annotated[int, Query(ge=1, le=MAX_METRICS)] = MAX_METRICS,
    page: Annotated[str | None, Query(pattern=r"^\d{1,9}$")] = None,
) -> Response:
    """Every metric that has had a value in the last two weeks, with its dimensions."""
    compartments = _deployments(here, compartment_id, in_subtree=in_subtree)
    now = here.clock()
    filters = (not body.group_by and body.dimension_filters) or {}
    listed = [
        Metric(
            name=name,
            namespace=NAMESPACE,
            compartment_id=compartments[dimensions[RESOURCE]],
            dimensions=dimensions,
        )
        for name, dimensions in here.metrics.known(_ms(now - KEPT), _ms(now))
        if dimensions.get(RESOURCE) in compartments
        if body.namespace in (None, NAMESPACE) and body.resource_group is None
        if body.name in (None, name)
        if all(dimensions.get(key) == value for key, value in filters.items())
    ]
    if body.group_by:
        listed = _grouped(listed, body.group_by, compartment_id)
    if body.sort_by == "NAME":
        listed.sort(key=lambda metric: metric.name or "")
    if body.sort_order == "DESC":
        listed.reverse()
    start = int(page) if page else 0
    end = start + limit
    headers = {"opc-next-page": str(end)} if end < len(listed) else {}
    return make_response(listed[start:end], headers=headers)


def _resolution(stated: str | None, shortest_s: int) -> tuple[str, int]:
    """As the response states it, and in seconds. It is one minute, if no interval is shorter."""
    if stated is None:
        return (RESOLUTION, 60) if shortest_s >= 60 else (f"{shortest_s}s", shortest_s)
    step_s = parse_duration(stated)
    if not step_s or step_s % PERIOD_S:
        raise InvalidParameter(
            f"resolution {stated!r} must be 1m to 60m, 1h to 24h or 1d, or a multiple of "
            f"{PERIOD_S}s"
        )
    if step_s > shortest_s:
        raise InvalidParameter(
            f"resolution {stated} must not be longer than the query's interval of {shortest_s} s"
        )
    return stated, step_s


def _deployments(here: Services, compartment_id: str, *, in_subtree: bool) -> dict[str, str]:
    """Compartments by deployment, those that are deleted included."""
    everything = in_subtree and compartment_id == here.identity.tenancy_ocid
    if in_subtree and not everything:
        raise InvalidParameter(
            "compartmentIdInSubtree goes with the tenancy's OCID as compartmentId only"
        )
    statement = select(Deployment.id, Deployment.compartment_id)
    if not everything:
        statement = statement.where(Deployment.compartment_id == compartment_id)
    with here.database.read() as session:
        return {row.id: row.compartment_id for row in session.execute(statement)}


def _datapoints(series: Series) -> list[AggregatedDatapoint]:
    return [
        AggregatedDatapoint(timestamp=datetime.fromtimestamp(at / 1000, UTC), value=value)
        for at, value in sorted(series.values.items())
    ]


def _grouped(metrics: Iterable[Metric], by: Sequence[str], compartment_id: str) -> list[Metric]:
    """One for each combination of the fields named; it has no other fields."""
    names = {"resourceGroup": "resource_group"}
    fields = [names.get(field, field) for field in by]
    combinations = dict.fromkeys(
        tuple(getattr(metric, field) for field in fields) for metric in metrics
    )
    return [
        Metric(compartment_id=compartment_id, **dict(zip(fields, values, strict=True)))
        for values in combinations
    ]


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
