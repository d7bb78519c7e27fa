"""The operator's commands for users, their keys and their tokens."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pipe.cli.options import StoreCommand
from pipe.errors import KeyTaken, StoreError, UsageError
from pipe.language.names import escape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pipe.settings import Settings
    from pipe.store import NewKey, Store

MAX_KEY_FILE = 64 * 1024
"""Bytes to read from a key file: more than `pipe.store.keys` takes, and little enough."""

_Result = TypeVar("_Result")


@click.group()
def user() -> None:
    """Register and remove users."""


@user.command("add", cls=StoreCommand)
@click.argument("name")
@click.option("--admin", is_flag=True, help="May address every topic.")
@click.option(
    "--key",
    "key_files",
    type=click.Path(),
    metavar="FILE",
    multiple=True,
    help="Public key that logs the user in, - for stdin; may be given again.",
)
def user_add(settings: Settings, name: str, admin: bool, key_files: tuple[str, ...]) -> None:
    """Register the user NAME."""
    from pipe.settings import DATABASE_NAME

    keys = [_read_key(source) for source in key_files]
    fresh = _lacks_accounts(settings)
    try:
        _with_store(settings, lambda store: store.add_user(name, admin, keys), make=True)
    except KeyTaken as error:
        raise _taken(
            error,
            f"if {name} is to have it too, run 'pipe user add {name}' without it,"
            f" then 'pipe key add --shared {name} FILE'",
        ) from error
    click.echo(f"added user {escape(name)} with {_count(len(keys), 'key')}")
    if fresh:  # perhaps in a folder that no server uses
        file = settings.data_dir.absolute() / DATABASE_NAME
        click.echo(f"pipe: there were no accounts: made {escape(str(file))}", err=True)


@user.command("ls", cls=StoreCommand)
def user_ls(settings: Settings) -> None:
    """List the users."""

    async def collect(store: Store) -> list[tuple[str, ...]]:
        users, keys = await store.list_users(), await store.list_keys()
        counts = {user.name: sum(key.user == user.name for key in keys) for user in users}
        return [
            (user.name, "yes" if user.admin else "no", str(counts[user.name]), _date(user.created))
            for user in users
        ]

    _print_table(("NAME", "ADMIN", "KEYS", "CREATED"), _with_store(settings, collect))


@user.command("admin", cls=StoreCommand)
@click.argument("name")
@click.argument("answer", type=click.Choice(["yes", "no"]), metavar="yes|no")
def user_admin(settings: Settings, name: str, answer: str) -> None:
    """Say whether the user NAME may address every topic.

    An admin who is none any more is logged out; who becomes one has to log in again.
    """
    admin = answer == "yes"
    changed = _with_store(settings, lambda store: store.set_admin(name, admin=admin))
    states = (
        ("no admin", "an admin already") if not changed else ("no admin any more", "now an admin")
    )
    click.echo(f"user {escape(name)} is {states[admin]}")


@user.command("rm", cls=StoreCommand)
@click.argument("name")
def user_rm(settings: Settings, name: str) -> None:
    """Remove the user NAME with all keys."""
    removed = _with_store(settings, lambda store: store.remove_user(name))
    click.echo(f"removed user {escape(name)} and {_count(len(removed), 'key')}")


@click.group()
def key() -> None:
    """Add and remove users' keys."""


@key.command("add", cls=StoreCommand)
@click.argument("user")
@click.argument("file", type=click.Path(), default="-")
@click.option("--shared", is_flag=True, help="Also if it logs others in: it is theirs too.")
def key_add(settings: Settings, user: str, file: str, shared: bool) -> None:
    """Let the public key in FILE, default stdin, log USER in."""
    new = _read_key(file)

    async def add(store: Store) -> tuple[str, ...]:
        await store.add_key(user, new, shared=shared)
        return await store.users_of(new.fingerprint)

    try:
        users = _with_store(settings, add)
    except KeyTaken as error:
        raise _taken(error, f"add --shared if {user} is to have it too") from error
    others = [escape(other) for other in users if other != user]
    sharing = f", who shares it with {', '.join(others)}" if others else ""
    click.echo(f"added key {new.fingerprint} to user {escape(user)}{sharing}")


