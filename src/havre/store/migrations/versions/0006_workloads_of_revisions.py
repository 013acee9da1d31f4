"""What a revision is started from in one column, of whatever kind it is."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLE = "revisions"
KEPT = ("deployment_id", "revision", "spec", "environment", "time_created")


def upgrade() -> None:
    rows = _rows()
    op.drop_table(TABLE)
    table = _create(sa.Column("workload", sa.JSON(), nullable=False))
    for row in rows:
        workload = {
            "kind": "python",
            "interpreter": row["interpreter"],
            "python_version": row["python_version"],
            "artifact": row["artifact_folder"],
        }
        op.bulk_insert(table, [{key: row[key] for key in KEPT} | {"workload": workload}])


def downgrade() -> None:
    rows = _rows()
    op.drop_table(TABLE)
    table = _create(
        sa.Column("interpreter", sa.Text(), nullable=False),
        sa.Column("python_version", sa.String(length=32), nullable=False),
        sa.Column("artifact_folder", sa.Text(), nullable=False),
    )
    for row in rows:
        workload = row["workload"]
        before = {
            "interpreter": workload["interpreter"],
            "python_version": workload["python_version"],
            "artifact_folder": workload["artifact"],
        }
        op.bulk_insert(table, [{key: row[key] for key in KEPT} | before])


def _rows() -> list[dict[str, Any]]:
    table = sa.Table(TABLE, sa.MetaData(), autoload_with=op.get_bind())
    rows = op.get_bind().execute(sa.select(table).order_by(table.c.id))
    return [dict(row) for row in rows.mappings()]


def _create(*columns: sa.Column[Any]) -> sa.Table:
    """Nothing refers to its rows: the numbers of those that are carried over are new."""
    table = op.create_table(
        TABLE,
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
        *columns,
        sa.Column("time_created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("deployment_id", "revision"),
    )
    op.create_index("ix_revisions_deployment_id", TABLE, ["deployment_id"])
    return table
