"""The command line: ``pipe serve``, ``check``, ``mesh``, ``user``, ``key``, ``token`` and others.

Errors end as one line on stderr and a status from `pipe.errors`, never as a traceback.  A command
imports what it needs when it runs, so that ``pipe --help`` answers at once; for the same reason the
options of `Settings` are made on demand.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete, shell_complete

from pipe import __version__
from pipe.errors import KeyTaken, Outcome, PipeError, StoreError, UsageError
from pipe.language.names import escape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from pipe.settings import Settings
    from pipe.store import NewKey, Store

STATUS_INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells report it."""

STATUS_BROKEN_PIPE = 141
"""128 plus the number of SIGPIPE: how ``ls`` ends in ``ls | head -1``."""

MAX_KEY_FILE = 64 * 1024
"""Bytes to read from a key file: more than `pipe.store.keys` takes, and little enough."""

HELP_WIDTH = 100
"""The most columns of a help page, if the terminal has them."""

HELP_COLUMN = 26
"""Where the texts begin; longer options get their own line."""

COMPLETION_VARIABLE = "_PIPE_COMPLETE"
"""By this a shell asks what may come next, in the way of click."""

_STORE_SETTINGS = ("data_dir", "database_url")

_REPEATED = {"join"}
"""Settings whose option may be given again; elsewhere commas stand between the values."""

_Result = TypeVar("_Result")


class SettingsCommand(click.Command):
    """A command that takes settings: its function gets the loaded ones as ``settings``.

    Attributes:
        setting_names: The settings that it has an option for; empty means all.
    """

    setting_names: Sequence[str] = ()

    @cached_property
    def setting_options(self) -> list[click.Parameter]:
        """An option for each setting, made from its description in `Settings`."""
        from pipe.settings import CONFIG_VARIABLE, setting_names

        names = self.setting_names or setting_names()
        config = click.Option(
            ["--config"],
            type=click.Path(),
            metavar="FILE",
            help=f"TOML file of settings, below options and environment.  [env: {CONFIG_VARIABLE}]",
        )
        return [*map(_setting_option, names), config]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of the command itself, then the settings."""
        *own, last = super().get_params(ctx)
        if isinstance(last, click.Option) and "--help" in last.opts:
            return [*own, *self.setting_options, last]
        return [*own, last, *self.setting_options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under headings: there are too many for one list."""
        from pipe.limits.bounds import Limits
        from pipe.settings import Settings

        headings = dict.fromkeys(Limits.model_fields, "Limits")
        headings |= {name: "Settings" for name in Settings.model_fields if name not in headings}
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Settings": [], "Limits": []}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record and isinstance(option, click.Option):
                sections[headings.get(str(option.name), "Options")].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=HELP_COLUMN)

    def invoke(self, ctx: click.Context) -> object:
        """Load the settings, then run the function."""
        from pipe.settings import load

        config = ctx.params.pop("config")
        names = [option.name for option in self.setting_options]
        options = {name: ctx.params.pop(name) for name in names if name in ctx.params}
        options = {name: _joined(value) for name, value in options.items()}
        ctx.params["settings"] = load(options, Path(config) if config else None)
        return super().invoke(ctx)


