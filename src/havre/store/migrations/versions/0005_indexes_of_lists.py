"""Indexes for lists of some: deployments by name, work requests of one resource or in one state."""

from collections.abc import Sequence

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_index(
        "ix_deployments_by_name",
        "deployments",
        ["compartment_id", "display_name", "time_created", "id"],
    )
    op.create_index(
        "ix_work_requests_of_resource",
        "work_requests",
        ["resource_id", "compartment_id", "time_accepted", "id"],
    )
    op.create_index(
        "ix_work_requests_in_state",
        "work_requests",
        ["compartment_id", "status", "time_accepted", "id"],
    )
    op.drop_index("ix_work_requests_resource_id", "work_requests")
    op.drop_index("ix_work_requests_time_accepted", "work_requests")


def downgrade() -> None:
    op.create_index("ix_work_requests_time_accepted", "work_requests", ["time_accepted"])
    op.create_index("ix_work_requests_resource_id", "work_requests", ["resource_id"])
    op.drop_index("ix_work_requests_in_state", "work_requests")
    op.drop_index("ix_work_requests_of_resource", "work_requests")
    op.drop_index("ix_deployments_by_name", "deployments")
