"""The accounts database: is it there, of which revision, and can anybody log in?"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import func, select, text

from pipe.check.findings import Finding, Level, error, ok, warning
from pipe.errors import StoreUnavailable
from pipe.language.names import escape, quoted
from pipe.settings import Signup
from pipe.store import schema
from pipe.store.database import locate, peek
from pipe.store.tables import users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from pipe.settings import Settings

_SKEW_SECONDS = 5.0
"""How far the clocks of server and database may be apart: tokens end by one, and are made by the
other."""


class _Look(NamedTuple):
    """What one look into the database tells."""

    revision: str | None
    users: int = 0
    drain: bool = True
    """Whether the owner of the log drain's topic exists."""
    ahead: float = 0.0
    """Seconds that the database's clock is ahead of ours."""


def check_accounts(settings: Settings) -> Iterator[Finding]:
    """Look at the database, and at what else depends on it."""
    about = "database-url" if settings.database_url else "database"
    topic = settings.log_drain_topic
    owner = topic.owner if topic else ""
    look = _Look(None, drain=not owner)
    try:
        place, file = locate(settings.resolved_database_url)
        found = [] if file is None else list(_check_file(about, place, file))
        yield from found
        if any(finding.level is Level.ERROR for finding in found):
            return
        if file is None or file.exists():
            look = peek(settings.resolved_database_url, lambda connection: _look(connection, owner))
            yield _check_revision(about, place, look.revision)
    except StoreUnavailable as problem:
        yield error(about, problem.message)
        return
    if abs(look.ahead) > _SKEW_SECONDS:
        side = "ahead of" if look.ahead > 0 else "behind"
        yield warning(
            "clock",
            f"the database's is {abs(look.ahead):.0f}s {side} this machine's: set both with NTP,"
            " or tokens end at the wrong time",
        )
    yield from _check_users(settings, look.users)
    if owner and not (look.drain or _has_file(settings, owner)):
        yield warning(
            "log-drain",
            f"there is no user {quoted(owner)}, so nobody can write to {settings.log_drain}: add"
            f" one with 'pipe user add {owner}'",
        )


def _look(connection: Connection, owner: str) -> _Look:
    ahead = 0.0
    if connection.dialect.name == "postgresql":
        seconds = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))
        ahead = float(seconds.scalar_one()) - time.time()
    revision = schema.revision(connection)
    if revision is None:
        return _Look(None, drain=not owner, ahead=ahead)
    count = connection.execute(select(func.count()).select_from(users)).scalar_one()
    found = connection.execute(select(users.c.name).where(users.c.name == owner)).first()
    return _Look(revision, count, not owner or found is not None, ahead)


def _check_file(about: str, place: str, file: Path) -> Iterator[Finding]:
    try:
        status = file.stat()
    except FileNotFoundError:
        yield ok(about, f"{place} is not there yet: the first start makes it")
        return
    except OSError as problem:
        yield error(about, f"cannot use {place}: {problem.strerror}")
        return
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield warning(about, f"{place} is open to others: chmod 600 (a start does so)")
    for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            yield error(
                about, f"{escape(str(path))} cannot be written: chown it to the server's user"
            )


def _check_revision(about: str, place: str, revision: str | None) -> Finding:
    if revision is None:
        return ok(about, f"{place} has no accounts yet: the first start makes the tables")
    if revision == schema.HEAD:
        return ok(about, f"{place} is at revision {revision}, this version's")
    if revision not in schema.known_revisions():
        return error(
            about,
            f"{place} is at revision {quoted(revision)}, which this version of pipe does not know:"
            " install the newer version that made it, or restore the backup from before",
        )
    return warning(
        about,
        f"{place} is at revision {revision}: the next start brings it to {schema.HEAD}, and older"
        " versions of pipe may not read it afterwards; back it up before",
    )


def _check_users(settings: Settings, count: int) -> Iterator[Finding]:
    closed = settings.resolved_signup is Signup.CLOSED
    if closed and not (count or settings.authorized_keys or settings.trusted_ca):
        yield warning(
            "signup",
            "it is closed and there are no users, so nobody can log in: add the first one with"
            " 'pipe user add NAME --key FILE.pub'",
        )


def _has_file(settings: Settings, owner: str) -> bool:
    return bool(settings.authorized_keys and (settings.authorized_keys / owner).exists())
