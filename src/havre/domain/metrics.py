"""Which metrics there are, for Monitoring: names, units and dimensions. Pure.

The first are those of OCI's own Model Deployment service, by its names; the others are ours.
"""

from dataclasses import dataclass
from enum import StrEnum

NAMESPACE = "oci_datascience_modeldeploy"

RESOURCE = "resourceId"
INSTANCE = "instanceId"
RESULT = "result"
STATUS_CODE = "statusCode"
STATUS_FAMILY = "statusFamily"
NETWORK_TYPE = "networkType"


class Result(StrEnum):
    SUCCESS = "Success"
    FAILURE = "Failure"


class NetworkType(StrEnum):
    IN = "BytesIn"
    OUT = "BytesOut"


@dataclass(frozen=True, slots=True)
class Metric:
    """``is_latency``: its points are the buckets of a histogram."""

    name: str
    unit: str
    dimensions: tuple[str, ...]
    help: str
    is_latency: bool = False


REQUESTS = Metric(
    "PredictRequestCount",
    "count",
    (RESOURCE,),
    "Requests to the deployment, refused ones included.",
)
RESPONSES = Metric(
    "PredictResponse",
    "count",
    (RESOURCE, STATUS_CODE, RESULT, STATUS_FAMILY),
    "Responses by status. A client that went away before its response has status 0.",
)
LATENCY = Metric(
    "PredictLatency",
    "ms",
    (RESOURCE, RESULT),
    "From a request's first byte to its response's last, at the load balancer.",
    is_latency=True,
)
BANDWIDTH = Metric(
    "PredictBandwidth",
    "percent",
    (RESOURCE,),
    "Of the provisioned bandwidth, in the direction that uses more of it.",
)
HELD = Metric(
    "PredictHeldBack",
    "count",
    (RESOURCE,),
    "Requests that the provisioned bandwidth held back, on their way in or out, or refused.",
)
CPU = Metric(
    "CpuUtilization",
    "percent",
    (RESOURCE, INSTANCE),
    "Processor time of all the instance's processes, of what its shape has.",
)
MEMORY = Metric(
    "MemoryUtilization",
    "percent",
    (RESOURCE, INSTANCE),
    "Memory of all the instance's processes, of what its shape has.",
)
NETWORK = Metric(
    "NetworkBytes",
    "bytes/s",
    (RESOURCE, INSTANCE, NETWORK_TYPE),
    "Bodies of the requests that the instance answered, and of its responses.",
)
MODEL_LATENCY = Metric(
    "ModelLatency",
    "ms",
    (RESOURCE,),
    "Time in predict(), of calls that returned.",
    is_latency=True,
)
QUEUE = Metric(
    "QueueDepth",
    "count",
    (RESOURCE,),
    "Requests that wait for a copy to be free.",
)
READY = Metric("CopiesReady", "count", (RESOURCE,), "Copies that take requests.")
BUSY = Metric("CopiesBusy", "count", (RESOURCE,), "Copies in a call of predict().")
RESTARTED = Metric(
    "CopiesRestarted", "count", (RESOURCE,), "Copies that were restarted because one had died."
)

METRICS = (
    *(REQUESTS, RESPONSES, LATENCY, BANDWIDTH, HELD, CPU, MEMORY, NETWORK),
    *(MODEL_LATENCY, QUEUE, READY, BUSY, RESTARTED),
)
BY_NAME = {metric.name: metric for metric in METRICS}
