"""Bytes coming in: to disk as they arrive, in flat memory, and into the catalog once whole.

A refusal is sent once the client has sent everything: one that is still sending would not see the
response, only a broken connection.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session
from starlette.requests import ClientDisconnect

from havre.api.conditions import created, require_match
from havre.api.errors import error_response
from havre.api.responses import make_response
from havre.api.services import Services
from havre.api.signatures import DIGEST, SIGNED_DIGEST
from havre.catalog.archive import inspect_archive
from havre.catalog.artifacts import ArtifactStore, IncomingArtifact, StoredArtifact
from havre.domain.errors import (
    ArtifactInvalid,
    CannotParse,
    HavreError,
    InvalidParameter,
    NotAuthenticated,
)
from havre.store import catalog, model_artifacts
from havre.store.retry_tokens import Receipt, is_known
from havre.store.schema import Model

WRITE_AT_ONCE = 1024**2
MAX_JSON_BYTES = 5 * 1024**2
MAX_NAME_LENGTH = 200
OPERATION = "create_artifact"

Inspect = Callable[[Path], str]
"""Checks bytes before they are accepted; returns the extension of their name, ".zip" for one.
Raises ArtifactInvalid."""

_FILE_NAME = re.compile(r'filename\s*=\s*"?([^";]+)"?', re.IGNORECASE)
_UNFIT_FOR_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload: where it goes and on what conditions. ``replaces``: the slot must be taken."""

    model_id: str
    slot: str
    inspect: Inspect
    replaces: bool = False
    if_match: str | None = None
    token: str | None = None


async def receive_upload(request: Request, here: Services, upload: Upload) -> Response:
    """Receive, inspect and attach. Returns 204 with the model's etag."""
    try:
        try:
            await run_in_threadpool(_refuse_early, here, upload)
            stored, extension = await _receive(request, here.artifacts, upload.inspect)
        except HavreError:
            await _drain(request)
            raise
    except ClientDisconnect:
        return error_response(400, CannotParse.code, "the upload was cut short; nothing was kept")
    name = file_name(request.headers.get("content-disposition", ""), upload.model_id, extension)
    return await run_in_threadpool(_attach, here, upload, stored, name)


def inspect_model(path: Path) -> str:
    """A zip archive, or a JSON description (of a model that is kept elsewhere)."""
    with path.open("rb") as file:
        beginning = file.read(512).lstrip()
    if not beginning.startswith((b"{", b"[")):
        inspect_archive(path)
        return ".zip"
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ArtifactInvalid(f"a JSON description may have {MAX_JSON_BYTES} bytes; zip a model")
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactInvalid(
            f"the artifact is neither a zip archive nor JSON ({error}); zip the model's folder"
        ) from error
    return ".json"


def inspect_nothing(_: Path) -> str:
    """Artifacts of metadata are whatever their owner likes."""
    return ""


def file_name(content_disposition: str, model_id: str, extension: str) -> str:
    """The name that a download bears: the client's, made harmless, or the model's id."""
    match = _FILE_NAME.search(content_disposition)
    stated = match[1].replace("\\", "/").rpartition("/")[2] if match else ""
    name = _UNFIT_FOR_A_NAME.sub("_", stated).strip("._")[-MAX_NAME_LENGTH:] or model_id
    return name if name.lower().endswith(extension) else name + extension


def release_bytes(here: Services) -> None:
    """Remove the bytes of what was dropped. What fails here is finished by the next release, so
    that it never fails the call whose change is made already.
    """
    try:
        with here.database.write() as session:
            model_artifacts.release(session, here.artifacts.delete)
    except (HavreError, OSError):
        _log.exception("bytes of deleted artifacts are still there; the next deletion tries again")


def _refuse_early(here: Services, upload: Upload) -> None:
    """Before gigabytes are written: what the transaction at the end would refuse anyway."""
    with here.database.read() as session:
        model = catalog.find(session, Model, upload.model_id)
        if is_known(session, upload.token, OPERATION):
            return
        catalog.refuse_deleted(model)
        require_match(upload.if_match, model)
        if upload.replaces:
            model_artifacts.find_artifact(session, model, upload.slot)
        else:
            model_artifacts.refuse_second(session, model, upload.slot)


