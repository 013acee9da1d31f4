"""What is read of a keeper's word, of this version or another."""

import json
from typing import Any

from havre.domain.latency import BUCKETS, Latency
from havre.engines.keeper_protocol import KeeperState
from havre_copy.status import Status

EARLIER: dict[str, Any] = {
    "protocol": 1,
    "phase": "ready",
    "reason": "",
    "pid": 5,
    "ready": 2,
    "busy": 1,
    "restarts": 0,
    "answered": 7,
    "notes": ["n"],
    "shared_bytes": 1,
    "copy_bytes": 2,
}
"""All that the first version's engine read."""


def test_a_keeper_of_an_earlier_version_is_understood() -> None:
    state = KeeperState.from_json(EARLIER)
    assert (state.answered, state.failed, state.streaming) == (7, 0, 0)
    assert (state.latency, state.recording, state.mode) == (Latency(), 0, "")


def test_counts_in_other_buckets_are_left_out() -> None:
    told = {**EARLIER, "latency": {"counts": [1, 2, 3], "total_s": 6.0}}
    assert KeeperState.from_json(told).latency == Latency()
    counts = list(range(BUCKETS))
    told = {**EARLIER, "latency": {"counts": counts, "total_s": 6.0}}
    assert KeeperState.from_json(told).latency == Latency(tuple(counts), 6.0)


def test_an_earlier_engine_finds_all_it_reads_in_a_keepers_word() -> None:
    class Spec:
        instance = deployment = revision = "x"
        copies = 1

    report = Status(Spec, None).report(None)  # type: ignore[no-untyped-call]
    assert set(EARLIER) <= set(json.loads(json.dumps(report)))
