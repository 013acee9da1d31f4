"""Whose database it is, and which control plane reconciles."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenancy_ocid", sa.String(length=255), nullable=False),
        sa.Column("user_ocid", sa.String(length=255), nullable=False),
        sa.Column("project_ocid", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    lease = op.create_table(
        "lease",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.String(length=300), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(lease, [{"id": 1, "holder": "", "token": 0, "url": "", "expires": None}])


def downgrade() -> None:
    op.drop_table("lease")
    op.drop_table("identity")
