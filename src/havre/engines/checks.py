"""What the control plane asks of a model through its keeper: checks, its sample, its last requests.

All raise OSError, ValueError, KeyError or TypeError when the keeper does not answer, or not as a
keeper does. None is held up, or filled, by what it sends: how many answers there are, how large
they are and how long they may take is known here.
"""

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from havre.domain import reported as words
from havre.domain.instance import CheckRequest, CheckResponse, RecordedRequest
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.domain.rollout.policy import Capture
from havre.engines import keeper_protocol

MAX_AT_ONCE = 128
"""The keeper takes no more in one go."""
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Bodies; a larger one goes alone. In base64 it fits the line that a keeper takes."""
MAX_RESPONSE_BYTES = 16 * 1024 * 1024
MARGIN_S = 5.0
"""Beyond the limits that the keeper itself keeps."""
MAX_RECORDED_BYTES = 64 * 1024 * 1024
RECORDED_WITHIN_S = 30.0
LONGEST_TYPE = 1000
LONGEST_ERROR = 500
LONGEST_CURSOR = 8


def check(
    control: Path,
    requests: Sequence[CheckRequest],
    *,
    limit_s: float,
    should_continue: Callable[[], bool],
) -> Iterator[CheckResponse]:
    """An answer for each request, as it comes; the keeper ends each after at most ``limit_s``."""
    for batch in _batches(requests):
        asked = {
            "op": "check",
            "requests": [
                {
                    "body_base64": b64encode(request.body).decode(),
                    "content_type": request.content_type,
                }
                for request in batch
            ],
        }
        responses = keeper_protocol.talk(
            control,
            asked,
            max_bytes=MAX_RESPONSE_BYTES,
            within_s=limit_s + MARGIN_S,
            should_continue=should_continue,
        )
        with closing(responses):
            for response in islice(responses, len(batch)):
                yield _check_response(response)


def sample(control: Path) -> CheckRequest | None:
    stored = _ask(control, {"op": "sample"})["sample"]
    if stored is None:
        return None
    return CheckRequest(_body(stored["body_base64"]), _type(stored["content_type"]))


def record(control: Path, limit: int) -> None:
    _ask(control, {"op": "record", "most": limit}, may_be_unknown=True)


def recorded(
    control: Path, limit: int, *, should_continue: Callable[[], bool]
) -> list[RecordedRequest]:
    """The last ``limit``, oldest first."""
    requests_kept: list[RecordedRequest] = []
    before: list[int] | None = None
    left_bytes, deadline = MAX_RECORDED_BYTES, time.monotonic() + RECORDED_WITHIN_S
    while len(requests_kept) < limit:
        asked = {"op": "recorded", "before": before}
        page = _ask(control, asked, may_be_unknown=True, should_continue=should_continue)
        for row in page.get("recorded", ())[: limit - len(requests_kept)]:
            request = _recorded(row)
            left_bytes -= len(request.body) + len(request.response)
            if left_bytes < 0:
                raise ValueError(f"recorded requests of over {MAX_RECORDED_BYTES} bytes")
            requests_kept.append(request)
        if page.get("before") is None:
            break
        if not page["recorded"] or page["before"] == before:
            raise ValueError("it reports more requests, but not which")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it took over {RECORDED_WITHIN_S:g} s")
        before = _cursor(page["before"])
    return requests_kept[::-1]


def capture(control: Path, policy: Capture) -> None:
    asked = {"op": "capture", "percent": policy.percent, "redact": list(policy.redact)}
    _ask(control, asked, may_be_unknown=True)


def _batches(requests: Sequence[CheckRequest]) -> Iterator[list[CheckRequest]]:
    batch: list[CheckRequest] = []
    size = 0
    for request in requests:
        size += len(request.body)
        if batch and (size > BYTES_AT_ONCE or len(batch) == MAX_AT_ONCE):
            yield batch
            batch, size = [], len(request.body)
        batch.append(request)
    if batch:
        yield batch


def _ask(
    control: Path,
    request: dict[str, Any],
    *,
    may_be_unknown: bool = False,
    should_continue: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """One answer. A keeper of an earlier version may refuse what it does not know of."""
    responses = keeper_protocol.talk(
        control,
        request,
        max_bytes=MAX_RESPONSE_BYTES,
        within_s=MARGIN_S,
        should_continue=should_continue,
    )
    with closing(responses):
        response = next(responses)
    if "error" in response and not may_be_unknown:
        raise ValueError(words.text(response["error"], LONGEST_ERROR))
    return response


def _check_response(value: dict[str, Any]) -> CheckResponse:
    error = words.text(value.get("error", ""), LONGEST_ERROR)
    if "status" not in value:
        raise ValueError(error or "an answer without a status")
    return CheckResponse(
        status=_status(value["status"]),
        content_type=_type(value.get("content_type", "")),
        body=_body(value.get("body_base64", "")),
        took_s=words.seconds(value.get("took_s", 0.0)),
        error=error,
    )


def _recorded(value: dict[str, Any]) -> RecordedRequest:
    return RecordedRequest(
        body=_body(value["body_base64"]),
        content_type=_type(value["content_type"]),
        status=_status(value["status"]),
        response=_body(value["answer_base64"]),
        took_s=words.seconds(value["took_s"]),
    )


def _body(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("a body is a text in base64")
    body = b64decode(value, validate=True)
    if len(body) > MAX_PREDICTION_BYTES:
        raise ValueError(f"a body of over {MAX_PREDICTION_BYTES} bytes")
    return body


def _status(value: object) -> int:
    """0: there was no answer."""
    return words.count(value, 999)


def _type(value: object) -> str:
    """As a keeper takes it, too."""
    kind = words.text(value, LONGEST_TYPE)
    return kind.encode("latin-1", "replace").decode("latin-1")


def _cursor(value: object) -> list[int]:
    """What the next page is asked for with."""
    if not isinstance(value, list) or len(value) > LONGEST_CURSOR:
        raise TypeError("a cursor is a few numbers")
    return [words.count(number, (1 << 63) - 1) for number in value]
