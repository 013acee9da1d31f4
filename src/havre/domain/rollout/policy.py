"""How careful a rollout is, and what is captured, from the freeform tags of a deployment.

``havre-replay``: "50", "50 equal=95% slowdown=2 tolerance=1e-6". ``havre-canary``: "5%/30s
25%/60s errors=1% wait=10m".
``havre-idempotent``: "true". "off" turns off what the server's settings ask for.
``havre-capture``: "5" (percent); ``havre-capture-redact``: "name, email".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from havre.domain.errors import InvalidParameter

REPLAY_TAG = "havre-replay"
CANARY_TAG = "havre-canary"
IDEMPOTENT_TAG = "havre-idempotent"
CAPTURE_TAG = "havre-capture"
REDACT_TAG = "havre-capture-redact"
TAGS = (REPLAY_TAG, CANARY_TAG, IDEMPOTENT_TAG, CAPTURE_TAG, REDACT_TAG)
OFF = "off"

MAX_REPLAYED = 1000
MAX_REDACTED = 64
MAX_PAUSE_S = 24 * 3600.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_STEP = re.compile(r"(\d{1,2})%/(\d{1,5}(?:\.\d{1,3})?)([smh])", re.ASCII)
_NUMBER = re.compile(r"\d{1,5}(?:\.\d{1,3})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,4}")
_TIME = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)([smh])", re.ASCII)
_TOLERANCE = re.compile(r"\d(?:\.\d{1,9})?(?:e-\d{1,2})?", re.ASCII)

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Replay:
    """Replay the last live ``requests`` with the new revision before the switch.

    The rollout stops when a smaller share of the responses than ``equal`` (0 to 1) is equal, or
    when the median takes more than ``slowdown`` times as long; None: that is only logged. Numbers
    are equal that differ by no more than this ``tolerance``, relative to the larger of the two.
    """

    requests: int
    equal: float | None = None
    slowdown: float | None = None
    tolerance: float = 1e-9


@dataclass(frozen=True, slots=True)
class Step:
    percent: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class Canary:
    """Give the new revision the traffic in steps; stop when it is worse than the old one.

    ``errors``: how much larger its share of failed requests may be (0 to 1); ``slowdown``: how many
    times as long its median may take; ``wait_s``: how long after its pause a step may go on until
    there are enough responses to judge it.
    """

    steps: tuple[Step, ...]
    errors: float = 0.01
    slowdown: float = 2.0
    wait_s: float = 600.0

    def pause_of(self, percent: int) -> float:
        """Seconds that a step is held; 0 for a share that is none of the steps."""
        return next((step.pause_s for step in self.steps if step.percent == percent), 0.0)

    def after(self, percent: int) -> int:
        """The share that follows this one; 100 after the last step."""
        return next((step.percent for step in self.steps if step.percent > percent), 100)


@dataclass(frozen=True, slots=True)
class Capture:
    """Keep ``percent`` of the requests with their responses; 0: none.

    ``redact``: names of fields that are redacted before anything is kept.
    """

    percent: float = 0.0
    redact: tuple[str, ...] = ()


NO_CAPTURE = Capture()


@dataclass(frozen=True, slots=True)
class RolloutPolicy:
    """``is_idempotent``: a prediction may be repeated when a copy dies under it."""

    replay: Replay | None = None
    canary: Canary | None = None
    is_idempotent: bool = False
    capture: Capture = NO_CAPTURE


def read_policy(tags: Mapping[str, str], *, replay: str = "", canary: str = "") -> RolloutPolicy:
    """The policy of these freeform tags; ``replay`` and ``canary`` stand in for tags not there.

    Raises InvalidParameter; its message has an example for every tag that is wrong.
    """
    problems: list[str] = [problem for tag in tags if (problem := _misspelling(tag))]

    def read(tag: str, default: str, reader: Callable[[str], Part]) -> Part | None:
        try:
            return reader(tags.get(tag, default))
        except InvalidParameter as error:
            problems.append(f"the tag {tag}: {error.message}")
            return None

    percent = read(CAPTURE_TAG, OFF, _read_percent)
    redact = read(REDACT_TAG, "", _read_names)
    policy = RolloutPolicy(
        read(REPLAY_TAG, replay, read_replay),
        read(CANARY_TAG, canary, read_canary),
        bool(read(IDEMPOTENT_TAG, "false", _read_flag)),
        Capture(percent, redact or ()) if percent else NO_CAPTURE,
    )
    if problems:
        raise InvalidParameter(problems)
    return policy


def read_replay(text: str) -> Replay | None:
    """None for "off" and "". Raises InvalidParameter."""
    words = text.split()
    if not words or words == [OFF]:
        return None
    limits = _limits(words[1:], _REPLAY_LIMITS)
    is_count = _COUNT.fullmatch(words[0]) and 1 <= int(words[0]) <= MAX_REPLAYED
    if not is_count or limits is None:
        raise InvalidParameter(
            f"{text!r} must be a number of requests, 1 to {MAX_REPLAYED}, and limits if wanted, "
            'like "50" or "50 equal=95% slowdown=2", or "off"'
        )
    return Replay(int(words[0]), **limits)


def read_canary(text: str) -> Canary | None:
    """None for "off" and "". Raises InvalidParameter."""
    words = text.split()
    if not words or words == [OFF]:
        return None
    matches = [_STEP.fullmatch(word) for word in words if "=" not in word]
    steps = tuple(
        Step(int(match[1]), float(match[2]) * _UNITS[match[3]]) for match in matches if match
    )
    shares = [step.percent for step in steps]
    limits = _limits([word for word in words if "=" in word], _CANARY_LIMITS)
    if (
        not steps
        or limits is None
        or len(steps) < len(matches)
        or shares != sorted(set(shares))
        or shares[0] < 1
        or any(not 0 < step.pause_s <= MAX_PAUSE_S for step in steps)
    ):
        raise InvalidParameter(
            f"{text!r} must be steps of a rising share, 1% to 99%, each with its pause, above 0 "
            'and at most 24h, and limits if wanted, like "5%/30s 25%/5m" or '
            '"10%/60s errors=1% slowdown=2 wait=10m", or "off"'
        )
    if "wait" in limits:
        limits["wait_s"] = limits.pop("wait")
    return Canary(steps, **limits)


def _read_percent(text: str) -> float:
    if text == OFF:
        return 0.0
    percent = float(text) if _NUMBER.fullmatch(text) else 0.0
    if not 0 < percent <= 100:
        raise InvalidParameter(
            f"{text!r} must be a share of the requests in percent, above 0 and at most 100, like "
            '"5" or "0.1", or "off"'
        )
    return percent


def _read_names(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    if len(names) > MAX_REDACTED or not all(names):
        raise InvalidParameter(
            f"{text!r} must be names of fields with commas between, at most {MAX_REDACTED}, like "
            '"name, email"'
        )
    return tuple(names)


def _read_flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise InvalidParameter(f'{text!r} must be "true" or "false"')
    return text == "true"


def _limits(
    words: list[str], readers: Mapping[str, Callable[[str], float | None]]
) -> dict[str, float] | None:
    """Limits by name; None if a word is not one of them, wrong, or given twice."""
    limits: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        limit = readers[name](value) if name in readers else None
        if limit is None or name in limits:
            return None
        limits[name] = limit
    return limits


def _share(text: str) -> float | None:
    """0 to 1, from "95%"."""
    number = text.removesuffix("%")
    if number == text or not _NUMBER.fullmatch(number) or float(number) > 100:
        return None
    return float(number) / 100


def _factor(text: str) -> float | None:
    if not _NUMBER.fullmatch(text) or float(text) < 1:
        return None
    return float(text)


def _duration(text: str) -> float | None:
    """Seconds, from "10m"."""
    match = _TIME.fullmatch(text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    return seconds if 0 < seconds <= MAX_PAUSE_S else None


def _tolerance(text: str) -> float | None:
    if not _TOLERANCE.fullmatch(text) or float(text) >= 1:
        return None
    return float(text)


def _misspelling(tag: str) -> str:
    """What is wrong with a tag that looks like one of ours; "" if it is one, or looks different."""
    letters = re.sub(r"[^a-z]", "", tag.lower())
    if tag in TAGS or not letters.startswith("havre"):
        return ""
    nearest = get_close_matches(letters, [known.replace("-", "") for known in TAGS], 1, 0.0)
    meant = next(known for known in TAGS if known.replace("-", "") == nearest[0])
    return f"the tag {tag!r} is not known: did you mean {meant}? There are {', '.join(TAGS)}"


_REPLAY_LIMITS: Mapping[str, Callable[[str], float | None]] = {
    "equal": _share,
    "slowdown": _factor,
    "tolerance": _tolerance,
}
_CANARY_LIMITS: Mapping[str, Callable[[str], float | None]] = {
    "errors": _share,
    "slowdown": _factor,
    "wait": _duration,
}
