"""The store of accounts: what can be asked and changed.

Rules:

- A key belongs to one user, unless an operator says otherwise, and a name is given once, even if
  two ask at the same moment: unique indexes decide, not an earlier lookup.
- A public key is not secret, so a user who adds one only names it.  It becomes the user's with the
  first login; until then others may name it too, and the first to log in with it gets it.
- Each method is one transaction on the database's own thread.  Cancelling a method leaves all of
  it done or none.
- Login lookups are cached until something in the database changes.  So changes by ``pipe user`` and
  ``pipe key`` beside a running server count at the next login (with PostgreSQL
  `pipe.store.database.FOREIGN_CHANGE_SECONDS` later).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from pipe.errors import KeyTaken, StoreError
from pipe.language.names import escape, parse_user, quoted
from pipe.store import changes, grants, rows, tokens
from pipe.store.cache import StampedCache
from pipe.store.database import BUSY_TIMEOUT, Database
from pipe.store.hooks import HookStore
from pipe.store.monitors import MonitorStore
from pipe.store.records import is_last
from pipe.store.tables import keys as keys_table
from pipe.store.tables import users as users_table
from pipe.store.tokens import TokenStore
from pipe.store.uses import Uses
from pipe.store.webhooks import WebhookStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from pipe.store.changes import Proviso
    from pipe.store.records import Key, Login, NewKey, User

MIN_PREFIX = 4
"""Fewest characters of a fingerprint that name a key, so that a typing slip does not remove one."""

CACHED_LOGINS = 4096
"""Keys whose owners are cached: about 2 MiB, and more than log in within any second."""

_FINGERPRINT_START = "SHA256:"


class Store:
    """The accounts database.  Make it with `Store.open`; ``async with`` closes it.

    Attributes:
        database: for other data that is stored beside the accounts.
        tokens: the other way to log in, besides keys.
        hooks: where other services tell what happened.
        webhooks: where what topics get is sent.
        monitors: what is expected of topics.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._logins: StampedCache[tuple[str, str], Login] = StampedCache(CACHED_LOGINS)
        self._uses: Uses[tuple[str, str], float] = Uses(self._store_uses)
        self.tokens = TokenStore(database)
        self.hooks = HookStore(database)
        self.webhooks = WebhookStore(database)
        self.monitors = MonitorStore(database)

    @classmethod
    async def open(cls, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Open the database; create or migrate it if needed.

        Args:
            url: As for `pipe.store.database.Database.open`.
            busy_timeout: Seconds to wait for another process's lock, or for a connection.

        Raises:
            StoreUnavailable: It cannot be reached, read, written or migrated.
        """
        return cls(await Database.open(url, busy_timeout=busy_timeout))

    async def close(self) -> None:
        """Close all connections to the database."""
        await self._uses.close()
        await self.tokens.close()
        await self.hooks.close()
        await self.webhooks.close()
        await self.database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- logins -----------------------------------------------------------------------------------

    async def find_login(self, name: str, fingerprint: str = "") -> Login | None:
        """Look up what a login under this name needs to know, usually from the cache.

        Args:
            name: The name that the client logs in under.
            fingerprint: The whole fingerprint of the client's key; without one, only the name is
                looked up.

        Returns:
            The user, and the key if it is one of the user's; None if nobody has the name.
        """
        stamp = self.database.stamp()
        login = self._logins.get((name, fingerprint), stamp)
        if login is None:
            login = await self.database.read(
                lambda connection: rows.find_login(connection, name, fingerprint)
            )
            # Do not cache what strangers can ask for without end.
            if login and (login.key or not fingerprint):
                self._logins.put((name, fingerprint), login, stamp)
        return login

    def note_use(self, user: str, fingerprint: str, when: float | None = None) -> None:
        """Note that a key has logged a user in, to be stored a little later.

        Args:
            user: The user.
            fingerprint: The whole fingerprint; it is no error if the key is gone by then.
            when: Seconds since 1970, UTC; now by default.
        """
        self._uses.note((fingerprint, user), time.time() if when is None else when)

    async def flush_uses(self) -> None:
        """Store the noted uses now."""
        await self._uses.flush()

    async def _store_uses(self, uses: Mapping[tuple[str, str], float]) -> None:
        # Sorted, so that two servers never wait for each other's rows in PostgreSQL.
        values = [
            {"key": key, "whose": user, "used": when} for (key, user), when in sorted(uses.items())
        ]
        statement = (
            update(keys_table)
            .where(
                keys_table.c.fingerprint == bindparam("key"),
                keys_table.c.user == bindparam("whose"),
            )
            .values(last_used=bindparam("used"))
        )
        await self.database.write(lambda connection: connection.execute(statement, values))

    # -- what there is ----------------------------------------------------------------------------

    async def get_user(self, name: str) -> User | None:
        """Look a user up."""
        return await self.database.read(lambda connection: rows.get_user(connection, name))

    async def find_key(self, user: str, fingerprint: str) -> Key | None:
        """Look up whether a key logs this user in.

        Args:
            user: The name that the client logs in under.
            fingerprint: The whole fingerprint.
        """
        login = await self.find_login(user, fingerprint)
        return login.key if login else None

    async def users_of(self, fingerprint: str) -> tuple[str, ...]:
        """Return the users whom a key logs in, by name: one, or all who share it.

        Args:
            fingerprint: The whole fingerprint.
        """
        return await self.database.read(lambda connection: rows.users_of(connection, fingerprint))

    async def list_users(self) -> tuple[User, ...]:
        """All users, by name."""

        def work(connection: Connection) -> tuple[User, ...]:
            query = select(users_table).order_by(users_table.c.name)
            return tuple(rows.read_user(row) for row in connection.execute(query))

        return await self.database.read(work)

    async def list_keys(self, user: str | None = None) -> tuple[Key, ...]:
        """The keys of one user, or of all users: by user, oldest first.

        Raises:
            StoreError: No such user.
        """

        def work(connection: Connection) -> tuple[Key, ...]:
            query = select(keys_table).order_by(
                keys_table.c.user, keys_table.c.created, keys_table.c.fingerprint
            )
            if user is not None:
                rows.require_user(connection, user)
                query = query.where(keys_table.c.user == user)
            return tuple(rows.read_key(row) for row in connection.execute(query))

        await self.flush_uses()
        return await self.database.read(work)

    # -- changes ----------------------------------------------------------------------------------

    async def claim(self, user: str, key: NewKey) -> bool:
        """Give a free name to the first key that asks for it.

        Returns:
            False if somebody already has the name or the key; then nothing has changed.

        Raises:
            BadName: Nobody can have this name.
        """
        parse_user(user)

        def work(connection: Connection) -> None:
            rows.insert_user(connection, user, admin=False)
            rows.insert_key(connection, user, key)

        try:
            await self.database.write(work)
        except (IntegrityError, KeyTaken):
            return False
        return True

    async def prove(self, user: str, fingerprint: str) -> bool:
        """Make a key the user's, after the first login with a key that was only named before.

        Returns:
            False if somebody else has it by now.
        """

        def work(connection: Connection) -> bool:
            rows.lock_keys(connection, [fingerprint])
            named = keys_table.c.fingerprint == fingerprint
            proved = connection.execute(
                update(keys_table).where(named, keys_table.c.user == user).values(proved=True)
            )
            connection.execute(delete(keys_table).where(named, ~keys_table.c.proved))
            return bool(proved.rowcount)

        try:
            return await self.database.write(work)
        except IntegrityError:
            return False

    async def ensure_user(self, name: str) -> bool:
        """Register a user without keys, unless the name is already registered.

        Returns:
            Whether it is new.

        Raises:
            BadName: Nobody can have this name.
        """
        parse_user(name)
        try:
            await self.database.write(
                lambda connection: rows.insert_user(connection, name, admin=False)
            )
        except IntegrityError:
            return False
        return True

    async def add_user(self, name: str, admin: bool = False, keys: Iterable[NewKey] = ()) -> User:
        """Register a user together with all keys, or not at all.

        Raises:
            BadName: Nobody can have this name.
            StoreError: The name is taken, or a key already belongs to somebody.
        """
        parse_user(name)

        def work(connection: Connection) -> User:
            try:
                rows.insert_user(connection, name, admin=admin)
            except IntegrityError as error:
                raise StoreError(f"user {quoted(name)} exists already") from error
            for key in keys:
                rows.insert_key_or_say_why_not(connection, name, key)
            return rows.read_user(connection.execute(rows.user_named(name)).one())

        return await self.database.write(work)

    async def set_admin(self, name: str, *, admin: bool) -> bool:
        """Make a user an admin, or no longer one.

        Returns:
            Whether anything changed.

        Raises:
            StoreError: No such user.
        """

        def work(connection: Connection) -> bool:
            rows.require_user(connection, name, lock=True)
            chosen = (users_table.c.name == name, users_table.c.admin != admin)
            changed = connection.execute(update(users_table).where(*chosen).values(admin=admin))
            if changed.rowcount and not admin:
                changes.note(connection, changes.Kind.ADMIN, [(name, "")])
            return bool(changed.rowcount)

        return await self.database.write(work)

    async def remove_user(self, name: str) -> tuple[Key, ...]:
        """Remove a user with all keys, grants, tokens, hooks and webhooks.

        Returns:
            The keys that went with it.

        Raises:
            StoreError: No such user.
        """

        def work(connection: Connection) -> tuple[Key, ...]:
            # Lock the user before the keys, as everywhere.
            rows.require_user(connection, name, lock=True)
            removed = rows.keys_of(connection, name)
            fingerprints = [key.fingerprint for key in removed if key.proved]
            rows.lock_keys(connection, fingerprints)
            changes.note(connection, changes.Kind.KEY, [(name, key) for key in fingerprints])
            changes.note(connection, changes.Kind.USER, [(name, "")])
            connection.execute(delete(users_table).where(users_table.c.name == name))
            orphans = [key for key in fingerprints if not rows.users_of(connection, key)]
            grants.forget(connection, [name, *orphans])
            return removed

        return await self.database.write(work)

    async def add_key(
        self,
        user: str,
        key: NewKey,
        *,
        shared: bool = False,
        proved: bool = True,
        proviso: Proviso = lambda _: None,
    ) -> Key:
        """Give a user one more key.

        Args:
            user: The user.
            key: The key.
            shared: Others may have it too; only an operator can say so, never the user.
            proved: The key is the user's; only an operator can say so, a user only names a key.
            proviso: Checks whether the change is still allowed.

        Raises:
            KeyTaken: The key belongs to somebody else, and is not shared.
            StoreError: No such user, or the user already has the key.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> Key:
            proviso(connection)
            rows.require_user(connection, user)
            rows.insert_key_or_say_why_not(connection, user, key, shared=shared, proved=proved)
            query = select(keys_table).where(
                keys_table.c.fingerprint == key.fingerprint, keys_table.c.user == user
            )
            return rows.read_key(connection.execute(query).one())

        return await self.database.write(work)

    async def remove_key(
        self,
        user: str,
        fingerprint: str,
        *,
        keep_last: bool = False,
        proviso: Proviso = lambda _: None,
    ) -> Key:
        """Remove a user's key, the tokens made with it, and its grants unless others have it too.

        Args:
            user: Whose key it is.
            fingerprint: All of it or its start, with or without ``SHA256:``.
            keep_last: Refuse to remove the last key that is known to be the user's.
            proviso: Checks whether the change is still allowed.

        Returns:
            The removed key.

        Raises:
            StoreError: No such user; no key of the user starts so, or more than one does; it is the
                last one.
            PipeError: From the proviso.
        """
        start = _FINGERPRINT_START + fingerprint.removeprefix(_FINGERPRINT_START)
        if len(start) < len(_FINGERPRINT_START) + MIN_PREFIX:
            raise StoreError(f"give at least {MIN_PREFIX} characters of the key's fingerprint")

        def work(connection: Connection) -> Key:
            rows.require_user(connection, user, lock=keep_last)
            proviso(connection)
            all_keys = rows.keys_of(connection, user)
            found = [key for key in all_keys if key.fingerprint.startswith(start)]
            if len(found) != 1:
                count = f"{len(found)} keys" if found else "no key"
                raise StoreError(
                    f"user {quoted(user)} has {count} with the fingerprint {quoted(start)}; "
                    f"'pipe key ls {escape(user)}' lists them"
                )
            if keep_last and is_last(found[0], all_keys):
                raise StoreError(
                    f"key {found[0].fingerprint} is the last one that is known to be {user}'s"
                )
            removed = found[0].fingerprint
            rows.lock_keys(connection, [removed])
            connection.execute(
                delete(keys_table).where(
                    keys_table.c.fingerprint == removed, keys_table.c.user == user
                )
            )
            tokens.forget_key(connection, user, removed)
            if found[0].proved:
                if not rows.users_of(connection, removed):
                    grants.forget(connection, [removed])
                changes.note(connection, changes.Kind.KEY, [(user, removed)])
            return found[0]

        return await self.database.write(work)
