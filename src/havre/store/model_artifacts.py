"""Which bytes belong to which model, and when bytes may go.

Bytes are shared by digest, so that they are removed only under a lock on the digest and once no row
refers to them. A row that is dropped is first marked (its model DELETED, or its slot `released/`),
then its bytes go, then the row: after a crash in between the next `release` does the rest.
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.orm import Session

from havre.domain.errors import Conflict, IncorrectState, InvalidParameter, NotFound
from havre.domain.states import ModelState
from havre.store.locks import hold
from havre.store.schema import Artifact, Model

CUSTOM = "custom/"
DEFINED = "defined/"
RELEASED = "released/"
MAX_KEY_LENGTH = 255


def metadata_slot(family: str, key: str) -> str:
    """``family`` is CUSTOM or DEFINED. Raises InvalidParameter for a key that cannot be one."""
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidParameter(f"a metadata key has 1 to {MAX_KEY_LENGTH} characters")
    return family + key


def find_artifact(session: Session, model: Model, slot: str) -> Artifact:
    """Raises NotFound when there is none, and for a deleted model: its bytes are gone."""
    artifact = _get(session, model.id, slot)
    if artifact is None or model.lifecycle_state == ModelState.DELETED:
        raise NotFound(f"model {model.id} has no artifact {slot!r}")
    return artifact


def refuse_second(session: Session, model: Model, slot: str) -> None:
    """Raises Conflict if the slot is taken."""
    if _get(session, model.id, slot) is not None:
        raise Conflict(
            f"model {model.id} has its artifact {slot!r} already; "
            + (
                "update it with PUT, or delete it first"
                if "/" in slot
                else "an artifact never changes: create another model for another one"
            )
        )


def attach(
    session: Session,
    model: Model,
    slot: str,
    *,
    digest: str,
    size: int,
    md5: str,
    file_name: str,
    has_bytes: Callable[[str], bool],
    now: datetime,
) -> Artifact:
    """Record bytes that lie in the store. The caller has locked the model.

    Raises Conflict if the slot is taken, IncorrectState if another call removed the same bytes
    meanwhile.
    """
    refuse_second(session, model, slot)
    hold(session, digest)
    if not has_bytes(digest):
        raise IncorrectState(
            "the same bytes were deleted while they were uploaded; upload them again"
        )
    artifact = Artifact(
        model_id=model.id,
        slot=slot,
        digest=digest,
        size=size,
        md5=md5,
        file_name=file_name,
        time_created=now,
    )
    session.add(artifact)
    if "/" in slot:
        model.version += 1  # the model shows which of its metadata have an artifact
    session.flush()
    return artifact


def drop(session: Session, model: Model, slot: str) -> None:
    """The slot is free again; call `release` after the transaction. Raises NotFound."""
    artifact = find_artifact(session, model, slot)
    artifact.slot = f"{RELEASED}{artifact.id}"
    model.version += 1
    session.flush()


def release(session: Session, remove_bytes: Callable[[str], None]) -> int:
    """Remove what was dropped, in a transaction of its own. Returns how many rows went."""
    dropped = select(Artifact.id, Artifact.digest).join(Model).where(_is_dropped())
    rows = session.execute(dropped.order_by(Artifact.digest, Artifact.id)).all()
    for artifact_id, digest in rows:
        hold(session, digest)
        if not _is_needed(session, digest):
            remove_bytes(digest)
        session.execute(delete(Artifact).where(Artifact.id == artifact_id))
    return len(rows)


def remove_unreferenced(session: Session, digest: str, remove_bytes: Callable[[str], None]) -> None:
    """For bytes that were stored and then not attached."""
    hold(session, digest)
    if session.scalars(select(Artifact.id).where(Artifact.digest == digest)).first() is None:
        remove_bytes(digest)


def _get(session: Session, model_id: str, slot: str) -> Artifact | None:
    return session.scalars(
        select(Artifact).where(Artifact.model_id == model_id, Artifact.slot == slot)
    ).one_or_none()


def _is_needed(session: Session, digest: str) -> bool:
    others = select(Artifact.id).join(Model).where(Artifact.digest == digest, ~_is_dropped())
    return session.scalars(others).first() is not None


def _is_dropped() -> ColumnElement[bool]:
    return or_(Model.lifecycle_state == ModelState.DELETED, Artifact.slot.startswith(RELEASED))
