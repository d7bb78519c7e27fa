"""Users and their public keys.

A migration is history: it says what the tables were then, and never imports what they are now.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "users",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    op.create_table(
        "keys",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("key_type", sa.String(64), nullable=False),
        sa.Column("public", sa.Text, nullable=False),
        sa.Column("comment", sa.String(256), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("last_used", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_keys"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name="fk_keys_user", ondelete="CASCADE"),
    )
    op.create_index("ix_keys_user", "keys", ["user"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("keys")
    op.drop_table("users")
