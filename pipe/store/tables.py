"""The tables of the accounts database, in SQL that SQLite and PostgreSQL both take.

Times are seconds since 1970 in UTC, as numbers: SQLite has no type for time zones.  Constraints
have names because a migration can only change what it can name.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

users = Table(
    "users",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("admin", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    # Whether an operator said that this user may have it although another has it too.
    Column("shared", Boolean, nullable=False),
    # Whether the user has logged in with it, or an operator has said that it is the user's.
    Column("proved", Boolean, nullable=False),
    Column("key_type", String(64), nullable=False),
    Column("public", Text, nullable=False),
    Column("comment", String(256), nullable=False),
    Column("created", Double, nullable=False),
    Column("last_used", Double, nullable=True),
    Index(None, "user"),
)

# Makes a key belong to one user only, even if two ask at the same moment.
Index(
    None,
    keys.c.fingerprint,
    unique=True,
    sqlite_where=~keys.c.shared & keys.c.proved,
    postgresql_where=~keys.c.shared & keys.c.proved,
)

grants = Table(
    "grants",
    metadata,
    Column("owner", String(32), primary_key=True),
    Column("path", String(255), primary_key=True),
    # A user's name, a key's fingerprint, or the word for everyone: so it refers to no table.
    Column("grantee", String(64), primary_key=True),
    Column("can_read", Boolean, nullable=False),
    Column("can_write", Boolean, nullable=False),
    Column("until", Double, nullable=True),
    Column("granted_by", String(32), nullable=False),
    Column("created", Double, nullable=False),
    Index(None, "grantee"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("kind", String(8), nullable=False),
    # The SHA-256 of the bearer's secret, in hexadecimal.
    Column("secret", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    # Names and patterns, one per line; if all are NULL there is no scope.
    Column("reads", Text, nullable=True),
    Column("writes", Text, nullable=True),
    Column("rights", String(64), nullable=False),
    # The fingerprint of the key that its maker logged in with, and what stood behind that.
    Column("made_by", String(64), nullable=False),
    Column("backing", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("until", Double, nullable=False),
    # For a code: the end of the session that it is exchanged for.
    Column("session_until", Double, nullable=True),
    Column("used", Double, nullable=True),
    Column("used_from", String(64), nullable=False),
    Column("uses_left", Integer, nullable=True),
    Index(None, "secret", unique=True),
    Index(None, "user"),
)

hooks = Table(
    "hooks",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    # Where it publishes; the path of a space is empty, or ends with a slash.
    Column("owner", String(32), nullable=False),
    Column("path", String(255), nullable=False),
    Column("kind", String(12), nullable=False),
    # The SHA-256 of the secret, in hexadecimal; of kinds that are signed the secret itself.
    Column("secret", String(64), nullable=False),
    Column("hold", Double, nullable=False),
    Column("name", String(64), nullable=False),
    Column("created", Double, nullable=False),
    Column("used", Double, nullable=True),
    Index(None, "user"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    # The topic.
    Column("owner", String(32), nullable=False),
    Column("path", String(255), nullable=False),
    Column("url", Text, nullable=False),
    Column("frame", String(8), nullable=False),
    Column("name", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    Column("created", Double, nullable=False),
    # The last success; the first failure after it; what the last failure was.
    Column("succeeded", Double, nullable=True),
    Column("failing_since", Double, nullable=True),
    Column("problem", String(200), nullable=False),
    Index(None, "user"),
)

monitors = Table(
    "monitors",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("owner", String(32), nullable=False),
    Column("path", String(255), nullable=False),
    Column("every", Double, nullable=False),
    Column("grace", Double, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("remind", Double, nullable=False),
    Column("min_bytes", BigInteger, nullable=False),
    Column("min_rate", BigInteger, nullable=False),
    Column("alert", String(255), nullable=False),
    # What `pipe.events.monitors.monitor` has to remember, as JSON.
    Column("memory", Text, nullable=False),
    Column("created", Double, nullable=False),
    Index("ix_monitors_topic", "user", "owner", "path", unique=True),
    sqlite_autoincrement=True,
)

monitor_changes = Table(
    "monitor_changes",
    metadata,
    # Part of an entry's ID in feeds, so it is never used again.
    Column("number", Integer, primary_key=True),
    Column("monitor", Integer, ForeignKey("monitors.number", ondelete="CASCADE"), nullable=False),
    Column("made", Double, nullable=False),
    Column("state", String(8), nullable=False),
    Column("was", String(8), nullable=False),
    Column("reason", String(255), nullable=False),
    Index("ix_monitor_changes_monitor", "monitor", "number"),
    sqlite_autoincrement=True,
)

# When a server was there to watch.
monitor_watches = Table(
    "monitor_watches",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("began", Double, nullable=False),
    Column("until", Double, nullable=False),
    sqlite_autoincrement=True,
)

monitor_feeds = Table(
    "monitor_feeds",
    metadata,
    Column("user", String(32), ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    # The secrets are derived from it and the server's key.
    Column("salt", String(32), nullable=False),
    # Their SHA-256, in hexadecimal.
    Column("feed", String(64), nullable=False),
    Column("badge", String(64), nullable=False),
    Column("page", String(64), nullable=False),
    Index(None, "feed", unique=True),
    Index(None, "badge", unique=True),
    Index(None, "page", unique=True),
)

changes = Table(
    "changes",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("user", String(32), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("made", Double, nullable=False),
    # Otherwise SQLite reuses the numbers of deleted rows.
    sqlite_autoincrement=True,
)

# One row for each topic that exists, of several machines; its key decides who gets a new one.
homes = Table(
    "homes",
    metadata,
    Column("topic", String(255), primary_key=True),
    Column("node", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    # How many joins other machines have sent there.
    Column("joins", Integer, nullable=False),
    Index(None, "node"),
)

# When each machine was last heard of, by the database's clock.
nodes = Table(
    "nodes",
    metadata,
    Column("node", String(63), primary_key=True),
    Column("seen", Double, nullable=False),
)

# A single row, by which servers know that they share a database.
identity = Table(
    "identity",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String(32), nullable=False),
)
