"""Tokens in the database, for programs, browsers and links, and login codes.

Rules:

- Only the SHA-256 of a secret is stored.  Lookups use that, so nothing is ever compared with a
  secret, and the time of a lookup reveals nothing about one.
- A token goes with its user and with the key that made it, and it has an end.  If its uses are
  limited, the transaction that uses it counts them down.
- A user has at most `LIMITS` of a kind.  Ended ones are kept for a while, and no longer, so that
  their bearers can be told.
- Lookups are cached until something in the database changes, as for keys.
- Removing one that has not ended leaves an entry in `pipe.store.changes`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from pipe.errors import AccessDenied, StoreError
from pipe.language.names import quoted
from pipe.rights.scopes import Reach, Right, Scope
from pipe.store import changes
from pipe.store.cache import StampedCache
from pipe.store.records import Token, TokenKind
from pipe.store.tables import keys as keys_table
from pipe.store.tables import tokens as table
from pipe.store.tables import users as users_table
from pipe.store.uses import Uses

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy import ColumnElement, Row

    from pipe.store.changes import Proviso
    from pipe.store.database import Database
    from pipe.store.records import NewToken

LIMITS = {
    TokenKind.API: 100,
    TokenKind.SESSION: 20,
    TokenKind.CODE: 20,
    TokenKind.LINK: 100,
}
"""Live tokens of one user: more than anybody has programs, browsers and links."""

_MAKES_ROOM = frozenset({TokenKind.SESSION, TokenKind.CODE})
"""When one too many of these comes, the oldest goes: a login cannot ask to remove one first."""

KEPT_SECONDS = 86_400.0
"""How long ended tokens are kept, so that their bearers can be told that they ended."""

CACHED_TOKENS = 4096
"""Tokens that are cached: about 4 MiB, and more than are used within any second."""

MIN_PREFIX = 4
"""Fewest characters of an ID that name a token, so that a typing slip does not remove one."""

MAX_ADDRESS = 64
"""Characters of an address that are stored."""

_ADMIN = "admin"
"""Stands among the rights of a token with an admin's rights."""


