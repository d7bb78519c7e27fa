"""Monitors: what is expected of topics, how that went, and when a server watched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "monitors",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("every", sa.Double, nullable=False),
        sa.Column("grace", sa.Double, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("remind", sa.Double, nullable=False),
        sa.Column("min_bytes", sa.BigInteger, nullable=False),
        sa.Column("min_rate", sa.BigInteger, nullable=False),
        sa.Column("alert", sa.String(255), nullable=False),
        sa.Column("memory", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_monitors"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_monitors_user", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_monitors_topic", "monitors", ["user", "owner", "path"], unique=True)
    op.create_table(
        "monitor_changes",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("monitor", sa.Integer, nullable=False),
        sa.Column("made", sa.Double, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("was", sa.String(8), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_monitor_changes"),
        sa.ForeignKeyConstraint(
            ["monitor"],
            ["monitors.number"],
            name="fk_monitor_changes_monitor",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_monitor_changes_monitor", "monitor_changes", ["monitor", "number"])
    op.create_table(
        "monitor_watches",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("began", sa.Double, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_monitor_watches"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "monitor_feeds",
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("salt", sa.String(32), nullable=False),
        sa.Column("feed", sa.String(64), nullable=False),
        sa.Column("badge", sa.String(64), nullable=False),
        sa.Column("page", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("user", name="pk_monitor_feeds"),
        sa.ForeignKeyConstraint(
            ["user"], ["users.name"], name="fk_monitor_feeds_user", ondelete="CASCADE"
        ),
    )
    for column in ("feed", "badge", "page"):
        op.create_index(f"ix_monitor_feeds_{column}", "monitor_feeds", [column], unique=True)


def downgrade() -> None:
    """Drop them."""
    for name in ("monitor_feeds", "monitor_watches", "monitor_changes", "monitors"):
        op.drop_table(name)
