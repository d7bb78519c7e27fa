"""Tokens: what else than a key lets somebody in, over HTTP."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("reads", sa.Text, nullable=True),
        sa.Column("writes", sa.Text, nullable=True),
        sa.Column("rights", sa.String(64), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("backing", sa.String(64), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.Column("session_until", sa.Double, nullable=True),
        sa.Column("used", sa.Double, nullable=True),
        sa.Column("used_from", sa.String(64), nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_tokens_user", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_tokens_secret", "tokens", ["secret"], unique=True)
    op.create_index("ix_tokens_user", "tokens", ["user"])


def downgrade() -> None:
    """Drop it, and what was kept there; entries of its kind are nothing that others can read."""
    op.drop_table("tokens")
    op.execute("DELETE FROM changes WHERE kind = 'token'")
