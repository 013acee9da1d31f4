"""Bytes going out: whole or one range of them, in flat memory, with the headers clients read."""

import re
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import format_datetime
from typing import BinaryIO

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from havre.catalog.artifacts import ArtifactStore
from havre.store.schema import Artifact

READ_AT_ONCE = 1024**2
SENT_AT_ONCE = 128 * 1024
"""About what the socket takes at once: more than that the server copies, to send it later."""
BYTES = "application/octet-stream"

MAX_RANGE_LENGTH = 100
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,20})\s*-\s*(\d{0,20})\s*", re.IGNORECASE | re.ASCII)


def describe(artifact: Artifact) -> Response:
    """The response to HEAD."""
    headers = _headers(artifact)
    headers["content-length"] = str(artifact.size)
    headers["content-md5"] = artifact.md5
    return Response(None, 200, headers, BYTES)


def send(artifact: Artifact, store: ArtifactStore, stated_range: str | None) -> Response:
    """200 with everything, 206 with one range, or 416. Raises NotFound if the bytes are gone."""
    byte_range = parse_range(stated_range, artifact.size)
    start, end = byte_range or (0, artifact.size)
    headers = _headers(artifact)
    headers["content-length"] = str(end - start)
    if byte_range:
        headers["content-range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    else:
        headers["content-md5"] = artifact.md5
    chunks = _chunks(store.open(artifact.digest), start, end)
    return StreamingResponse(chunks, 206 if byte_range else 200, headers, BYTES)


def parse_range(stated: str | None, size: int) -> tuple[int, int] | None:
    """Where the range begins and ends (exclusive); None when everything is to be sent, which is
    also the case for what is not one range of bytes.

    Raises HTTPException 416 if no byte of the range is there.
    """
    stated = stated or ""
    match = _RANGE.fullmatch(stated) if len(stated) <= MAX_RANGE_LENGTH else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None  # not a range at all, says RFC 9110
    else:
        start, end = max(size - int(match[2]), 0), size
    if start >= end:
        raise HTTPException(
            416, f"the artifact has {size} bytes", {"content-range": f"bytes */{size}"}
        )
    return start, end


def _headers(artifact: Artifact) -> dict[str, str]:
    return {
        # Unquoted, because clients take what follows the = as the name, quotes included.
        "content-disposition": f"attachment; filename={artifact.file_name}",
        "last-modified": format_datetime(artifact.time_created.astimezone(UTC), usegmt=True),
        "etag": artifact.digest,
        "accept-ranges": "bytes",
    }


async def _chunks(file: BinaryIO, start: int, end: int) -> AsyncIterator[memoryview]:
    with file:
        file.seek(start)
        while start < end:
            read = await run_in_threadpool(file.read, min(READ_AT_ONCE, end - start))
            if not read:
                raise EOFError(f"{file.name} is shorter than recorded")
            start += len(read)
            chunk = memoryview(read)
            while chunk:
                yield chunk[:SENT_AT_ONCE]
                chunk = chunk[SENT_AT_ONCE:]
