"""An index in the order in which work requests are listed."""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(
        "ix_work_requests_listing", "work_requests", ["compartment_id", "time_accepted", "id"]
    )
    op.drop_index("ix_work_requests_compartment_id", "work_requests")


def downgrade() -> None:
    op.create_index("ix_work_requests_compartment_id", "work_requests", ["compartment_id"])
    op.drop_index("ix_work_requests_listing", "work_requests")
