"""Entries are found in live files, closed ones and segments, each once."""

import json
from pathlib import Path
from typing import Any

import pytest

from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.telemetry.layout import Category
from havre.telemetry.store import LogStore

DEPLOYMENT = new_ocid(Kind.DEPLOYMENT)
LONG_AGO, FAR_AHEAD = 0, 2**53


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    return home


def line(number: int, **more: Any) -> dict[str, Any]:
    """As Envoy writes them."""
    return {
        "id": f"id-{number}",
        "time": f"2026-11-25T10:00:{number:02d}.500Z",
        "deployment": DEPLOYMENT,
        "request": f"request-{number}",
        "method": "POST",
        "path": f"/{DEPLOYMENT}/predict",
        "protocol": "HTTP/1.1",
        "status": 200,
        "flags": "-",
        "total_ms": 12,
        "copy_us": 9500,
        "bytes_in": 50,
        "bytes_out": 70,
        "copy": "8b1f0c7a55d2/1/abc123/9100",
        **more,
    }


def test_an_entry_says_what_the_load_balancer_wrote(home: Home) -> None:
    home.access_log.write_text(json.dumps(line(1)) + '\n{"id":"torn","ti')
    answer = LogStore(home).query(
        "SELECT * FROM entries",
        category=Category.ACCESS,
        deployments=[DEPLOYMENT],
        time_from_ms=LONG_AGO,
        time_to_ms=FAR_AHEAD,
    )
    assert [dict(zip(answer.columns, row, strict=True)) for row in answer.rows] == [
        {
            "category": "access",
            "deployment": DEPLOYMENT,
            "id": "id-1",
            "time": 1795600801500,
            "ingested": 1795600801512,
            "message": f"POST /{DEPLOYMENT}/predict HTTP/1.1",
            "request": "request-1",
            "instance": "8b1f0c7a55d2",
            "copy": 1,
            "revision": "abc123",
            "method": "POST",
            "path": f"/{DEPLOYMENT}/predict",
            "protocol": "HTTP/1.1",
            "status": 200,
            "flags": None,
            "total_ms": 12.0,
            "copy_ms": 9.5,
            "model_ms": 9.1,
            "bytes_in": 50,
            "bytes_out": 70,
        }
    ]