async def _receive(
    request: Request, artifacts: ArtifactStore, inspect: Inspect
) -> tuple[StoredArtifact, str]:
    with artifacts.receive() as incoming:
        received = await _write_all(request, incoming)
        if not received:
            raise InvalidParameter("the artifact is empty: send the bytes as the body")
        stated = request.headers.get("content-length", "")
        if stated and stated != str(received):
            raise InvalidParameter(f"content-length says {stated[:20]}, but {received} bytes came")
        _compare(request, incoming)
        extension = await run_in_threadpool(inspect, incoming.path)
        return await run_in_threadpool(incoming.commit), extension


def _compare(request: Request, incoming: IncomingArtifact) -> None:
    """With the hash that the client stated. Raises NotAuthenticated when that was signed."""
    came = incoming.sha256_base64
    signed = request.scope.get(SIGNED_DIGEST)
    if signed is not None and signed != came:
        raise NotAuthenticated(f"{DIGEST} was signed, and is not the hash of the bytes that came")
    if (stated := request.headers.get(DIGEST, came)) != came:
        raise InvalidParameter(
            f"{DIGEST} says {stated[:80]}, but the bytes that came have {came}: upload them again"
        )


async def _write_all(request: Request, incoming: IncomingArtifact) -> int:
    """One piece is written while the next one comes. Returns the number of bytes."""
    received, piece, size = 0, list[bytes](), 0
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            piece.append(chunk)
            size += len(chunk)
            if size >= WRITE_AT_ONCE:
                await _end(writing)
                writing = asyncio.ensure_future(run_in_threadpool(_write, incoming, piece))
                received, piece, size = received + size, [], 0
        await _end(writing)
        if piece:
            writing = asyncio.ensure_future(run_in_threadpool(_write, incoming, piece))
            await _end(writing)
    except BaseException:
        # The file is closed next: no thread may be writing to it then.
        if writing is not None:
            await asyncio.wait([writing])
        raise
    return received + size


async def _end(writing: asyncio.Future[None] | None) -> None:
    """Wait for it, and raise what it raised. A caller that is cancelled here does not cancel it: a
    thread that has begun cannot be stopped.
    """
    if writing is not None:
        await asyncio.wait([writing])
        writing.result()


def _write(incoming: IncomingArtifact, piece: list[bytes]) -> None:
    incoming.write(b"".join(piece))


async def _drain(request: Request) -> None:
    try:
        async for _ in request.stream():
            pass
    except RuntimeError:
        pass  # it was read to its end before


def _attach(here: Services, upload: Upload, stored: StoredArtifact, name: str) -> Response:
    def act(session: Session, now: datetime) -> Receipt:
        model = catalog.find_for_change(session, Model, upload.model_id)
        require_match(upload.if_match, model)
        if upload.replaces:
            model_artifacts.drop(session, model, upload.slot)
        model_artifacts.attach(
            session,
            model,
            upload.slot,
            digest=stored.digest,
            size=stored.size,
            md5=stored.md5_base64,
            file_name=name,
            has_bytes=here.artifacts.has,
            now=now,
        )
        return Receipt(model.id)

    path = (upload.model_id, upload.slot)
    try:
        with created(here, upload.token, stored.digest, OPERATION, act, *path) as (session, _):
            model = catalog.find(session, Model, upload.model_id)
    except BaseException:
        _remove_unreferenced(here, stored.digest)
        raise
    if upload.replaces:
        release_bytes(here)
    return make_response(status=204, row=model)


def _remove_unreferenced(here: Services, digest: str) -> None:
    try:
        with here.database.write() as session:
            model_artifacts.remove_unreferenced(session, digest, here.artifacts.delete)
    except (HavreError, OSError):
        _log.exception("the bytes %s were not attached and are still there", digest)
