"""Whose database it is: the tenancy, user and default project of the first home that uses it, and
of every later one.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from havre.auth.identity import OciIdentity, new_identity
from havre.domain.errors import SystemFault
from havre.store import logs
from havre.store.locks import hold
from havre.store.schema import IdentityRow, Project

_ROW_ID = 1


def claim_identity(session: Session, own: OciIdentity | None, *, now: datetime) -> OciIdentity:
    """The database's identity, which a home with ``own`` (None: a new home) is to have.

    Its default project and its built-in logs exist afterwards. Raises SystemFault if the home has
    another identity.
    """
    hold(session, "identity")
    row = session.get(IdentityRow, _ROW_ID)
    if row is None:
        identity = _first(session, own)
        session.add(
            IdentityRow(
                id=_ROW_ID,
                tenancy_ocid=identity.tenancy_ocid,
                user_ocid=identity.user_ocid,
                project_ocid=identity.project_ocid,
            )
        )
    else:
        identity = OciIdentity(row.tenancy_ocid, row.user_ocid, row.project_ocid)
    if own is not None and own != identity:
        raise SystemFault(
            f"this home belongs to the tenancy {own.tenancy_ocid}, its database to "
            f"{identity.tenancy_ocid}: give it another database_url; or, if nothing is to be kept "
            "of this home, start with an empty one, which joins those of the database"
        )
    _ensure_default_project(session, identity, now)
    logs.ensure_built_in(session, identity, now)
    return identity


def _first(session: Session, own: OciIdentity | None) -> OciIdentity:
    if own is None and session.scalars(select(Project.id)).first() is not None:
        raise SystemFault(
            "the database belongs to another home, whose identity it does not have: start that one "
            "first, then this one joins it"
        )
    return own or new_identity()


def _ensure_default_project(session: Session, identity: OciIdentity, now: datetime) -> None:
    if session.get(Project, identity.project_ocid) is None:
        session.add(
            Project(
                id=identity.project_ocid,
                compartment_id=identity.tenancy_ocid,
                created_by=identity.user_ocid,
                time_created=now,
                display_name="default",
                description="The project that exists from the start.",
            )
        )
