"""Monitoring: queries over the metrics of deployments."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import StringConstraints

from havre.contract.base import Moment, RequestModel, ResponseModel
from havre.queries.mql_parser import MAX_QUERY_LENGTH

MetricName = Annotated[str, StringConstraints(max_length=255)]


class SummarizeMetricsDataDetails(RequestModel):
    namespace: MetricName
    query: Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_LENGTH)]
    resource_group: MetricName | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    resolution: Annotated[str, StringConstraints(max_length=20)] | None = None


class AggregatedDatapoint(ResponseModel):
    timestamp: Moment
    value: float


class MetricData(ResponseModel):
    namespace: str
    compartment_id: str
    name: str
    dimensions: dict[str, str]
    metadata: dict[str, str]
    resolution: str
    aggregated_datapoints: list[AggregatedDatapoint]
    resource_group: str | None = None


class ListMetricsDetails(RequestModel):
    name: MetricName | None = None
    namespace: MetricName | None = None
    resource_group: MetricName | None = None
    dimension_filters: dict[MetricName, MetricName] | None = None
    group_by: list[Literal["namespace", "name", "resourceGroup"]] | None = None
    sort_by: Literal["NAMESPACE", "NAME", "RESOURCEGROUP"] = "NAMESPACE"
    sort_order: Literal["ASC", "DESC"] = "ASC"


class Metric(ResponseModel):
    name: str | None = None
    namespace: str | None = None
    resource_group: str | None = None
    compartment_id: str
    dimensions: dict[str, str] | None = None