class TokenStore:
    """The tokens in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: StampedCache[str, Token] = StampedCache(CACHED_TOKENS)
        self._uses: Uses[str, tuple[float, str]] = Uses(self._store_uses)

    async def close(self) -> None:
        """Store the noted uses; call this before closing the database."""
        await self._uses.close()

    # -- who comes --------------------------------------------------------------------------------

    async def find(self, secret: str) -> Token | None:
        """Look up a token by its secret, usually from the cache.

        Args:
            secret: The secret's SHA-256.

        Returns:
            The token, which may have ended; None if there is none.
        """
        stamp = self._database.stamp()
        token = self._found.get(secret, stamp)
        if token is None:
            token = await self._database.read(lambda connection: _find(connection, secret))
            if token:  # do not cache what strangers can ask for without end
                self._found.put(secret, token, stamp)
        return token

    async def use(
        self, secret: str, kind: TokenKind, address: str, now: float
    ) -> tuple[Token | None, bool]:
        """Look up a token with limited uses, and use it once if it is of this kind.

        Returns:
            The token afterwards, and whether it was good for one more use.
        """

        def work(connection: Connection) -> tuple[Token | None, bool]:
            used = connection.execute(
                update(table)
                .where(
                    table.c.secret == secret,
                    table.c.kind == kind.value,
                    table.c.until > now,
                    table.c.uses_left > 0,
                )
                .values(uses_left=table.c.uses_left - 1, used=now, used_from=address[:MAX_ADDRESS])
            )
            return _find(connection, secret), bool(used.rowcount)

        return await self._database.write(work)

    async def redeem(
        self, code: str, session: NewToken, address: str, now: float
    ) -> tuple[Token | None, bool]:
        """Exchange a code for a session, once.

        Args:
            code: The code's SHA-256.
            session: Gives the session its ID and secret; everything else comes from the code.
            address: The client's IP address.
            now: Seconds since 1970.

        Returns:
            The code, and whether there is a session now.

        Raises:
            AccessDenied: The key that made the code is no longer its user's.
        """

        def work(connection: Connection) -> tuple[Token | None, bool]:
            found = _find(connection, code)
            if found is None:
                return None, False
            made = replace(
                session,
                user=found.user,
                name=found.name,
                scope=found.scope,
                admin=found.admin,
                made_by=found.made_by,
                backing=found.backing,
                until=found.session_until or now,
            )
            _lock_user(connection, found.user)
            _require_maker(connection, made)
            used = connection.execute(
                update(table)
                .where(
                    table.c.secret == code,
                    table.c.kind == TokenKind.CODE.value,
                    table.c.until > now,
                    table.c.uses_left > 0,
                )
                .values(uses_left=0, used=now, used_from=address[:MAX_ADDRESS])
            )
            if not used.rowcount:
                return found, False
            _make(connection, made, now)
            return found, True

        return await self._database.write(work)

    def note_use(self, token: str, address: str, when: float) -> None:
        """Note that a token was used, to be stored a little later.

        Args:
            token: Its ID; it is no error if the token is gone by then.
            address: The client's IP address.
            when: Seconds since 1970.
        """
        self._uses.note(token, (when, address[:MAX_ADDRESS]))

    async def _store_uses(self, uses: Mapping[str, tuple[float, str]]) -> None:
        # Sorted, so that two servers never wait for each other's rows in PostgreSQL.
        values = [
            {"token": token, "when": when, "where": where}
            for token, (when, where) in sorted(uses.items())
        ]
        statement = (
            update(table)
            .where(table.c.id == bindparam("token"))
            .values(used=bindparam("when"), used_from=bindparam("where"))
        )
        await self._database.write(lambda connection: connection.execute(statement, values))

    # -- what there is, and changes ---------------------------------------------------------------

    async def list_tokens(self, user: str | None = None) -> tuple[Token, ...]:
        """The live tokens of one user or of all, without codes.

        Returns:
            Tokens sorted by user, kind and time.

        Raises:
            StoreError: There is no such user.
        """

        def work(connection: Connection) -> tuple[Token, ...]:
            conditions = [table.c.until > time.time(), table.c.kind != TokenKind.CODE.value]
            if user is not None:
                _require_user(connection, user)
                conditions.append(table.c.user == user)
            return _select(connection, *conditions)

        await self._uses.flush()
        return await self._database.read(work)

    async def add(self, token: NewToken, proviso: Proviso = lambda _: None) -> None:
        """Make a token.

        Raises:
            AccessDenied: The key that makes it is no longer its user's.
            StoreError: Its user has as many as allowed.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> None:
            _lock_user(connection, token.user)
            proviso(connection)
            _require_maker(connection, token)
            _make(connection, token, time.time())

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise StoreError(f"there is no user {quoted(token.user)} any more") from error

    async def remove(
        self, user: str, start: str | None, proviso: Proviso = lambda _: None
    ) -> tuple[Token, ...]:
        """Remove one token of a user, or all of them.

        Args:
            user: The user.
            start: All of its ID or its start; None for all tokens, codes too.
            proviso: Checks whether the change is still allowed.

        Returns:
            The removed tokens.

        Raises:
            StoreError: There is no such user; no token's ID begins so, or more than one does.
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> tuple[Token, ...]:
            _require_user(connection, user)
            proviso(connection)
            conditions = [table.c.user == user]
            if start is not None:
                conditions.append(table.c.id.startswith(start, autoescape=True))
            found = _select(connection, *conditions)
            if start is not None and len(found) != 1:
                how_many = f"{len(found)} tokens begin" if found else "no token begins"
                raise StoreError(f"{how_many} with {quoted(start)}; 'tokens' lists them")
            _remove(connection, found)
            return found

        if start is not None and len(start) < MIN_PREFIX:
            raise StoreError(f"give at least {MIN_PREFIX} characters of the token's ID")
        return await self._database.write(work)


def forget_key(connection: Connection, user: str, fingerprint: str) -> None:
    """Remove the tokens that a user made with a key that is now removed from the database."""
    connection.execute(
        delete(table).where(
            table.c.user == user, table.c.made_by == fingerprint, table.c.backing == ""
        )
    )


def _find(connection: Connection, secret: str) -> Token | None:
    found = _select(connection, table.c.secret == secret)
    return found[0] if found else None


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[Token, ...]:
    query = (
        select(table, users_table.c.admin)
        .join(users_table, users_table.c.name == table.c.user)
        .where(*conditions)
        .order_by(table.c.user, table.c.kind, table.c.created, table.c.id)
    )
    return tuple(map(_read, connection.execute(query)))


def _read(row: Row[*tuple[Any, ...]]) -> Token:
    words = row.rights.split()
    scope = None
    if row.reads is not None and row.writes is not None:
        scope = Scope(
            Reach.parse(row.reads.split(), owner=row.user),
            Reach.parse(row.writes.split(), owner=row.user),
            frozenset(Right(word) for word in words if word != _ADMIN),
        )
    return Token(
        id=row.id,
        user=row.user,
        kind=TokenKind(row.kind),
        name=row.name,
        scope=scope,
        admin=row.admin and _ADMIN in words,
        made_by=row.made_by,
        backing=row.backing,
        created=row.created,
        until=row.until,
        session_until=row.session_until,
        uses_left=row.uses_left,
        used=row.used,
        used_from=row.used_from,
    )


def _make(connection: Connection, token: NewToken, now: float) -> None:
    """Insert a token and enforce its user's limit; the user is locked.

    Raises:
        StoreError: The user has as many as allowed.
    """
    kin = (table.c.user == token.user, table.c.kind == token.kind.value)
    most = LIMITS[token.kind]
    connection.execute(delete(table).where(*kin, table.c.until <= now - KEPT_SECONDS))
    count = select(func.count()).select_from(table).where(*kin)
    if connection.execute(count).scalar_one() >= most:
        connection.execute(delete(table).where(*kin, table.c.until <= now))
        found = sorted(_select(connection, *kin), key=lambda one: one.created)
        surplus = len(found) - most + 1
        if surplus > 0 and token.kind not in _MAKES_ROOM:
            raise StoreError(
                f"there are {most} of this kind already, which is as many as there can be: "
                "'tokens' lists them, 'tokens rm' removes one"
            )
        _remove(connection, tuple(found[: max(0, surplus)]))
    scope = token.scope
    rights = [_ADMIN] if token.admin else []
    rights += sorted(right.value for right in scope.rights) if scope else []
    connection.execute(
        insert(table).values(
            {
                "id": token.id,
                "user": token.user,
                "kind": token.kind.value,
                "secret": token.secret,
                "name": token.name,
                "reads": None if scope is None else "\n".join(scope.reads.shown),
                "writes": None if scope is None else "\n".join(scope.writes.shown),
                "rights": " ".join(rights),
                "made_by": token.made_by,
                "backing": token.backing,
                "created": token.created,
                "until": token.until,
                "session_until": token.session_until,
                "used_from": "",
                "uses_left": token.uses_left,
            }
        )
    )


def _remove(connection: Connection, found: tuple[Token, ...]) -> None:
    connection.execute(delete(table).where(table.c.id.in_([one.id for one in found])))
    changes.note(connection, changes.Kind.TOKEN, [(one.user, one.id) for one in found])


def _require_user(connection: Connection, user: str) -> None:
    query = select(users_table.c.name).where(users_table.c.name == user)
    if connection.execute(query).one_or_none() is None:
        raise StoreError(f"no user {quoted(user)}; 'pipe user ls' lists them")


def _lock_user(connection: Connection, user: str) -> None:
    """Let nobody else count this user's tokens meanwhile; in SQLite we are alone anyway."""
    query = select(users_table.c.name).where(users_table.c.name == user)
    connection.execute(query.with_for_update())


def _require_maker(connection: Connection, token: NewToken) -> None:
    """Check that the key is still its user's, and that nobody removes it meanwhile.

    Raises:
        AccessDenied: It is not.
    """
    if token.backing:
        return
    query = select(keys_table.c.user).where(
        keys_table.c.fingerprint == token.made_by, keys_table.c.user == token.user
    )
    if connection.execute(query.with_for_update(read=True)).one_or_none() is None:
        raise AccessDenied("access denied: the key that you logged in with was removed")
