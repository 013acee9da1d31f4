"""The provisioned bandwidth: bodies are slowed to it, too great a backlog of requests is refused.

Each direction is shaped by a bucket of its own. Envoy's filter holds every body back until a timer
fires in a later turn of its loop, so that an answer's head and body go out, and are read, apart:
for a body of a few bytes that is the dearest of all that is done to a request. Deployments with at
least ``AMPLE_MBPS`` are spared it where it cannot matter: their bodies of less than 1,000 bytes
pass as they come (25,000 answers of that size would be a second's bandwidth; two cores do not get
there). All requests, small ones too, count against the backlog.
"""

from collections.abc import Iterator

from havre.balancer.matching import first, header_input, regex_match
from havre.balancer.resources import (
    MAX_BODY_BYTES,
    UNBOUNDED,
    Json,
    off,
    typed,
    whole_requests,
)

BACKLOG_S = 10
"""Seconds of provisioned bandwidth that may be asked for ahead before 429."""
AMPLE_MBPS = 200
LARGEST_UINT32 = 2**32 - 1

RATE = "envoy.filters.http.local_ratelimit"
SHAPE_REQUEST = "havre.shape-request"
COLLECT = "havre.collect"
SHAPE_ANSWER = "havre.shape-answer"
_LARGE = "-if-large"
"""Ends the names of their variants that small bodies pass."""
NAMES = (
    RATE,
    *(
        name + variant
        for name in (SHAPE_REQUEST, COLLECT, SHAPE_ANSWER)
        for variant in ("", _LARGE)
    ),
)
"""Of the filters, in the order a request meets them. All are off until a route turns them on."""

_SMALL_LENGTH = "[0-9]{1,3}"
_FILTERS = "envoy.extensions.filters.http"
_SHAPING = f"{_FILTERS}.bandwidth_limit.v3.BandwidthLimit"
_RATE_LIMIT = f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit"


def filters() -> Iterator[Json]:
    """Each filter, and its variant for ample deployments.

    After shaping a request is collected again, so that it waits here and does not occupy a copy.
    """
    request = header_input("content-length")
    answer = header_input("content-length", of="Response")
    shaping = typed(_SHAPING, stat_prefix="bandwidth")
    collecting = typed(f"{_FILTERS}.buffer.v3.Buffer", max_request_bytes=MAX_BODY_BYTES)
    yield off(RATE, typed(_RATE_LIMIT, stat_prefix="rate"))
    for name, settings, length in (
        (SHAPE_REQUEST, shaping, request),
        (COLLECT, collecting, request),
        (SHAPE_ANSWER, shaping, answer),
    ):
        yield off(name, settings)
        yield off(name + _LARGE, _unless_small(length, name, settings))


def on(mbps: int) -> Json:
    """What turns them on for a route.

    The backlog is counted in bytes of requests when they are whole, headers included: Envoy's
    bucket refuses a request that would take nothing out of it, as one without a body would.
    """
    rate = max(1, mbps * 1_000_000 // 8)
    variant = _LARGE if mbps >= AMPLE_MBPS else ""
    return {
        RATE: _backlog(rate),
        SHAPE_REQUEST + variant: _shaping("REQUEST", rate),
        COLLECT + variant: whole_requests(),
        SHAPE_ANSWER + variant: _shaping("RESPONSE", rate),
    }


def _shaping(direction: str, rate: int) -> Json:
    return typed(
        _SHAPING,
        stat_prefix="bandwidth",
        enable_mode=direction,
        limit_kbps=max(1, rate // 1024),
    )


def _backlog(rate: int) -> Json:
    return typed(
        _RATE_LIMIT,
        stat_prefix="rate",
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
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
                "token_bucket": _tokens(max(BACKLOG_S * rate, MAX_BODY_BYTES), rate),
            }
        ],
    )


_ALWAYS: Json = {"default_value": {"numerator": 100}}


def _tokens(most: int, per_second: int) -> Json:
    return {
        "max_tokens": min(most, LARGEST_UINT32),
        "tokens_per_fill": min(per_second, LARGEST_UINT32),
        "fill_interval": "1s",
    }


def _unless_small(length: Json, name: str, settings: Json) -> Json:
    """The filter, left out where ``length`` is small. What states no length is not small."""
    skip = {
        "name": "skip",
        "typed_config": typed("envoy.extensions.filters.common.matcher.action.v3.SkipFilter"),
    }
    is_small = {"single_predicate": {"input": length, "value_match": regex_match(_SMALL_LENGTH)}}
    return typed(
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config={"name": name, "typed_config": settings},
        xds_matcher=first([(is_small, {"action": skip})]),
    )
