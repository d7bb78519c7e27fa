"""Users and keys, row by row: the steps of the transactions in `pipe.store.accounts`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    Connection,
    Row,
    Select,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from pipe.errors import KeyTaken, StoreError
from pipe.language.names import quoted
from pipe.store.records import Key, Login, NewKey, User
from pipe.store.tables import keys as keys_table
from pipe.store.tables import users as users_table

if TYPE_CHECKING:
    from collections.abc import Iterable


def find_login(connection: Connection, name: str, fingerprint: str) -> Login | None:
    """Find the user, and the key if it is the user's, in one query."""
    query = (
        select(users_table, keys_table)
        .outerjoin_from(
            users_table,
            keys_table,
            (keys_table.c.user == users_table.c.name) & (keys_table.c.fingerprint == fingerprint),
        )
        .where(users_table.c.name == name)
        .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    user = User(row.users_name, row.users_admin, row.users_created)
    if row.keys_fingerprint is None:
        return Login(user, None)
    return Login(
        user,
        Key(
            user=row.keys_user,
            fingerprint=row.keys_fingerprint,
            key_type=row.keys_key_type,
            public=row.keys_public,
            comment=row.keys_comment,
            created=row.keys_created,
            last_used=row.keys_last_used,
            proved=row.keys_proved,
        ),
    )


def get_user(connection: Connection, name: str) -> User | None:
    """Look a user up."""
    row = connection.execute(user_named(name)).one_or_none()
    return read_user(row) if row else None


def user_named(name: str) -> Select[str, bool, float]:
    """The query for one user."""
    return select(users_table).where(users_table.c.name == name)


def keys_of(connection: Connection, user: str) -> tuple[Key, ...]:
    """All keys of a user, including those that are only named."""
    rows = connection.execute(select(keys_table).where(keys_table.c.user == user))
    return tuple(read_key(row) for row in rows)


def require_user(connection: Connection, name: str, *, lock: bool = False) -> None:
    """Check that a user exists; with ``lock`` nobody else can change anything about it.

    Raises:
        StoreError: There is no such user.
    """
    query = select(users_table.c.name).where(users_table.c.name == name)
    if lock:
        query = query.with_for_update()  # for PostgreSQL; in SQLite we are alone anyway
    if connection.execute(query).one_or_none() is None:
        raise StoreError(f"no user {quoted(name)}; 'pipe user ls' lists them")


def insert_user(connection: Connection, name: str, *, admin: bool) -> None:
    """Insert a user.

    Raises:
        IntegrityError: The name is taken.
    """
    connection.execute(insert(users_table).values(name=name, admin=admin, created=time.time()))


def users_of(connection: Connection, fingerprint: str) -> tuple[str, ...]:
    """The users who have a key, by name, including those who have only named it."""
    query = select(keys_table.c.user).where(keys_table.c.fingerprint == fingerprint)
    return tuple(connection.execute(query.order_by(keys_table.c.user)).scalars())


def lock_keys(connection: Connection, fingerprints: Iterable[str]) -> None:
    """Let nobody else remove one of these keys from another user at the same moment.

    Otherwise neither would be its last user, and its grants would stay.  As in `require_user`, only
    PostgreSQL needs this.
    """
    query = select(keys_table.c.user).where(keys_table.c.fingerprint.in_(fingerprints))
    connection.execute(
        query.order_by(keys_table.c.fingerprint, keys_table.c.user).with_for_update()
    )


def insert_key(
    connection: Connection, user: str, key: NewKey, *, shared: bool = False, proved: bool = True
) -> None:
    """Insert a key; if it is proved to be one user's, it replaces those that were only named.

    Raises:
        KeyTaken: It belongs to others, and is not shared.
        IntegrityError: Somebody else got it at this moment.
    """
    named = keys_table.c.fingerprint == key.fingerprint
    if proved and not shared:
        connection.execute(delete(keys_table).where(named, ~keys_table.c.proved))
    query = select(keys_table.c.user).where(named, keys_table.c.proved).order_by(keys_table.c.user)
    others = tuple(connection.execute(query).scalars())
    if others and not shared:
        raise KeyTaken(key.fingerprint, others)
    connection.execute(
        insert(keys_table).values(
            fingerprint=key.fingerprint,
            user=user,
            shared=shared,
            proved=proved,
            key_type=key.key_type,
            public=key.public,
            comment=key.comment,
            created=time.time(),
        )
    )


def insert_key_or_say_why_not(
    connection: Connection, user: str, key: NewKey, *, shared: bool = False, proved: bool = True
) -> None:
    """Insert a key as `insert_key` does.

    Raises:
        StoreError: The user already has it, or somebody else does.
    """
    if user in users_of(connection, key.fingerprint):
        raise StoreError(f"user {quoted(user)} has the key {key.fingerprint} already")
    try:
        insert_key(connection, user, key, shared=shared, proved=proved)
    except IntegrityError as error:  # another server was faster
        raise KeyTaken(key.fingerprint) from error


def read_user(row: Row[*tuple[Any, ...]]) -> User:
    """A row of the table as a value."""
    return User(name=row.name, admin=row.admin, created=row.created)


def read_key(row: Row[*tuple[Any, ...]]) -> Key:
    """A row of the table as a value."""
    return Key(
        user=row.user,
        fingerprint=row.fingerprint,
        key_type=row.key_type,
        public=row.public,
        comment=row.comment,
        created=row.created,
        last_used=row.last_used,
        proved=row.proved,
    )
