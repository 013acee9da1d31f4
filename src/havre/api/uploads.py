"""Bytes coming in: to disk as they arrive, in flat memory, and into the catalog once whole.

A refusal is answered once the client has sent everything: one that is still sending would not see
the answer, only a broken connection.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from havre.api.answers import answer
from havre.api.conditions import require_match
from havre.api.errors import error_response
from havre.api.services import Services
from havre.catalog.archive import inspect_archive
from havre.catalog.artifacts import ArtifactStore, IncomingArtifact, StoredArtifact
from havre.domain.errors import ArtifactInvalid, CannotParse, HavreError, InvalidParameter
from havre.store import catalog, model_artifacts
from havre.store.retry_tokens import Receipt, answer_once, is_known
from havre.store.schema import Model

WRITE_AT_ONCE = 1024**2
LARGEST_JSON = 5 * 1024**2
LONGEST_NAME = 200
OPERATION = "create_artifact"

Inspect = Callable[[Path], str]
"""Looks at bytes before they are accepted; returns the extension of their name, ".zip" say.
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


async def take_upload(request: Request, here: Services, upload: Upload) -> Response:
    """Receive, inspect and attach. Answers 204 with the model's etag."""
    try:
        try:
            await run_in_threadpool(_refuse_early, here, upload)
            stored, extension = await _receive(request, here.artifacts, upload.inspect)
        except HavreError:
            await _read_away(request)
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
    if path.stat().st_size > LARGEST_JSON:
        raise ArtifactInvalid(f"a JSON description may have {LARGEST_JSON} bytes; zip a model")
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
    name = _UNFIT_FOR_A_NAME.sub("_", stated).strip("._")[-LONGEST_NAME:] or model_id
    return name if name.lower().endswith(extension) else name + extension


def release_bytes(here: Services) -> None:
    """Remove the bytes of what was given up. What fails here is finished by the next release, so
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
        extension = await run_in_threadpool(inspect, incoming.path)
        return await run_in_threadpool(incoming.commit), extension


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
        # The file is closed next: nobody may be writing to it then.
        if writing is not None:
            await asyncio.wait([writing])
        raise
    return received + size


async def _end(writing: asyncio.Future[None] | None) -> None:
    """Wait for it, and raise what it raised. Whoever is cancelled here cancels it not: a thread
    that has begun cannot be stopped.
    """
    if writing is not None:
        await asyncio.wait([writing])
        writing.result()


def _write(incoming: IncomingArtifact, piece: list[bytes]) -> None:
    incoming.write(b"".join(piece))


async def _read_away(request: Request) -> None:
    try:
        async for _ in request.stream():
            pass
    except RuntimeError:
        pass  # it was read to its end before


def _attach(here: Services, upload: Upload, stored: StoredArtifact, name: str) -> Response:
    request = "\n".join([upload.model_id, upload.slot, stored.digest])
    now = here.clock()
    try:
        with here.database.write() as session:

            def act() -> Receipt:
                model = catalog.find_for_change(session, Model, upload.model_id)
                require_match(upload.if_match, model)
                if upload.replaces:
                    model_artifacts.give_up(session, model, upload.slot)
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

            answer_once(
                session,
                upload.token,
                operation=OPERATION,
                request_digest=hashlib.sha256(request.encode()).hexdigest(),
                now=now,
                act=act,
            )
            model = catalog.find(session, Model, upload.model_id)
    except BaseException:
        _remove_unreferenced(here, stored.digest)
        raise
    if upload.replaces:
        release_bytes(here)
    return answer(status=204, row=model)


def _remove_unreferenced(here: Services, digest: str) -> None:
    try:
        with here.database.write() as session:
            model_artifacts.remove_unreferenced(session, digest, here.artifacts.delete)
    except (HavreError, OSError):
        _log.exception("the bytes %s were not attached and are still there", digest)
