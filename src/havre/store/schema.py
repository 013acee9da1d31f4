"""The tables. One class per noun of the API, and the reconciler's own records.

Every resource row carries its etag as a counter. JSON columns hold what the API only stores and
echoes; whatever is filtered, sorted or decided on has a column of its own.
"""

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column

from havre.domain.reported import shorten
from havre.domain.states import (
    DeploymentState,
    ModelState,
    ProjectState,
    VersionSetState,
    WorkRequestState,
)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL refuses, and halves of surrogate pairs, which are not UTF-8."""

BIG_ID = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its zone, also on SQLite, which has none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[Any]:
        return datetime

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class FittedText(TypeDecorator[str]):
    """Output of models, builds and other programs, made to fit: it may contain what a database does
    not take, and more than anyone reads.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(
        self,
        value: str | None,
        dialect: Dialect,  # noqa: ARG002
    ) -> str | None:
        if value is None:
            return None
        return shorten(_UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value))


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
    }


def _listing_index(table: str) -> Index:
    return Index(f"ix_{table}_listing", "compartment_id", "time_created", "id")


class Resource:
    """The columns every resource of the API has."""

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    compartment_id: Mapped[str] = mapped_column(String(255))
    created_by: Mapped[str] = mapped_column(String(255))
    time_created: Mapped[datetime]
    freeform_tags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    defined_tags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    version: Mapped[int] = mapped_column(default=1)  # the etag

    @declared_attr.directive
    @classmethod
    def __table_args__(cls) -> tuple[Index, ...]:
        """Every list is of one compartment and in order of time unless asked otherwise."""
        return (_listing_index(cls.__tablename__),)  # type: ignore[attr-defined]


class Project(Resource, Base):
    __tablename__ = "projects"

    display_name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    lifecycle_state: Mapped[str] = mapped_column(String(32), default=ProjectState.ACTIVE)


class VersionSet(Resource, Base):
    __tablename__ = "version_sets"

    project_id: Mapped[str] = mapped_column(String(255), index=True)
    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    lifecycle_state: Mapped[str] = mapped_column(String(32), default=VersionSetState.ACTIVE)
    time_updated: Mapped[datetime]
    last_version: Mapped[int] = mapped_column(default=0)


class Model(Resource, Base):
    __tablename__ = "models"

    project_id: Mapped[str] = mapped_column(String(255), index=True)
    display_name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    lifecycle_state: Mapped[str] = mapped_column(String(32), default=ModelState.ACTIVE)
    lifecycle_details: Mapped[str | None] = mapped_column(Text)
    custom_metadata: Mapped[list[Any]] = mapped_column(default=list)
    defined_metadata: Mapped[list[Any]] = mapped_column(default=list)
    input_schema: Mapped[str | None] = mapped_column(Text)
    output_schema: Mapped[str | None] = mapped_column(Text)
    version_set_id: Mapped[str | None] = mapped_column(String(255), index=True)
    version_id: Mapped[int | None]
    version_label: Mapped[str | None] = mapped_column(String(255))
    retention_setting: Mapped[dict[str, Any] | None]
    backup_setting: Mapped[dict[str, Any] | None]
    provenance: Mapped[dict[str, Any] | None]  # None until it is set: the API returns 404


class Artifact(Base):
    """Bytes that belong to a model: its artifact, or that of one metadata entry."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("model_id", "slot"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True, autoincrement=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    slot: Mapped[str] = mapped_column(String(300))  # "model", "custom/KEY" or "defined/KEY"
    digest: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    md5: Mapped[str] = mapped_column(String(32))  # base64, as in content-md5
    file_name: Mapped[str] = mapped_column(String(255))
    time_created: Mapped[datetime]


class Deployment(Resource, Base):
    """A deployment: what is desired, and what the reconciler has achieved.

    ``spec`` is the desired DeploymentSpec; ``serving_spec`` the one that last became ACTIVE, which
    goes on serving if the desired one fails. ``target_state`` is ACTIVE, INACTIVE or DELETED.
    ``work_request_id`` is the change under way, if any.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        _listing_index(__tablename__),
        Index("ix_deployments_by_name", "compartment_id", "display_name", "time_created", "id"),
    )

    project_id: Mapped[str] = mapped_column(String(255), index=True)
    display_name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    lifecycle_state: Mapped[str] = mapped_column(String(32), default=DeploymentState.CREATING)
    lifecycle_details: Mapped[str | None] = mapped_column(FittedText)
    configuration: Mapped[dict[str, Any]]  # as the API echoes it
    serving_configuration: Mapped[dict[str, Any] | None]
    category_log_details: Mapped[dict[str, Any] | None]
    model_id: Mapped[str] = mapped_column(String(255), index=True)
    spec: Mapped[dict[str, Any]]
    serving_spec: Mapped[dict[str, Any] | None]
    target_state: Mapped[str] = mapped_column(String(32), default=DeploymentState.ACTIVE)
    work_request_id: Mapped[str | None] = mapped_column(String(255))
    current_instances: Mapped[int] = mapped_column(default=0)