@key.command("ls", cls=StoreCommand)
@click.argument("user", required=False)
def key_ls(settings: Settings, user: str | None) -> None:
    """List the keys of USER or of all."""
    keys = _with_store(settings, lambda store: store.list_keys(user))
    _print_table(
        ("USER", "FINGERPRINT", "TYPE", "CREATED", "LAST USED", "COMMENT"),
        [
            (
                key.user,
                key.fingerprint,
                key.key_type,
                _date(key.created),
                _date(key.last_used),
                key.comment,
            )
            for key in keys
        ],
    )


@key.command("rm", cls=StoreCommand)
@click.argument("user")
@click.argument("fingerprint")
def key_rm(settings: Settings, user: str, fingerprint: str) -> None:
    """Take the key FINGERPRINT, or the one that starts so, from USER."""
    removed = _with_store(settings, lambda store: store.remove_key(user, fingerprint))
    click.echo(f"removed key {removed.fingerprint} from user {escape(user)}")


@click.group()
def token() -> None:
    """List and remove users' tokens, logins of browsers and links."""


@token.command("ls", cls=StoreCommand)
@click.argument("user", required=False)
def token_ls(settings: Settings, user: str | None) -> None:
    """List the tokens of USER or of all."""
    tokens = _with_store(settings, lambda store: store.tokens.list_tokens(user))
    _print_table(
        ("USER", "ID", "KIND", "CREATED", "UNTIL", "LAST USED", "FROM", "NAME"),
        [
            (
                one.user,
                one.id,
                one.kind.value,
                _date(one.created),
                _date(one.until),
                _date(one.used),
                one.used_from or "-",
                one.name,
            )
            for one in tokens
        ],
    )


@token.command("rm", cls=StoreCommand)
@click.argument("user")
@click.argument("id", required=False)
@click.option("--all", "every", is_flag=True, help="All of them.")
def token_rm(settings: Settings, user: str, id: str | None, every: bool) -> None:  # noqa: A002
    """Take the token ID, or the one that starts so, from USER."""
    if (id is None) is not every:
        raise UsageError("name one token, by its ID, or give --all")
    removed = _with_store(settings, lambda store: store.tokens.remove(user, id))
    click.echo(f"removed {_count(len(removed), 'token')} of user {escape(user)}")


def _lacks_accounts(settings: Settings) -> bool:
    """Return whether the data folder has no accounts; an unreadable one may have some."""
    from pipe.settings import DATABASE_NAME

    if settings.database_url:
        return False
    try:
        (settings.data_dir / DATABASE_NAME).stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _with_store(
    settings: Settings, work: Callable[[Store], Awaitable[_Result]], *, make: bool = False
) -> _Result:
    """Open the store for one piece of work.

    Raises:
        UsageError: There is none, and ``make`` does not ask to create one.
    """
    from pipe.store import Store

    if not make and _lacks_accounts(settings):
        raise UsageError(
            f"there are no accounts in {escape(str(settings.data_dir.absolute()))}: name the"
            " server's folder with --data-dir, or add the first user with 'pipe user add'"
        )

    async def session() -> _Result:
        async with await Store.open(settings.resolved_database_url) as store:
            return await work(store)

    return asyncio.run(session())


def _read_key(source: str) -> NewKey:
    """Read a public key from a file, or from stdin for ``-``."""
    from pipe.store import read_public_key

    shown = "stdin" if source == "-" else f"'{escape(source)}'"
    try:
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            data = file.read(MAX_KEY_FILE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read a public key from {shown}: {reason}") from error
    try:
        return read_public_key(data.decode("utf-8", "replace"))
    except UsageError as error:
        raise UsageError(f"{shown}: {error.message}") from error


def _taken(error: KeyTaken, advice: str) -> StoreError:
    """Make the error for an operator, who may know whose key it is."""
    if not error.users:  # somebody else was faster just now
        return StoreError(f"{error.message}: {advice}")
    owners = ", ".join(f"{escape(user)}'s" for user in error.users)
    return StoreError(f"key {error.fingerprint} is {owners}: {advice}")


def _print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print columns, each as wide as its widest cell."""
    lines = [header, *(tuple(map(escape, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
