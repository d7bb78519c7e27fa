"""Webhooks: where what a topic gets is sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("frame", sa.String(8), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("succeeded", sa.Double, nullable=True),
        sa.Column("failing_since", sa.Double, nullable=True),
        sa.Column("problem", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_webhooks_user", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_webhooks_user", "webhooks", ["user"])


def downgrade() -> None:
    """Drop it, and what was kept there; entries of its kind are nothing that others can read."""
    op.drop_table("webhooks")
    op.execute("DELETE FROM changes WHERE kind = 'webhook'")
