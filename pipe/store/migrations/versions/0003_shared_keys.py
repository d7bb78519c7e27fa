"""Keys that several users have, at an operator's word.

SQLite cannot change a table's primary key, so the table is made anew, in both kinds of database in
the same way.  No other table refers to it, so nothing is deleted along with the old one.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_OTHER_COLUMNS = "key_type, public, comment, created, last_used"


def upgrade() -> None:
    """Make a key unique for each user, and for all but those who share it."""
    op.execute("CREATE TABLE keys_before AS SELECT * FROM keys")
    op.drop_table("keys")
    op.create_table(
        "keys",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        *_other_columns(),
        sa.PrimaryKeyConstraint("fingerprint", "user", name="pk_keys"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name="fk_keys_user", ondelete="CASCADE"),
    )
    op.create_index("ix_keys_user", "keys", ["user"])
    op.create_index(
        "ix_keys_fingerprint",
        "keys",
        ["fingerprint"],
        unique=True,
        sqlite_where=~sa.column("shared", sa.Boolean),
        postgresql_where=~sa.column("shared", sa.Boolean),
    )
    op.execute(
        f'INSERT INTO keys (fingerprint, "user", shared, {_OTHER_COLUMNS}) '  # noqa: S608 - ours
        f'SELECT fingerprint, "user", FALSE, {_OTHER_COLUMNS} FROM keys_before'
    )
    op.drop_table("keys_before")


def downgrade() -> None:
    """Leave a key to the one who had it without an operator's word, or to the first of several."""
    op.execute("CREATE TABLE keys_before AS SELECT * FROM keys")
    op.drop_table("keys")
    op.create_table(
        "keys",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        *_other_columns(),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_keys"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name="fk_keys_user", ondelete="CASCADE"),
    )
    op.create_index("ix_keys_user", "keys", ["user"])
    op.execute(
        f'INSERT INTO keys (fingerprint, "user", {_OTHER_COLUMNS}) '  # noqa: S608 - ours
        f'SELECT fingerprint, "user", {_OTHER_COLUMNS} FROM keys_before AS one '
        "WHERE NOT EXISTS (SELECT 1 FROM keys_before AS other "
        "WHERE other.fingerprint = one.fingerprint AND "
        '(other.shared < one.shared OR other.shared = one.shared AND other."user" < one."user"))'
    )
    op.drop_table("keys_before")


def _other_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("key_type", sa.String(64), nullable=False),
        sa.Column("public", sa.Text, nullable=False),
        sa.Column("comment", sa.String(256), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("last_used", sa.Double, nullable=True),
    ]
