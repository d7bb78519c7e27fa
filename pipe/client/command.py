"""The server's commands as commands of ``pipe``: what follows ``ssh HOST``, by another way.

The words are read by `pipe.language.requests`, as on the server, so they mean the same and are
refused in the same line.  click has only their descriptions, for help, completion and manual pages.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from pipe.errors import UsageError
from pipe.language import resume_help
from pipe.language.flags import help_row
from pipe.language.requests import COMMANDS, Help, help_text, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipe.language.flags import Command

SERVER_VARIABLE, TOKEN_VARIABLE = "PIPE_SERVER", "PIPE_TOKEN"

OURS = frozenset({"version", "help"})
"""Commands that this program has itself."""

HOW = (
    f"say which server: --server ssh://USER@HOST:PORT, or {SERVER_VARIABLE}; by HTTP, its address"
    f" and a token in {TOKEN_VARIABLE}"
)


class ClientCommand(click.Command):
    """One of the server's commands, with those of two words that begin with it."""

    def __init__(self, spec: Command) -> None:
        own = [
            click.Option(["--server"], metavar="URL", help=f"The server. [env: {SERVER_VARIABLE}]"),
            click.Option(
                ["--reconnect"],
                is_flag=True,
                help="Go on after a lost connection, and say what may be lost.",
            ),
        ]
        flags = [
            click.Option(
                [flag.field, *flag.spellings.split()],
                is_flag=flag.is_boolean,
                metavar=flag.placeholder or None,
                help=f"{flag.text[0].upper()}{flag.text[1:]}.",
            )
            for flag in spec.flags
        ]
        arguments = [
            click.Argument(
                [one.field], metavar=one.usage, required=False, nargs=-1 if one.many else 1
            )
            for one in spec.arguments
        ]
        summary = f"{spec.summary[0].upper()}{spec.summary[1:]}."
        super().__init__(
            spec.name,
            help=f"{summary}\n\n{spec.detail}".rstrip(),
            params=[*arguments, *own, *flags],
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the words as they are; completion has no need of them."""
        ctx.params = {"words": tuple(args)}
        return []

    def invoke(self, ctx: click.Context) -> int:
        """Run it."""
        return run_words([str(self.name), *ctx.params["words"]])


@cache
def client_commands() -> dict[str, ClientCommand]:
    """All of them, by the first word."""
    found: dict[str, ClientCommand] = {}
    for spec in COMMANDS:
        word = spec.name.split()[0]
        if word not in OURS and word not in found:
            found[word] = ClientCommand(replace(spec, name=word))
    return found


def run_words(words: Sequence[str]) -> int:
    """Run a command line, and return its exit status.

    Raises:
        PipeError: it cannot be understood, or there is no connection.
    """
    rest, server, reconnect = _take_own(words)
    command = shlex.join(rest)
    try:
        request = parse(command)
    except UsageError as error:
        raise UsageError(error.message.replace("ssh HOST", "pipe")) from None
    if isinstance(request, Help) and request.command != resume_help.TOPIC:
        click.echo(help_text(request.command, "pipe"), nl=False)
        click.echo("".join(f"{line}\n" for line in _own_help()), nl=False)
        return 0
    url = server or os.environ.get(SERVER_VARIABLE)
    if not url:
        raise UsageError(HOW)
    if "://" not in url:
        url = f"ssh://{url}"
    from pipe.client.run import run

    token: Any = os.environ.get(TOKEN_VARIABLE)
    return run(request, command, url, token, reconnect=reconnect)


def is_for_server(words: Sequence[str]) -> bool:
    """Whether help about this is the server's alone, as it has the server's address in it."""
    return _take_own(words)[0] == [resume_help.TOPIC]


def _own_help() -> Iterator[str]:
    yield ""
    yield "which server:"
    yield from help_row(
        "--server URL", f"ssh://USER@HOST:PORT, or https://HOST with a token in {TOKEN_VARIABLE}"
    )
    yield from help_row("", f"without it the one in {SERVER_VARIABLE}")
    yield from help_row(
        "--reconnect", "go on after a lost connection, and say what may be lost: pub, sub and pipe"
    )


def _take_own(words: Sequence[str]) -> tuple[list[str], str | None, bool]:
    """Take out what is for us, up to a ``--``."""
    rest: list[str] = []
    server: str | None = None
    reconnect = False
    left = iter(words)
    for word in left:
        if word == "--":
            rest += [word, *left]
        elif word == "--reconnect":
            reconnect = True
        elif word == "--server":
            server = next(left, None)
            if not server:
                raise UsageError("flag --server needs a value: --server URL")
        elif word.startswith("--server="):
            server = word.removeprefix("--server=")
        else:
            rest.append(word)
    return rest, server, reconnect
