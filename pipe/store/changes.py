"""A log of what was taken away or changed, so that every server on a database notices.

A server knows its own changes at once; here it reads those of other servers, or of ``pipe user rm``
on the command line.  An entry says what to check again, not what it was or is, so reading one twice
or late does no harm.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import delete, func, insert, select

from pipe.store.tables import changes as table
from pipe.store.tables import users as users_table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sqlalchemy import Connection

Proviso: TypeAlias = "Callable[[Connection], None]"
"""Raises an error if a change is not allowed, inside the transaction that would make it."""

KEPT_SECONDS = 7 * 86_400.0
"""How long an entry stays: far longer than a server runs on without its database."""

LOOK_BACK = 100
"""Entries to read again each time: PostgreSQL numbers them when they are written, but shows them
when their transaction ends, which may be in another order."""


class Kind(enum.Enum):
    """What an entry is about, and what its two fields mean."""

    USER = "user"
    """A user was removed: the name, and nothing."""
    ADMIN = "admin"
    """A user is no longer an admin: the name, and nothing."""
    KEY = "key"
    """A key was removed: its user, and the fingerprint."""
    GRANTS = "grants"
    """A topic's grants have changed: its owner, and its path."""
    TOKEN = "token"  # noqa: S105 - a word
    """A token was removed: its user, and its ID."""
    WEBHOOK = "webhook"
    """A webhook was made, removed, paused or resumed: its user, and its ID."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry."""

    number: int
    kind: Kind
    user: str
    subject: str


def note(connection: Connection, kind: Kind, subjects: Iterable[tuple[str, str]]) -> None:
    """Write entries, in the transaction that makes the change, and drop old ones."""
    now = time.time()
    rows = [
        {"kind": kind.value, "user": user, "subject": subject, "made": now}
        for user, subject in subjects
    ]
    if rows:
        connection.execute(insert(table), rows)
        connection.execute(delete(table).where(table.c.made < now - KEPT_SECONDS))


def last(connection: Connection) -> int:
    """The number of the newest entry; 0 if there is none."""
    return connection.execute(select(func.max(table.c.number))).scalar_one_or_none() or 0


def since(connection: Connection, number: int) -> tuple[Change, ...]:
    """The entries after one, in order, and the `LOOK_BACK` entries before it."""
    query = select(table).where(table.c.number > number - LOOK_BACK).order_by(table.c.number)
    return tuple(
        Change(row.number, Kind(row.kind), row.user, row.subject)
        for row in connection.execute(query)
    )


def last_loss(
    connection: Connection,
    user: str,
    fingerprint: str,
    newest: int,
    seen: Collection[int],
    token: str = "",
) -> Kind | None:
    """Return what a user who logged in with a key has lost since the log was last read.

    Nobody can remove the user until the transaction ends: SQLite's transactions run one after the
    other, and PostgreSQL's wait for the lock on the row.

    Args:
        connection: In a transaction.
        user: The user.
        fingerprint: The key that logged the user in.
        newest: The number of the newest entry read so far.
        seen: The numbers of those of its `LOOK_BACK` predecessors that were read.
        token: The ID of the token that let the user in, if one did.

    Returns:
        The last thing that was lost, or None.
    """
    query = select(users_table.c.name).where(users_table.c.name == user)
    if connection.execute(query.with_for_update(read=True)).one_or_none() is None:
        return Kind.USER
    losses = {
        (Kind.USER, user, ""),
        (Kind.ADMIN, user, ""),
        (Kind.KEY, user, fingerprint),
        (Kind.TOKEN, user, token),
    }
    found = [
        one.kind
        for one in since(connection, newest)
        if one.number not in seen and (one.kind, one.user, one.subject) in losses
    ]
    return found[-1] if found else None
