"""Speaks OTLP over HTTP to a collector: a request, and what its answer means for what was sent.

The headers may hold a secret: they are read from their file for each connection, go to that one
address, and are never told.
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
from havre.telemetry.collecting import Tally

TIMEOUT_S = 10.0
LONGEST_ANSWER = 64 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LONGEST_ASKED_S = 600.0
"""Of a pause that the collector asks for."""

_LATER = frozenset({408, 429, 500, 502, 503, 504})
_MISCONFIGURED = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407})
"""Somebody will set that right: nothing is given up for it."""

_log = logging.getLogger(__name__)


class Outcome(Enum):
    TAKEN = "taken"
    REFUSED = "refused"
    """The same again would be refused again."""
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """``refused`` counts what was left out of what was taken; ``pause_s`` is asked for, or 0."""

    outcome: Outcome
    refused: int = 0
    pause_s: float = 0.0
    why: str = ""


def read_headers(file: str) -> dict[str, str]:
    """``name: value``, one a line. Raises SettingInvalid, which tells no value."""
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

    def send(self, signal: str, body: dict[str, Any]) -> Answer:
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
                told = _beginning(response)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Answer(Outcome.LATER, why=f"it does not answer ({type(error).__name__})")
        return judge(response.status_code, response.headers.get("retry-after", ""), told)

    def close(self) -> None:
        self._client.close()


class Delivery:
    """One signal's way to the collector: waits longer each time that it does not take anything."""

    def __init__(self, sender: OtlpSender, tally: Tally, signal: str) -> None:
        self._sender = sender
        self._tally = tally
        self._signal = signal
        self._failures = 0
        self._not_before = 0.0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._not_before

    def wait(self, seconds: float) -> None:
        """Not due again before."""
        self._not_before = time.monotonic() + seconds

    def deliver(self, body: dict[str, Any], items: int) -> bool:
        """Whether it is done with these items: taken, or refused for good, which is counted."""
        answer = self._sender.send(self._signal, body)
        if answer.outcome is Outcome.LATER:
            self._fail(answer)
            return False
        if self._failures:
            _log.info("the OpenTelemetry collector takes %s again", self._signal)
        self._failures = 0
        refused = items if answer.outcome is Outcome.REFUSED else min(answer.refused, items)
        self._tally.add("exported", self._signal, items - refused)
        if refused:
            self._tally.add("export_refused", self._signal, refused)
            _log.error(
                "the OpenTelemetry collector refused %d %s: %s", refused, self._signal, answer.why
            )
        return True

    def _fail(self, answer: Answer) -> None:
        self._failures += 1
        pause_s = pause_after(self._failures, answer.pause_s)
        self.wait(pause_s)
        self._tally.add("export_failures", self._signal)
        if self._failures in (1, 10) or self._failures % 100 == 0:
            _log.warning(
                "%s do not reach the OpenTelemetry collector: %s; trying again in %.0f s",
                self._signal,
                answer.why,
                pause_s,
            )


def pause_after(failures: int, asked_s: float) -> float:
    """Seconds, doubling, spread so that many homes do not come back at one instant."""
    pause = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_S)
    return max(asked_s, pause * random.uniform(0.5, 1.0))


def judge(status: int, retry_after: str, told: bytes) -> Answer:
    """What an answer means. Pure."""
    if 200 <= status < 300:
        return Answer(Outcome.TAKEN, *_refused_part(told))
    why = f"it answered {status}"
    if status in _LATER:
        asked_s = float(retry_after) if retry_after.isdigit() and len(retry_after) < 9 else 0.0
        return Answer(Outcome.LATER, pause_s=min(asked_s, LONGEST_ASKED_S), why=why)
    if status in _MISCONFIGURED:
        return Answer(Outcome.LATER, pause_s=LONGEST_PAUSE_S, why=why)
    return Answer(Outcome.REFUSED, why=why)


def _refused_part(told: bytes) -> tuple[int, float, str]:
    try:
        partial = json.loads(told or b"{}").get("partialSuccess") or {}
        counts = [partial.get(name) for name in ("rejectedLogRecords", "rejectedDataPoints")]
        refused = sum(int(count) for count in counts if count)
        return refused, 0.0, str(partial.get("errorMessage", ""))[:200]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, 0.0, ""


def _beginning(response: httpx.Response) -> bytes:
    told = b""
    for part in response.iter_bytes(LONGEST_ANSWER):
        told += part
        if len(told) >= LONGEST_ANSWER:
            break
    return told
