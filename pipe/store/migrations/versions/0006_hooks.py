"""Hooks: where other services may tell what happened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "hooks",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("hold", sa.Double, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("used", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_hooks"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name="fk_hooks_user", ondelete="CASCADE"),
    )
    op.create_index("ix_hooks_user", "hooks", ["user"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("hooks")
