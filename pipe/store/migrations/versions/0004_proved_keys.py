"""Keys that a user has only named yet, and that yield to whoever proves to have them.

Those that are there already count as proved.  As in 0003 the table is made anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SHARED, PROVED = (sa.column(name, sa.Boolean) for name in ("shared", "proved"))

_OTHER_COLUMNS = 'fingerprint, "user", shared, key_type, public, comment, created, last_used'


def upgrade() -> None:
    """Make a key unique among those that are proved and not shared."""
    _make_anew([sa.Column("proved", sa.Boolean, nullable=False)], ~SHARED & PROVED)
    op.execute(
        f"INSERT INTO keys ({_OTHER_COLUMNS}, proved) "  # noqa: S608 - ours
        f"SELECT {_OTHER_COLUMNS}, TRUE FROM keys_before"
    )
    op.drop_table("keys_before")


def downgrade() -> None:
    """Leave a key to the one who has proved it, or to the first of those who have named it."""
    _make_anew([], ~SHARED)
    op.execute(
        f"INSERT INTO keys ({_OTHER_COLUMNS}) "  # noqa: S608 - ours
        f"SELECT {_OTHER_COLUMNS} FROM keys_before AS one "
        "WHERE proved OR NOT EXISTS (SELECT 1 FROM keys_before AS other "
        "WHERE other.fingerprint = one.fingerprint AND "
        '(other.proved OR other."user" < one."user"))'
    )
    op.drop_table("keys_before")


def _make_anew(columns: list[sa.Column[object]], unique: sa.ColumnElement[bool]) -> None:
    op.execute("CREATE TABLE keys_before AS SELECT * FROM keys")
    op.drop_table("keys")
    op.create_table(
        "keys",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("user", sa.String(32), nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        *columns,
        sa.Column("key_type", sa.String(64), nullable=False),
        sa.Column("public", sa.Text, nullable=False),
        sa.Column("comment", sa.String(256), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("last_used", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("fingerprint", "user", name="pk_keys"),
        sa.ForeignKeyConstraint(["user"], ["users.name"], name="fk_keys_user", ondelete="CASCADE"),
    )
    op.create_index("ix_keys_user", "keys", ["user"])
    op.create_index(
        "ix_keys_fingerprint",
        "keys",
        ["fingerprint"],
        unique=True,
        sqlite_where=unique,
        postgresql_where=unique,
    )
