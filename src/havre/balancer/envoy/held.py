"""How long a request or its response was held back for bandwidth, measured and reported.

Envoy's bandwidth filter states in a trailer how long it held a response; a few lines of Lua read
that. For a request it states nothing: the clock is read before the filter and after it. The result
goes into the access log, and into a header. Headers are sent before the body: a small response is
held until its body has passed, for a larger one the header states what its size must cost, and for
a stream only the log has the time.
"""

from havre.balancer.envoy.resources import Json, typed

BEGIN = "havre.held-begin"
TAKEN = "havre.held-taken"
REPORT = "havre.held-report"
"""Of the filters: before requests are shaped, after that, and after responses are, which pass in
the opposite order.
"""
NAMESPACE = "havre.held"
HELD_MS = "ms"
"""The key of what the access log writes."""
HEADER = "x-havre-bandwidth"
TRAILER_PREFIX = "x-havre"
SMALL_BYTES = 128 * 1024
"""Responses up to this are whole before their headers are sent. Larger ones are sent as they come:
a client should not have to wait for the first byte as long as for the last.
"""
MIN_HELD_MS = 50
"""Envoy fills its bucket so often: a request that waits less waits for Envoy's turn."""

_TRAILER = f"{TRAILER_PREFIX}-bandwidth-response-filter-delay-ms"
_OTHER_TRAILER = f"{TRAILER_PREFIX}-bandwidth-response-delay-ms"

_BEGIN = f"""
function envoy_on_request(handle)
  handle:streamInfo():dynamicMetadata():set("{NAMESPACE}", "began", handle:timestamp())
end
"""

# An error in Lua lets the message pass, which is what should happen.
_TAKEN = f"""
function envoy_on_request(handle)
  local known = handle:streamInfo():dynamicMetadata()
  local state = known:get("{NAMESPACE}")
  if state and state["began"] then
    local held = handle:timestamp() - state["began"]
    if held >= {MIN_HELD_MS} then known:set("{NAMESPACE}", "{HELD_MS}", held) end
  end
end
"""

_REPORT = f"""
function envoy_on_response(handle)
  local length = tonumber(handle:headers():get("content-length") or "")
  local mbps = handle:metadata():get("mbps")
  local is_small = length ~= nil and length > 0 and length <= {SMALL_BYTES}
  if is_small then
    handle:body()
  elseif length and mbps then
    local expected = length * 8 / (mbps * 1000)
    if expected >= {MIN_HELD_MS} then
      local text = string.format("held back about %d ms at %d Mbps", expected, mbps)
      handle:headers():replace("{HEADER}", text)
    end
  end
  local held = 0
  local trailers = handle:trailers()
  if trailers then
    held = tonumber(trailers:get("{_TRAILER}") or "") or 0
    trailers:remove("{_TRAILER}")
    trailers:remove("{_OTHER_TRAILER}")
  end
  local known = handle:streamInfo():dynamicMetadata()
  local before = known:get("{NAMESPACE}")
  held = held + (before and before["{HELD_MS}"] or 0)
  if held <= 0 then return end
  known:set("{NAMESPACE}", "{HELD_MS}", held)
  if is_small and mbps then
    handle:headers():replace("{HEADER}", string.format("held back %d ms at %d Mbps", held, mbps))
  end
end
"""


BEGINNING, TAKING, REPORTING = (
    typed("envoy.extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": code})
    for code in (_BEGIN, _TAKEN, _REPORT)
)
"""What each of them does."""


def metadata(mbps: int, variant: str = "") -> Json:
    """What a route passes to the last of them, by the name that it has there."""
    return {REPORT + variant: {"mbps": mbps}}
