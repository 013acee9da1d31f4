"""Bytes that come in many messages: all of them written, in their order, or none kept."""

import asyncio
import errno
import hashlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from havre.api.uploads import WRITE_AT_ONCE, _write_all
from havre.catalog.artifacts import ArtifactStore, StoredArtifact
from havre.domain.errors import Unavailable

PIECES = [os.urandom(99_991) for _ in range(5 * WRITE_AT_ONCE // 99_991)]


def put(root: Path, messages: Iterable[dict[str, Any]]) -> tuple[int, StoredArtifact]:
    """Bytes counted and what is stored after an upload of these ASGI messages."""
    coming = iter(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return next(coming)

    async def act() -> tuple[int, StoredArtifact]:
        with ArtifactStore(root).receive() as incoming:
            received = await _write_all(Request({"type": "http"}, receive), incoming)
            return received, incoming.commit()

    return asyncio.run(act())


def body(pieces: Iterable[bytes]) -> list[dict[str, Any]]:
    return [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]


def kept(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_all_that_comes_is_written_in_its_order(tmp_path: Path) -> None:
    content = b"".join(PIECES)
    received, stored = put(tmp_path, [*body(PIECES), {"type": "http.request", "body": b""}])
    assert received == stored.size == len(content)
    assert stored.digest == hashlib.sha256(content).hexdigest()
    assert ArtifactStore(tmp_path).path(stored.digest).read_bytes() == content


@pytest.mark.parametrize("refused", [0, 1, 4])
def test_a_disk_that_fills_up_refuses_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    writes = itertools.count()

    def write(_: int, piece: memoryview) -> int:
        if next(writes) == refused:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(piece)

    monkeypatch.setattr("havre.catalog.artifacts.os.write", write)
    with pytest.raises(Unavailable, match="is full"):
        put(tmp_path, [*body(PIECES), {"type": "http.request", "body": b""}])
    assert kept(tmp_path) == []


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        put(tmp_path, [*body(PIECES), {"type": "http.disconnect"}])
    assert kept(tmp_path) == []
