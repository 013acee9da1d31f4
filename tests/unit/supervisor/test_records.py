import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from havre.supervisor import records
from havre.supervisor.identity import Identity, identify
from havre.supervisor.protocol import ProcessSpec, Restart
from havre.supervisor.records import Record

SPEC = ProcessSpec(
    name="load-balancer",
    argv=("/bin/envoy", "-c", "x"),
    environment={"A": "b"},
    folder="/",
    log="/log",
    listen=("/s.sock",),
    restart=Restart.ALWAYS,
)
IDENTITY = {"pid": 12, "start_time": 345, "boot_id": "boot"}
RECORD = Record(SPEC, Identity(12, 345, "boot"), restarts=2, exit_code=-9)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    records.save(tmp_path, RECORD)
    assert records.load_all(tmp_path) == ([RECORD], [])
    assert (tmp_path / "load-balancer.json").stat().st_mode & 0o777 == 0o600
    records.forget(tmp_path, "load-balancer")
    records.forget(tmp_path, "load-balancer")
    assert records.load_all(tmp_path) == ([], [])


def test_saving_leaves_nothing_beside(tmp_path: Path) -> None:
    records.save(tmp_path, RECORD)
    records.save(tmp_path, replace(RECORD, restarts=3))
    assert [path.name for path in tmp_path.iterdir()] == ["load-balancer.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        json.dumps({**RECORD.to_json(), "format": 99}).encode(),
        json.dumps({**RECORD.to_json(), "identity": {"pid": 1}}).encode(),
        json.dumps({**RECORD.to_json(), "spec": {**SPEC.to_json(), "name": "other"}}).encode(),
        json.dumps({**RECORD.to_json(), "spec": []}).encode(),
        json.dumps({**RECORD.to_json(), "identity": {**IDENTITY, "pid": "12"}}).encode(),
        json.dumps({**RECORD.to_json(), "identity": {**IDENTITY, "pid": 0}}).encode(),
        b"[" * 200_000,
        b"\xff\xfe{}",
    ],
    ids=[
        *("empty", "torn", "list", "no fields", "future", "no identity", "another's"),
        *("no specification", "a pid in words", "every process", "deep", "not text"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "load-balancer.json").write_bytes(content)
    found, problems = records.load_all(tmp_path)
    assert found == []
    assert len(problems) == 1
    assert "load-balancer.json" in problems[0]


def test_what_runs_by_another_versions_record_is_told(tmp_path: Path) -> None:
    myself = identify(os.getpid())
    assert myself is not None
    mine = replace(RECORD, identity=myself).to_json()
    gone = replace(RECORD, identity=replace(myself, start_time=1)).to_json()
    for name, content in {
        "i-newer": {**mine, "format": 99},
        "i-field": {**mine, "spec": {**mine["spec"], "from_the_future": 1}},
        "i-gone": {**gone, "format": 99},
        "load-balancer": mine,
        "i-torn": {"format": 99},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert records.running_strangers(tmp_path) == {"i-field": myself, "i-newer": myself}
    assert [path.stem for path in records.remove_torn(tmp_path)] == ["i-torn"]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_record_of_before_there_were_renewed_ones_is_read(tmp_path: Path) -> None:
    stored = RECORD.to_json()
    del stored["renewed"]
    (tmp_path / "load-balancer.json").write_text(json.dumps(stored))
    assert records.load_all(tmp_path) == ([RECORD], [])


def test_a_record_of_before_processes_gave_way_is_read(tmp_path: Path) -> None:
    stored = RECORD.to_json()
    del stored["spec"]["batch_scheduling"]
    (tmp_path / "load-balancer.json").write_text(json.dumps(stored))
    assert records.load_all(tmp_path) == ([RECORD], [])


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_an_existing_record_is_still_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.save(tmp_path, RECORD)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    newer = replace(RECORD, identity=Identity(7, 8, "boot"), exit_code=None)
    records.save(tmp_path, newer)
    assert records.load_all(tmp_path) == ([newer], [])


def test_on_a_full_disk_a_new_record_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        records.save(tmp_path, RECORD)


def test_every_field_of_a_specification_is_in_its_digest() -> None:
    variants = [
        SPEC,
        replace(SPEC, argv=("/bin/envoy",)),
        replace(SPEC, environment={"A": "c"}),
        replace(SPEC, folder="/tmp"),
        replace(SPEC, log="/other"),
        replace(SPEC, listen=()),
        replace(SPEC, restart=Restart.NEVER),
        replace(SPEC, stop_grace_s=1.0),
        replace(SPEC, batch_scheduling=True),
    ]
    assert len({spec.digest for spec in variants}) == len(variants)
    assert ProcessSpec.from_json(json.loads(json.dumps(SPEC.to_json()))).digest == SPEC.digest
