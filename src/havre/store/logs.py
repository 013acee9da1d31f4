"""Log groups, logs, and which log the entries of each deployment belong to.

Every function works inside the caller's transaction; the moment is an argument. What is deleted is
gone: its entries stay, and are found by their compartment, until their retention ends.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from havre.auth.identity import OciIdentity
from havre.domain.errors import Conflict, NotFound, RelatedNotFound
from havre.domain.logs import (
    BUILT_IN_GROUP,
    Category,
    LogAddress,
    LogStream,
    built_in_group,
    built_in_log,
    streams_of,
)
from havre.domain.ocid import Kind, is_ocid, new_ocid
from havre.domain.states import DeploymentState, Operation
from havre.store import work_requests
from havre.store.catalog import apply, refuse_used
from havre.store.locks import hold
from havre.store.schema import Deployment, Log, LogGroup, WorkRequest

R = TypeVar("R", LogGroup, Log)


def ensure_built_in(session: Session, identity: OciIdentity, now: datetime) -> None:
    """The log group that is there from the start, and a log for each category in it."""
    group = built_in_group(identity.tenancy_ocid)
    owned = {"created_by": identity.user_ocid, "time_created": now, "time_last_modified": now}
    if session.get(LogGroup, group) is None:
        session.add(
            LogGroup(
                id=group,
                compartment_id=identity.tenancy_ocid,
                display_name=BUILT_IN_GROUP,
                description="Takes the entries of deployments that name no log.",
                **owned,
            )
        )
        session.flush()
    for category in Category:
        log = built_in_log(identity.tenancy_ocid, category)
        if session.get(Log, log) is None:
            session.add(Log(id=log, log_group_id=group, display_name=category, **owned))


def find_group(session: Session, group_id: str, *, for_change: bool = False) -> LogGroup:
    """Raises NotFound. ``for_change``: locked until the transaction ends."""
    result = None
    if is_ocid(group_id, Kind.LOG_GROUP):
        result = session.get(LogGroup, group_id, with_for_update=for_change or None)
    if result is None:
        raise NotFound(f"log group {group_id[:255]} does not exist, or you may not see it")
    return result


def find_log(session: Session, group_id: str, log_id: str, *, for_change: bool = False) -> Log:
    """Raises NotFound. ``for_change``: locked until the transaction ends."""
    result = None
    if is_ocid(log_id, Kind.LOG):
        result = session.get(Log, log_id, with_for_update=for_change or None)
    if result is None or result.log_group_id != group_id:
        raise NotFound(
            f"log {log_id[:255]} of log group {group_id[:255]} does not exist, or you may not "
            "see it"
        )
    return result


def create_group(
    session: Session, fields: Mapping[str, Any], *, created_by: str, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken."""
    group = LogGroup(
        id=new_ocid(Kind.LOG_GROUP),
        created_by=created_by,
        time_created=now,
        time_last_modified=now,
        **fields,
    )
    _refuse_taken(session, group)
    session.add(group)
    session.flush()
    return _done(session, Operation.CREATE_LOG_GROUP, group, "Created.", now)


