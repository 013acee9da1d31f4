"""The provisioned bandwidth: bodies are slowed to it, too great a backlog of requests is refused.

Each direction is shaped by a bucket of its own. Envoy's filter holds every body back until a timer
fires in a later turn of its loop, so that a response's head and body are sent and read separately:
for a body of a few bytes that costs more than all else that is done to a request. Deployments with
at least ``AMPLE_MBPS`` skip it where it cannot matter: their bodies of less than 1,000 bytes pass
as they come (25,000 responses of that size would be a second's bandwidth; two cores do not get
there). All requests, small ones too, count against the backlog.
"""

from collections.abc import Iterator

from havre.balancer.envoy import held
from havre.balancer.envoy.matching import all_of, first, header_input, regex_match
from havre.balancer.envoy.resources import (
    UNBOUNDED,
    Json,
    disabled_filter,
    typed,
    whole_requests,
)
from havre.domain.deployment import NO_CAP_MBPS
from havre.domain.limits import MAX_PREDICTION_BYTES

BACKLOG_S = 10
"""Seconds of provisioned bandwidth that may be queued before 429."""
AMPLE_MBPS = 200
MAX_UINT32 = 2**32 - 1

RATE = "envoy.filters.http.local_ratelimit"
SHAPE_REQUEST = "havre.shape-request"
COLLECT = "havre.collect"
SHAPE_RESPONSE = "havre.shape-response"
_LARGE = "-if-large"
"""Ends the names of their variants that small bodies pass."""
_SHAPERS = (held.BEGIN, SHAPE_REQUEST, COLLECT, held.TAKEN, held.REPORT, SHAPE_RESPONSE)
NAMES = (RATE, *(name + variant for name in _SHAPERS for variant in ("", _LARGE)))
"""Of the filters, in the order a request meets them. All are off until a route turns them on."""

_SMALL_LENGTH = "[0-9]{1,3}"
_FILTERS = "envoy.extensions.filters.http"
_SHAPING = f"{_FILTERS}.bandwidth_limit.v3.BandwidthLimit"
_RATE_LIMIT = f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit"


def filters() -> Iterator[Json]:
    """Each filter, and its variant for ample deployments.

    After shaping a request is collected again, so that it waits here and does not occupy a copy.
    """
    request = _is_small(header_input("content-length"))
    response = _is_small(header_input("content-length", of="Response"))
    shaping = typed(_SHAPING, stat_prefix="bandwidth")
    collecting = typed(f"{_FILTERS}.buffer.v3.Buffer", max_request_bytes=MAX_PREDICTION_BYTES)
    yield disabled_filter(RATE, typed(_RATE_LIMIT, stat_prefix="rate"))
    for name, settings, passes in (
        (held.BEGIN, held.BEGINNING, request),
        (SHAPE_REQUEST, shaping, request),
        (COLLECT, collecting, request),
        (held.TAKEN, held.TAKING, request),
        (held.REPORT, held.REPORTING, all_of(request, response)),
        (SHAPE_RESPONSE, shaping, response),
    ):
        yield disabled_filter(name, settings)
        yield disabled_filter(name + _LARGE, _unless(passes, name, settings))


def metadata(mbps: int) -> Json:
    """What a route passes to the filters."""
    return {} if mbps >= NO_CAP_MBPS else held.metadata(mbps, _variant(mbps))


def on(mbps: int) -> Json:
    """What turns them on for a route: nothing where there is no cap.

    The backlog is counted in bytes of requests when they are whole, headers included: Envoy's
    bucket refuses a request that would take nothing out of it, as one without a body would.
    """
    if mbps >= NO_CAP_MBPS:
        return {}
    rate = max(1, mbps * 1_000_000 // 8)
    variant = _variant(mbps)
    return {
        RATE: _backlog(rate, mbps),
        **{name + variant: _on() for name in (held.BEGIN, held.TAKEN, held.REPORT)},
        SHAPE_REQUEST + variant: _shaping("REQUEST", rate),
        COLLECT + variant: whole_requests(),
        SHAPE_RESPONSE + variant: _shaping("RESPONSE", rate),
    }


def _variant(mbps: int) -> str:
    return _LARGE if mbps >= AMPLE_MBPS else ""


def _shaping(direction: str, rate: int) -> Json:
    return typed(
        _SHAPING,
        stat_prefix="bandwidth",
        enable_mode=direction,
        limit_kbps=max(1, rate // 1024),
        enable_response_trailers=True,
        response_trailer_prefix=held.TRAILER_PREFIX,
    )


def _on() -> Json:
    return typed("envoy.config.route.v3.FilterConfig", config={})


def _backlog(rate: int, mbps: int) -> Json:
    refused = {"key": held.HEADER, "value": f"refused at {mbps} Mbps"}
    return typed(
        _RATE_LIMIT,
        stat_prefix="rate",
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        response_headers_to_add=[{"header": refused}],
        token_bucket=_tokens(UNBOUNDED, UNBOUNDED),
        rate_limits=[
            {
                "actions": [{"generic_key": {"descriptor_value": "bytes"}}],
                "hits_addend": {"format": "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"},
            },
        ],
        descriptors=[
            {
                "entries": [{"key": "generic_key", "value": "bytes"}],
                "token_bucket": _tokens(max(BACKLOG_S * rate, MAX_PREDICTION_BYTES), rate),
            }
        ],
    )


_ALWAYS: Json = {"default_value": {"numerator": 100}}


def _tokens(maximum: int, per_second: int) -> Json:
    return {
        "max_tokens": min(maximum, MAX_UINT32),
        "tokens_per_fill": min(per_second, MAX_UINT32),
        "fill_interval": "1s",
    }


def _is_small(length: Json) -> Json:
    """What states no length is not."""
    return {"single_predicate": {"input": length, "value_match": regex_match(_SMALL_LENGTH)}}


def _unless(passes: Json, name: str, settings: Json) -> Json:
    """The filter, left out where the predicate holds."""
    skip = {
        "name": "skip",
        "typed_config": typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter"),
    }
    return typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config={"name": name, "typed_config": settings},
        xds_matcher=first([(passes, {"action": skip})]),
    )
