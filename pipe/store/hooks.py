"""Hooks in the database: where other services may tell what happened.

Rules:

- A hook is found by its ID, which is no secret.  Of most kinds only the SHA-256 of the secret is
  stored.  Of those whose senders sign, the secret itself has to be.
- A hook goes with its user, and a user has at most `MAX_HOOKS`.
- Lookups are cached until something in the database changes, as for keys: also that there is no
  such hook, so that asking for one costs the same.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipe.errors import StoreError
from pipe.language.hook_requests import HookKind
from pipe.language.names import quoted
from pipe.store.cache import StampedCache
from pipe.store.tables import hooks as table
from pipe.store.tables import users as users_table
from pipe.store.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import ColumnElement, Row

    from pipe.store.changes import Proviso
    from pipe.store.database import Database

MAX_HOOKS = 50
"""Hooks of one user: more than anybody has services that tell."""

CACHED_HOOKS = 4096
"""Hooks that are cached, and as many IDs that are none: some 4 MiB."""

MIN_PREFIX = 4
"""Fewest characters of an ID that name a hook, so that a typing slip does not remove one."""


_ID = re.compile("[a-z2-7]{12}")


@dataclass(frozen=True, slots=True)
class NewHook:
    """A hook to be made."""

    id: str
    user: str
    owner: str
    path: str
    """A topic's path; that of a space is empty, or ends with ``/``."""
    kind: HookKind
    secret: str
    """The secret's SHA-256 in hexadecimal; of signed kinds the secret itself."""
    hold: float
    """Seconds that an event waits for a reader."""
    name: str
    """As its user wrote it: escape it before printing."""


@dataclass(frozen=True, slots=True)
class Hook(NewHook):
    """A hook that was made."""

    created: float
    """Seconds since 1970, UTC."""
    used: float | None
    """When it was last used, to the minute; None if it never was."""
    admin: bool
    """Whether its user is an admin now."""

    @property
    def is_space(self) -> bool:
        """Whether the images that it tells of name its topics."""
        return not self.path or self.path.endswith("/")

    @property
    def target(self) -> str:
        """The topic or space, in full."""
        return f"{self.owner}/{self.path}"


class HookStore:
    """The hooks in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: StampedCache[str, Hook] = StampedCache(CACHED_HOOKS)
        self._unknown: StampedCache[str, bool] = StampedCache(CACHED_HOOKS)
        self._uses: Uses[str, float] = Uses(self._store_uses)

    async def close(self) -> None:
        """Store the noted uses; call this before closing the database."""
        await self._uses.close()

    async def find(self, number: str) -> Hook | None:
        """Look up a hook by its ID, usually from the cache.

        Raises:
            StoreUnavailable: The database cannot be asked.
        """
        if not _ID.fullmatch(number):
            return None
        stamp = self._database.stamp()
        hook = self._found.get(number, stamp)
        if hook or self._unknown.get(number, stamp):
            return hook
        found = await self._database.read(
            lambda connection: _select(connection, table.c.id == number)
        )
        if not found:
            self._unknown.put(number, True, stamp)
            return None
        self._found.put(number, found[0], stamp)
        return found[0]

    def note_use(self, number: str, when: float) -> None:
        """Note that a hook was used, to be stored a little later; ``when`` is since 1970."""
        self._uses.note(number, when)

    async def _store_uses(self, uses: Mapping[str, float]) -> None:
        # Sorted, so that two servers never wait for each other's rows in PostgreSQL.
        values = [{"hook": hook, "when": when} for hook, when in sorted(uses.items())]
        statement = (
            update(table).where(table.c.id == bindparam("hook")).values(used=bindparam("when"))
        )
        await self._database.write(lambda connection: connection.execute(statement, values))

    async def list_hooks(self, user: str) -> tuple[Hook, ...]:
        """The hooks of one user, oldest first."""
        await self._uses.flush()
        return await self._database.read(
            lambda connection: _select(connection, table.c.user == user)
        )

    async def add(self, hook: NewHook, proviso: Proviso = lambda _: None) -> None:
        """Make a hook.

        Raises:
            StoreError: Its user has as many as allowed.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> None:
            _lock_user(connection, hook.user)
            proviso(connection)
            count = select(func.count()).select_from(table).where(table.c.user == hook.user)
            if connection.execute(count).scalar_one() >= MAX_HOOKS:
                raise StoreError(
                    f"there are {MAX_HOOKS} hooks already, which is as many as there can be: "
                    "'hooks' lists them, 'hooks rm' removes one"
                )
            connection.execute(
                insert(table).values(
                    {
                        "id": hook.id,
                        "user": hook.user,
                        "owner": hook.owner,
                        "path": hook.path,
                        "kind": hook.kind.value,
                        "secret": hook.secret,
                        "hold": hook.hold,
                        "name": hook.name,
                        "created": time.time(),
                    }
                )
            )

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise StoreError(f"there is no user {quoted(hook.user)} any more") from error

    async def remove(self, user: str, start: str, proviso: Proviso = lambda _: None) -> Hook:
        """Remove a user's hook, and return it.

        Args:
            user: The user.
            start: All of its ID, or its start.
            proviso: Checks whether the change is still allowed.

        Raises:
            StoreError: No hook's ID begins so, or more than one does.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> Hook:
            proviso(connection)
            hook = _find_own(connection, user, start)
            connection.execute(delete(table).where(table.c.id == hook.id))
            return hook

        return await self._database.write(work)

    async def rotate(
        self, user: str, number: str, secret: str, proviso: Proviso = lambda _: None
    ) -> None:
        """Give a user's hook another secret, stored as `NewHook.secret` says.

        Raises:
            StoreError: There is no such hook any more.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> None:
            proviso(connection)
            hook = _find_own(connection, user, number)
            connection.execute(update(table).where(table.c.id == hook.id).values(secret=secret))

        await self._database.write(work)

    async def find_own(self, user: str, start: str) -> Hook:
        """Look up a user's hook by all of its ID, or its start.

        Raises:
            StoreError: No hook's ID begins so, or more than one does.
        """
        return await self._database.read(lambda connection: _find_own(connection, user, start))


def _find_own(connection: Connection, user: str, start: str) -> Hook:
    if len(start) < MIN_PREFIX:
        raise StoreError(f"give at least {MIN_PREFIX} characters of the hook's ID")
    begins = table.c.id.startswith(start, autoescape=True)
    found = _select(connection, table.c.user == user, begins)
    if len(found) != 1:
        how_many = f"{len(found)} hooks begin" if found else "no hook begins"
        raise StoreError(f"{how_many} with {quoted(start)}; 'hooks' lists them")
    return found[0]


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[Hook, ...]:
    query = (
        select(table, users_table.c.admin)
        .join(users_table, users_table.c.name == table.c.user)
        .where(*conditions)
        .order_by(table.c.created, table.c.id)
    )
    return tuple(map(_read, connection.execute(query)))


def _read(row: Row[*tuple[Any, ...]]) -> Hook:
    return Hook(
        id=row.id,
        user=row.user,
        owner=row.owner,
        path=row.path,
        kind=HookKind(row.kind),
        secret=row.secret,
        hold=row.hold,
        name=row.name,
        created=row.created,
        used=row.used,
        admin=row.admin,
    )


def _lock_user(connection: Connection, user: str) -> None:
    """Let nobody else count this user's hooks meanwhile; in SQLite we are alone anyway."""
    query = select(users_table.c.name).where(users_table.c.name == user)
    connection.execute(query.with_for_update())