def create_log(
    session: Session, group: LogGroup, fields: Mapping[str, Any], *, created_by: str, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken in the group."""
    log = Log(
        id=new_ocid(Kind.LOG),
        log_group_id=group.id,
        created_by=created_by,
        time_created=now,
        time_last_modified=now,
        **fields,
    )
    _refuse_taken(session, log)
    session.add(log)
    session.flush()
    return _done(session, Operation.CREATE_LOG, log, "Created.", now)


def update_group(
    session: Session, group: LogGroup, fields: Mapping[str, Any], *, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken."""
    _set(session, group, fields, now)
    _refuse_taken(session, group)
    return _done(session, Operation.UPDATE_LOG_GROUP, group, "Changed.", now)


def move_group(
    session: Session, group: LogGroup, compartment_id: str, *, tenancy: str, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken there, and for the built-in group."""
    _refuse_built_in(group, tenancy)
    _set(session, group, {"compartment_id": compartment_id}, now)
    _refuse_taken(session, group)
    return _done(session, Operation.MOVE_LOG_GROUP, group, "Moved.", now)


def update_log(
    session: Session, log: Log, fields: Mapping[str, Any], *, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken."""
    _set(session, log, fields, now)
    _refuse_taken(session, log)
    return _done(session, Operation.UPDATE_LOG, log, "Changed.", now)


def move_log(
    session: Session, log: Log, target: LogGroup, *, tenancy: str, now: datetime
) -> WorkRequest:
    """Raises Conflict for a name that is taken there, and for a log that deployments name."""
    _refuse_built_in(log, tenancy)
    _refuse_in_use(session, log)
    _set(session, log, {"log_group_id": target.id}, now)
    _refuse_taken(session, log)
    return _done(session, Operation.MOVE_LOG, log, "Moved.", now)


def delete_group(session: Session, group: LogGroup, *, tenancy: str, now: datetime) -> WorkRequest:
    """Raises Conflict while it has logs, and for the built-in group."""
    _refuse_built_in(group, tenancy)
    logs = session.scalars(select(Log.id).where(Log.log_group_id == group.id)).all()
    refuse_used("the log group has logs", list(logs), "delete them, or move them, first")
    request = _done(session, Operation.DELETE_LOG_GROUP, group, "Deleted.", now)
    session.delete(group)
    return request


def delete_log(session: Session, log: Log, *, tenancy: str, now: datetime) -> WorkRequest:
    """Raises Conflict for a log that deployments name, and for a built-in one."""
    _refuse_built_in(log, tenancy)
    _refuse_in_use(session, log)
    request = _done(session, Operation.DELETE_LOG, log, "Deleted.", now)
    session.delete(log)
    return request


def require_logs(
    session: Session, details: Mapping[str, Any] | None, *, kept: Mapping[str, Any] | None = None
) -> None:
    """Logs that a deployment may name, kept from being deleted meanwhile. Raises RelatedNotFound.

    What ``kept`` names as well was checked when it was set, and cannot be gone.
    """
    for category, named in (details or {}).items():
        if named == (kept or {}).get(category):
            continue
        log = session.get(Log, named["logId"], with_for_update={"read": True})
        if log is None or log.log_group_id != named["logGroupId"]:
            raise RelatedNotFound(
                f"categoryLogDetails.{category}: there is no log {named['logId']} in log group "
                f"{named['logGroupId']}; make one with POST /20200531/logGroups/<OCID>/logs, or "
                "leave it out, and the built-in log takes the entries"
            )


def addresses(session: Session) -> dict[str, LogAddress]:
    """Every log by its OCID, and every log group by its own."""
    groups = {row.id: row for row in session.scalars(select(LogGroup))}
    result = {
        row.id: LogAddress(row.compartment_id, row.id, row.display_name) for row in groups.values()
    }
    for log in session.scalars(select(Log)):
        group = groups[log.log_group_id]
        result[log.id] = LogAddress(
            group.compartment_id, group.id, group.display_name, log.id, log.display_name
        )
    return result


def streams(session: Session, *, known: Mapping[str, LogAddress], tenancy: str) -> list[LogStream]:
    """Where the entries of every deployment belong to, of those that are deleted as well."""
    rows = session.execute(
        select(Deployment.id, Deployment.compartment_id, Deployment.category_log_details)
    )
    return [
        stream
        for deployment, compartment, details in rows
        for stream in streams_of(deployment, compartment, details, known=known, tenancy=tenancy)
    ]


def retention(session: Session, *, tenancy: str) -> dict[tuple[str, Category], int]:
    """Days, by deployment and category, where the log defines them."""
    logs = session.execute(select(Log.id, Log.retention_days))
    days = {log: kept for log, kept in logs if kept is not None}
    return {
        (stream.deployment, stream.category): days[stream.address.log]
        for stream in (streams(session, known={}, tenancy=tenancy) if days else ())
        if stream.address.log in days
    }


def _refuse_in_use(session: Session, log: Log) -> None:
    names_it = [
        Deployment.category_log_details[str(category)]["logId"].as_string() == log.id
        for category in Category
    ]
    users = session.scalars(
        select(Deployment.id).where(
            or_(*names_it), Deployment.lifecycle_state != DeploymentState.DELETED
        )
    ).all()
    refuse_used("deployments name this log", list(users), "let them name another first")


def _refuse_built_in(row: LogGroup | Log, tenancy: str) -> None:
    if row.id in {
        built_in_group(tenancy),
        *(built_in_log(tenancy, category) for category in Category),
    }:
        raise Conflict(
            f"{row.display_name} is built in: it takes the entries of deployments that name no "
            "log, so it stays where it is"
        )


def _refuse_taken(session: Session, row: LogGroup | Log) -> None:
    """A log group's name is taken in its compartment, a log's in its group."""
    kind: type[LogGroup | Log] = type(row)
    if isinstance(row, LogGroup):
        what, beside = "log group", LogGroup.compartment_id == row.compartment_id
    else:
        what, beside = "log", Log.log_group_id == row.log_group_id
    hold(session, f"{what} {row.display_name}")
    same_name = (kind.display_name == row.display_name, kind.id != row.id)
    with session.no_autoflush:
        taken = session.scalars(select(kind.id).where(beside, *same_name)).first()
    if taken is not None:
        raise Conflict(
            f"{what} {taken} has the name {row.display_name!r} already; choose another name"
        )


def _set(session: Session, row: R, fields: Mapping[str, Any], now: datetime) -> None:
    """The etag and the time change only if a column did."""
    before = row.version
    apply(session, row, fields)
    if row.version != before:
        row.time_last_modified = now


def _done(
    session: Session, operation: Operation, row: LogGroup | Log, message: str, now: datetime
) -> WorkRequest:
    """It takes no time, but clients wait for a work request."""
    if isinstance(row, LogGroup):
        kind, path, compartment_id = "loggroup", row.id, row.compartment_id
    else:
        group = session.get_one(LogGroup, row.log_group_id)
        kind, path, compartment_id = "log", f"{group.id}/logs/{row.id}", group.compartment_id
    return work_requests.finish_at_once(
        session,
        operation,
        message,
        resource_id=row.id,
        resource_kind=kind,
        resource_uri=f"/20200531/logGroups/{path}",
        compartment_id=compartment_id,
        now=now,
    )
