"""Log groups and logs."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "log_groups",
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("time_last_modified", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("compartment_id", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_log_groups_listing", "log_groups", ["compartment_id", "time_created", "id"])
    op.create_table(
        "logs",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("log_group_id", sa.String(length=255), nullable=False),
        sa.Column("display_name", sa.String(length=255), nullable=False),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("time_last_modified", sa.DateTime(timezone=True), nullable=False),
        sa.Column("freeform_tags", sa.JSON(), nullable=False),
        sa.Column("defined_tags", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["log_group_id"], ["log_groups.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_logs_log_group_id", "logs", ["log_group_id"])


def downgrade() -> None:
    op.drop_table("logs")
    op.drop_table("log_groups")
