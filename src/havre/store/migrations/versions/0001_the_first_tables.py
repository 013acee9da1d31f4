"""The first tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "deployments",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("lifecycle_state", sa.String(length=32), nullable=False),
        sa.Column("lifecycle_details", sa.Text(), nullable=True),
        sa.Column("configuration", sa.JSON(), nullable=False),
        sa.Column("serving_configuration", sa.JSON(), nullable=True),
        sa.Column("category_log_details", sa.JSON(), nullable=True),
        sa.Column("model_id", sa.String(length=255), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("serving_spec", sa.JSON(), nullable=True),
        sa.Column("target_state", sa.String(length=32), nullable=False),
        sa.Column("work_request_id", sa.String(length=255), nullable=True),
        sa.Column("current_instances", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.create_index(
            "ix_deployments_listing", ["compartment_id", "time_created", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_deployments_model_id"), ["model_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_deployments_project_id"), ["project_id"], unique=False)

    op.create_table(
        "models",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("lifecycle_state", sa.String(length=32), nullable=False),
        sa.Column("lifecycle_details", sa.Text(), nullable=True),
        sa.Column("custom_metadata", sa.JSON(), nullable=False),
        sa.Column("defined_metadata", sa.JSON(), nullable=False),
        sa.Column("input_schema", sa.Text(), nullable=True),
        sa.Column("output_schema", sa.Text(), nullable=True),
        sa.Column("version_set_id", sa.String(length=255), nullable=True),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("version_label", sa.String(length=255), nullable=True),
        sa.Column("retention_setting", sa.JSON(), nullable=True),
        sa.Column("backup_setting", sa.JSON(), nullable=True),
        sa.Column("provenance", sa.JSON(), nullable=True),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.create_index(
            "ix_models_listing", ["compartment_id", "time_created", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_models_project_id"), ["project_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_models_version_set_id"), ["version_set_id"], unique=False
        )

    op.create_table(
        "projects",
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("lifecycle_state", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.create_index(
            "ix_projects_listing", ["compartment_id", "time_created", "id"], unique=False
        )

    op.create_table(
        "retry_tokens",
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=255), nullable=False),
        sa.Column("work_request_id", sa.String(length=255), nullable=True),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token", "operation"),
    )
    with op.batch_alter_table("retry_tokens", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_retry_tokens_time_created"), ["time_created"], unique=False
        )

    op.create_table(
        "version_sets",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("lifecycle_state", sa.String(length=32), nullable=False),
        sa.Column("time_updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("version_sets", schema=None) as batch_op:
        batch_op.create_index(
            "ix_version_sets_listing", ["compartment_id", "time_created", "id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_version_sets_project_id"), ["project_id"], unique=False
        )

    op.create_table(
        "work_requests",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("operation", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("percent_complete", sa.Double(), nullable=False),
        sa.Column("resource_id", sa.String(length=255), nullable=False),
        sa.Column("resource_kind", sa.String(length=64), nullable=False),
        sa.Column("resource_uri", sa.String(length=300), nullable=False),
        sa.Column("time_accepted", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_started", sa.DateTime(timezone=True), nullable=True),
        sa.Column("time_finished", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("work_requests", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_work_requests_compartment_id"), ["compartment_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_work_requests_resource_id"), ["resource_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_work_requests_time_accepted"), ["time_accepted"], unique=False
        )

    op.create_table(
        "artifacts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("model_id", sa.String(length=255), nullable=False),
        sa.Column("slot", sa.String(length=300), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"],
            ["models.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("model_id", "slot"),
    )
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifacts_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifacts_model_id"), ["model_id"], unique=False)

    op.create_table(
        "instances",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("deployment_id", sa.String(length=255), nullable=False),
        sa.Column("revision", sa.String(length=12), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_instances_deployment_id"), ["deployment_id"], unique=False
        )

    op.create_table(
        "revisions",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("deployment_id", sa.String(length=255), nullable=False),
        sa.Column("revision", sa.String(length=12), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("interpreter", sa.Text(), nullable=False),
        sa.Column("python_version", sa.String(length=32), nullable=False),
        sa.Column("artifact_folder", sa.Text(), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment_id", "revision"),
    )
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_revisions_deployment_id"), ["deployment_id"], unique=False
        )

    op.create_table(
        "work_request_errors",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("work_request_id", sa.String(length=255), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["work_request_id"],
            ["work_requests.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("work_request_errors", schema=None) as batch_op:
        batch_op.create_index(
            "ix_work_request_errors_order", ["work_request_id", "id"], unique=False
        )

    op.create_table(
        "work_request_logs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("work_request_id", sa.String(length=255), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["work_request_id"],
            ["work_requests.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("work_request_logs", schema=None) as batch_op:
        batch_op.create_index("ix_work_request_logs_order", ["work_request_id", "id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("work_request_logs", schema=None) as batch_op:
        batch_op.drop_index("ix_work_request_logs_order")

    op.drop_table("work_request_logs")
    with op.batch_alter_table("work_request_errors", schema=None) as batch_op:
        batch_op.drop_index("ix_work_request_errors_order")

    op.drop_table("work_request_errors")
    with op.batch_alter_table("revisions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_revisions_deployment_id"))

    op.drop_table("revisions")
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instances_deployment_id"))

    op.drop_table("instances")
    with op.batch_alter_table("artifacts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_artifacts_model_id"))
        batch_op.drop_index(batch_op.f("ix_artifacts_digest"))

    op.drop_table("artifacts")
    with op.batch_alter_table("work_requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_work_requests_time_accepted"))
        batch_op.drop_index(batch_op.f("ix_work_requests_resource_id"))
        batch_op.drop_index(batch_op.f("ix_work_requests_compartment_id"))

    op.drop_table("work_requests")
    with op.batch_alter_table("version_sets", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_version_sets_project_id"))
        batch_op.drop_index("ix_version_sets_listing")

    op.drop_table("version_sets")
    with op.batch_alter_table("retry_tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_retry_tokens_time_created"))

    op.drop_table("retry_tokens")
    with op.batch_alter_table("projects", schema=None) as batch_op:
        batch_op.drop_index("ix_projects_listing")

    op.drop_table("projects")
    with op.batch_alter_table("models", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_models_version_set_id"))
        batch_op.drop_index(batch_op.f("ix_models_project_id"))
        batch_op.drop_index("ix_models_listing")

    op.drop_table("models")
    with op.batch_alter_table("deployments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deployments_project_id"))
        batch_op.drop_index(batch_op.f("ix_deployments_model_id"))
        batch_op.drop_index("ix_deployments_listing")

    op.drop_table("deployments")
