"""Lasting grants, and the log of what was taken away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "grants",
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("grantee", sa.String(64), nullable=False),
        sa.Column("can_read", sa.Boolean, nullable=False),
        sa.Column("can_write", sa.Boolean, nullable=False),
        sa.Column("until", sa.Double, nullable=True),
        sa.Column("granted_by", sa.String(32), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("owner", "path", "grantee", name="pk_grants"),
    )
    op.create_index("ix_grants_grantee", "grants", ["grantee"])
    op.create_table(
        "changes",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("made", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_changes"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("changes")
    op.drop_table("grants")
