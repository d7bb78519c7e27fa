"""Homes of topics, and what tells one database from another: for several machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "homes",
        sa.Column("topic", sa.String(255), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("joins", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("topic", name="pk_homes"),
    )
    op.create_index("ix_homes_node", "homes", ["node"])
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_nodes"),
    )
    op.create_table(
        "identity",
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_identity"),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("identity", "nodes", "homes"):
        op.drop_table(name)