class StoreCommand(SettingsCommand):
    """A command on the accounts: it takes the settings that say where they are."""

    setting_names = _STORE_SETTINGS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: Without the program's name; default: those of the process.

    Returns:
        The exit status.
    """
    try:
        # Not `program.main`: it handles Ctrl-C and a closed stdout in its own way.
        if instruction := os.environ.get(COMPLETION_VARIABLE):
            return shell_complete(program, {}, "pipe", COMPLETION_VARIABLE, instruction)
        given = sys.argv[1:] if arguments is None else list(arguments)
        with program.make_context("pipe", given) as context:
            result = program.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        return _fail(f"a command is missing: '{error.ctx.command_path} --help' lists them")
    except click.ClickException as error:
        return _fail(error.format_message())
    except PipeError as error:
        return _fail(error.message, error.outcome)
    except (KeyboardInterrupt, click.Abort):
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return STATUS_BROKEN_PIPE
    return result if isinstance(result, int) else 0


@click.group(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@click.version_option(__version__, message="pipe %(version)s")
def program() -> None:
    """Networked Unix pipes over SSH."""


@program.command(cls=SettingsCommand)
def serve(settings: Settings) -> int:
    """Run the server, until SIGTERM or Ctrl-C.

    Each setting and limit is also a variable of the environment (--data-dir is PIPE_DATA_DIR) and a
    key of the file given with --config (data-dir = "/var/lib/pipe"). Durations are written like 90s
    or 1h30m, sizes like 512KiB or 2MiB.
    """
    if settings.mesh or settings.join:
        from pipe.mesh.configuration import refuse_mesh

        refuse_mesh(settings)
    from pipe.app import run

    return run(settings)


@program.command(cls=SettingsCommand)
def check(settings: Settings) -> int:
    """Look at a configuration as serve would, and say what is wrong.

    Nothing is changed: no file is made, no database migrated. A line begins with ok, warning or
    error; with an error, the status is the one of a start that fails.
    """
    from pipe.check import Level
    from pipe.check import check as look

    failed = False
    for finding in look(settings):
        click.echo(str(finding))
        failed |= finding.level is Level.ERROR
    return Outcome.UNAVAILABLE.status if failed else 0


@program.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="bash|zsh|fish")
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options.

    For bash, put eval "$(pipe completion bash)" into ~/.bashrc; for zsh, the same with zsh into
    ~/.zshrc; for fish, pipe completion fish | source into ~/.config/fish/config.fish.
    """
    classes = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    click.echo(classes[shell](program, {}, "pipe", COMPLETION_VARIABLE).source())


@program.command()
def version() -> None:
    """Print the version."""
    click.echo(f"pipe {__version__}")


@program.group()
def mesh() -> None:
    """Look after several machines that are one service."""


@mesh.command("certificate")
@click.argument("name")
@click.option(
    "--ca",
    "folder",
    type=click.Path(),
    metavar="DIR",
    default="mesh",
    show_default=True,
    help="Folder of the CA, made if it is not there; the new files are put there too.",
)
def mesh_certificate(name: str, folder: str) -> None:
    """Make a certificate and key for the node NAME, and a CA for the first one."""
    from pipe.language.places import parse_node
    from pipe.mesh.certificates import explain, make

    click.echo(explain(parse_node(name), make(parse_node(name), Path(folder))))


@program.group()
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


@program.group()
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


@program.group()
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


def _setting_option(name: str) -> click.Option:
    """Make a setting's option; it takes any text, and `pipe.settings.load` checks all sources."""
    from pipe.settings import Settings, default_text, describe, option_name

    default = default_text(name)
    shown = f"  [default: {default}]" if default else ""
    why = str(Settings.model_fields[name].description)
    kind = describe(name)[0]
    words = kind.split("|") if "|" in kind else []
    return click.Option(
        [option_name(name)],
        type=click.Path() if kind == "PATH" else None,
        metavar=kind,
        multiple=name in _REPEATED,
        help=f"{why[0].upper()}{why[1:]}.{shown}",
        shell_complete=(lambda _context, _option, start: [w for w in words if w.startswith(start)])
        if words
        else None,
    )


def _joined(value: object) -> object:
    """One text of an option that was given several times; None if it was not given."""
    return ",".join(value) or None if isinstance(value, tuple) else value


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


def _fail(message: str, outcome: Outcome = Outcome.USAGE) -> int:
    """Print an error, one line unless several settings are bad, and return its status."""
    for line in message.splitlines():
        click.echo(f"pipe: {line}", err=True)
    return outcome.status


def _discard_stdout() -> None:
    """Let the interpreter flush to nowhere when it ends, instead of complaining."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
