"""OTLP over HTTP: sends to a collector, and decides what its response means for what was sent.

The headers may hold a secret: they are read from their file for each request, go to that one
address, and are never logged.
"""

import gzip
import json
import logging
import random
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import httpx

from havre.domain.errors import SettingInvalid
from havre.telemetry.counters import Counter, Counters

TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 64 * 1024
INITIAL_PAUSE_S, MAX_PAUSE_S = 1.0, 60.0
MAX_RETRY_AFTER_S = 600.0
"""Limit of the collector's ``retry-after``."""

_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407})
"""Likely a misconfiguration that somebody will correct: nothing is dropped for it."""

_log = logging.getLogger(__name__)


class Outcome(Enum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    """Sending the same again would be refused again."""
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """``rejected`` counts items left out of an accepted request; ``pause_s`` is requested, or 0."""

    outcome: Outcome
    rejected: int = 0
    pause_s: float = 0.0
    why: str = ""


def read_headers(file: str) -> dict[str, str]:
    """``name: value``, one a line. Raises SettingInvalid, which names no value."""
    if not file:
        return {}
    try:
        lines = Path(file).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"otlp_headers_file cannot be read: {type(error).__name__}") from None
    headers = {}
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not (colon and name.strip() and value.strip() and line.isascii()):
            raise SettingInvalid(f"line {number} of otlp_headers_file is not like `name: value`")
        headers[name.strip()] = value.strip()
    return headers


class OtlpSender:
    """``url`` is the collector's, without ``/v1/logs``."""

    def __init__(self, url: str, headers_file: str) -> None:
        self._url = url.rstrip("/")
        self._headers_file = headers_file
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False)

    def send(self, signal: str, body: dict[str, Any]) -> ExportResult:
        """Send to ``/v1/<signal>``. Raises SettingInvalid when the headers cannot be read."""
        headers = {
            **read_headers(self._headers_file),
            "content-type": "application/json",
            "content-encoding": "gzip",
        }
        content = gzip.compress(json.dumps(body).encode(), compresslevel=1)
        try:
            with self._client.stream(
                "POST", f"{self._url}/v1/{signal}", content=content, headers=headers
            ) as response:
                content_start = _read_start(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return ExportResult(Outcome.RETRY, why=f"it does not respond ({type(error).__name__})")
        return judge(response.status_code, response.headers.get("retry-after", ""), content_start)

    def close(self) -> None:
        self._client.close()


class Delivery:
    """Delivers one signal to the collector; the pause doubles with each failure."""

    def __init__(self, sender: OtlpSender, counters: Counters, signal: str) -> None:
        self._sender = sender
        self._counters = counters
        self._signal = signal
        self._failures = 0
        self._not_before = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._not_before

    def wait(self, seconds: float) -> None:
        """Not due before that."""
        self._not_before = time.monotonic() + seconds

    def deliver(self, body: dict[str, Any], items: int) -> bool:
        """Returns whether these items are done with: accepted, or rejected for good."""
        result = self._sender.send(self._signal, body)
        if result.outcome is Outcome.RETRY:
            self._fail(result, items)
            return False
        if self._failures:
            _log.info("the OpenTelemetry collector accepts %s again", self._signal)
        self._failures = 0
        rejected = items if result.outcome is Outcome.REJECTED else min(result.rejected, items)
        self._counters.add(Counter.EXPORTED, self._signal, items - rejected)
        if rejected:
            self._counters.add(Counter.EXPORT_REJECTED, self._signal, rejected)
            _log.error(
                "the OpenTelemetry collector rejected %d %s: %s", rejected, self._signal, result.why
            )
        return True

    def _fail(self, result: ExportResult, items: int) -> None:
        self._failures += 1
        pause_s = pause_after(self._failures, result.pause_s)
        self.wait(pause_s)
        self._counters.add(Counter.EXPORT_FAILED, self._signal, items)
        if self._failures in (1, 10) or self._failures % 100 == 0:
            _log.warning(
                "%s do not reach the OpenTelemetry collector: %s; trying again in %.0f s",
                self._signal,
                result.why,
                pause_s,
            )


def pause_after(failures: int, retry_after_s: float) -> float:
    """Seconds, doubling, spread so that many homes do not come back at one instant."""
    pause = min(INITIAL_PAUSE_S * 2.0 ** min(failures - 1, 16), MAX_PAUSE_S)
    return max(retry_after_s, pause * random.uniform(0.5, 1.0))


def judge(status: int, retry_after: str, content: bytes) -> ExportResult:
    """What a response means. Pure."""
    if 200 <= status < 300:
        return ExportResult(Outcome.ACCEPTED, *_partial_success(content))
    why = f"it responded with {status}"
    if status in _RETRYABLE:
        retry_after_s = (
            float(retry_after) if retry_after.isdigit() and len(retry_after) < 9 else 0.0
        )
        return ExportResult(Outcome.RETRY, pause_s=min(retry_after_s, MAX_RETRY_AFTER_S), why=why)
    if status in _MISCONFIGURED:
        return ExportResult(Outcome.RETRY, pause_s=MAX_PAUSE_S, why=why)
    return ExportResult(Outcome.REJECTED, why=why)


def _partial_success(content: bytes) -> tuple[int, float, str]:
    try:
        partial = json.loads(content or b"{}").get("partialSuccess") or {}
        counts = [partial.get(name) for name in ("rejectedLogRecords", "rejectedDataPoints")]
        rejected = sum(int(count) for count in counts if count)
        return rejected, 0.0, str(partial.get("errorMessage", ""))[:200]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, 0.0, ""


def _read_start(response: httpx.Response) -> bytes:
    content = b""
    for part in response.iter_bytes(MAX_RESPONSE_BYTES):
        content += part
        if len(content) >= MAX_RESPONSE_BYTES:
            break
    return content