class LogGroup(Resource, Base):
    __tablename__ = "log_groups"

    display_name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    time_last_modified: Mapped[datetime]


class Log(Base):
    """Where entries belong to; the entries themselves are in the files of `telemetry/`.

    It is in its group's compartment. ``retention_days`` None: as the settings define.
    """

    __tablename__ = "logs"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    log_group_id: Mapped[str] = mapped_column(ForeignKey("log_groups.id"), index=True)
    display_name: Mapped[str] = mapped_column(String(255))
    retention_days: Mapped[int | None]
    created_by: Mapped[str] = mapped_column(String(255))
    time_created: Mapped[datetime]
    time_last_modified: Mapped[datetime]
    freeform_tags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    defined_tags: Mapped[dict[str, Any]] = mapped_column(default=dict)
    version: Mapped[int] = mapped_column(default=1)


class Revision(Base):
    """What one revision of a deployment is started from, decided once and kept."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("deployment_id", "revision"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True, autoincrement=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    revision: Mapped[str] = mapped_column(String(12))
    spec: Mapped[dict[str, Any]]
    environment: Mapped[str] = mapped_column(String(64))  # digest of the built environment
    workload: Mapped[dict[str, Any]]
    time_created: Mapped[datetime]


class InstanceRecord(Base):
    """The smallest record of an instance; its present state is the engine's to report."""

    __tablename__ = "instances"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id"), index=True)
    revision: Mapped[str] = mapped_column(String(12))
    time_created: Mapped[datetime]


class WorkRequest(Base):
    __tablename__ = "work_requests"
    # They are listed newest first, all or those of a resource or in a state, and there may be many.
    __table_args__ = (
        Index("ix_work_requests_listing", "compartment_id", "time_accepted", "id"),
        Index(
            "ix_work_requests_of_resource", "resource_id", "compartment_id", "time_accepted", "id"
        ),
        Index("ix_work_requests_in_state", "compartment_id", "status", "time_accepted", "id"),
    )

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    compartment_id: Mapped[str] = mapped_column(String(255))
    operation: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(32), default=WorkRequestState.ACCEPTED)
    percent_complete: Mapped[float] = mapped_column(default=0.0)
    resource_id: Mapped[str] = mapped_column(String(255))
    resource_kind: Mapped[str] = mapped_column(String(64))
    resource_uri: Mapped[str] = mapped_column(String(300))
    time_accepted: Mapped[datetime]
    time_started: Mapped[datetime | None]
    time_finished: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class WorkRequestLog(Base):
    __tablename__ = "work_request_logs"
    __table_args__ = (Index("ix_work_request_logs_order", "work_request_id", "id"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True, autoincrement=True)
    work_request_id: Mapped[str] = mapped_column(ForeignKey("work_requests.id"))
    message: Mapped[str] = mapped_column(FittedText)
    timestamp: Mapped[datetime]


class WorkRequestError(Base):
    __tablename__ = "work_request_errors"
    __table_args__ = (Index("ix_work_request_errors_order", "work_request_id", "id"),)

    id: Mapped[int] = mapped_column(BIG_ID, primary_key=True, autoincrement=True)
    work_request_id: Mapped[str] = mapped_column(ForeignKey("work_requests.id"))
    code: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(FittedText)
    timestamp: Mapped[datetime]


class RetryToken(Base):
    """A create call that was answered: the same token within 24 hours gets the same response."""

    __tablename__ = "retry_tokens"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    operation: Mapped[str] = mapped_column(String(64), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    resource_id: Mapped[str] = mapped_column(String(255))
    work_request_id: Mapped[str | None] = mapped_column(String(255))
    time_created: Mapped[datetime] = mapped_column(index=True)


class IdentityRow(Base):
    """Whose database it is: one row, written by the first home that used it."""

    __tablename__ = "identity"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenancy_ocid: Mapped[str] = mapped_column(String(255))
    user_ocid: Mapped[str] = mapped_column(String(255))
    project_ocid: Mapped[str] = mapped_column(String(255))


class LeaseRow(Base):
    """Who reconciles: one row, there from the start. See `domain/lease.py`.

    The rows of ``instances`` and ``revisions`` are the holder's: of its machine and its folders.
    """

    __tablename__ = "lease"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(64))
    token: Mapped[int] = mapped_column(BigInteger)
    url: Mapped[str] = mapped_column(String(300))
    expires: Mapped[datetime | None]
