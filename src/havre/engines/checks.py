"""What the control plane asks of a model through its keeper: checks, its sample, its last requests.

All raise OSError or ValueError when the keeper does not answer, or not as a keeper does.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from havre.domain.instance import CheckAnswer, CheckRequest, RecordedRequest
from havre.domain.policy import Capture
from havre.engines import keeper

MOST_AT_ONCE = 128
"""The keeper takes no more in one go."""
BYTES_AT_ONCE = 8 * 1024 * 1024
"""Bodies; a larger one goes alone. In base64 it fits the line that a keeper takes."""
ANSWER_LIMIT = 16 * 1024 * 1024
MARGIN_S = 5.0
"""Beyond the limits that the keeper itself keeps."""


def check(
    control: Path, requests: Sequence[CheckRequest], *, limit_s: float
) -> Iterator[CheckAnswer]:
    """An answer for each request; the keeper ends each after at most ``limit_s``."""
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
        told = keeper.talk(control, asked, most=ANSWER_LIMIT, within_s=limit_s + MARGIN_S)
        with closing(told):
            for answer in islice(told, len(batch)):
                yield _answer(answer)


def sample(control: Path) -> CheckRequest | None:
    told = _ask(control, {"op": "sample"})["sample"]
    return told and CheckRequest(b64decode(told["body_base64"]), str(told["content_type"]))


def record(control: Path, most: int) -> None:
    _ask(control, {"op": "record", "most": most}, may_be_unknown=True)


def recorded(control: Path) -> list[RecordedRequest]:
    """Oldest first."""
    found: list[RecordedRequest] = []
    before = None
    while True:
        page = _ask(control, {"op": "recorded", "before": before}, may_be_unknown=True)
        found += map(_recorded, page.get("recorded", ()))
        before = page.get("before")
        if before is None or len(found) >= int(page["most"]):
            return found[: int(page.get("most", 0))][::-1]


def capture(control: Path, wanted: Capture) -> None:
    asked = {"op": "capture", "percent": wanted.percent, "redact": list(wanted.redact)}
    _ask(control, asked, may_be_unknown=True)


def _batches(requests: Sequence[CheckRequest]) -> Iterator[list[CheckRequest]]:
    batch: list[CheckRequest] = []
    size = 0
    for request in requests:
        size += len(request.body)
        if batch and (size > BYTES_AT_ONCE or len(batch) == MOST_AT_ONCE):
            yield batch
            batch, size = [], len(request.body)
        batch.append(request)
    if batch:
        yield batch


def _ask(control: Path, request: dict[str, Any], *, may_be_unknown: bool = False) -> dict[str, Any]:
    """One answer. A keeper of an earlier version may refuse what it does not know of."""
    told = keeper.talk(control, request, most=ANSWER_LIMIT, within_s=MARGIN_S)
    with closing(told):
        answer = next(told)
    if "error" in answer and not may_be_unknown:
        raise ValueError(str(answer["error"]))
    return answer


def _answer(told: dict[str, Any]) -> CheckAnswer:
    if "status" not in told:
        raise ValueError(str(told.get("error", "an answer without a status")))
    return CheckAnswer(
        status=int(told["status"]),
        content_type=str(told.get("content_type", "")),
        body=b64decode(told.get("body_base64", "")),
        took_s=float(told.get("took_s", 0.0)),
        error=str(told.get("error", "")),
    )


def _recorded(told: dict[str, Any]) -> RecordedRequest:
    return RecordedRequest(
        body=b64decode(told["body_base64"]),
        content_type=str(told["content_type"]),
        status=int(told["status"]),
        answer=b64decode(told["answer_base64"]),
        took_s=float(told["took_s"]),
    )
