"""The command line: ``pipe serve``, ``check``, ``user`` and others, and the commands of a server.

Errors end as one line on stderr and a status from `pipe.errors`, never as a traceback.  A command
imports what it needs when it runs, so that ``pipe --help`` answers at once; for the same reason the
options of `Settings` are made on demand.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete, shell_complete

from pipe import __version__
from pipe.cli.accounts import key, token, user
from pipe.cli.mesh import mesh
from pipe.cli.options import SettingsCommand
from pipe.errors import Outcome, PipeError, UsageError
from pipe.language.names import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipe.settings import Settings

STATUS_INTERRUPTED = 130
"""128 plus the number of SIGINT, as shells report it."""

STATUS_BROKEN_PIPE = 141
"""128 plus the number of SIGPIPE: how ``ls`` ends in ``ls | head -1``."""

UNWRITABLE = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}
"""What a write to a file fails with that was opened for us."""

HELP_WIDTH = 100
"""The most columns of a help page, if the terminal has them."""

COMPLETION_VARIABLE = "_PIPE_COMPLETE"
"""By this a shell asks what may come next, in the way of click."""

WORKER_VARIABLE = "_PIPE_WORKER"
"""By this the hub tells a process that it is a worker, and which descriptor is its socket."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: Without the program's name; default: those of the process.

    Returns:
        The exit status.
    """
    _complete_streams()
    try:
        # Not `program.main`: it handles Ctrl-C and a closed stdout in its own way.
        if instruction := os.environ.get(COMPLETION_VARIABLE):
            return shell_complete(program, {}, "pipe", COMPLETION_VARIABLE, instruction)
        if os.environ.get(WORKER_VARIABLE):
            from pipe.hub.worker import run as run_worker

            return run_worker(int(os.environ.pop(WORKER_VARIABLE)))
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
        return _fail(error.message, error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        _discard_stdout()
        return STATUS_BROKEN_PIPE
    except OSError as error:
        if error.filename is not None or error.errno not in UNWRITABLE:
            raise
        _discard_stdout()
        return _fail(f"cannot write to stdout: {error.strerror}", Outcome.BROKEN.status)
    return result if isinstance(result, int) else 0


class Program(click.Group):
    """Its own commands, and after them those of a server, which are described elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All commands."""
        from pipe.client.command import client_commands

        return [*self.commands, *client_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them."""
        if found := super().get_command(ctx, cmd_name):
            return found
        from pipe.client.command import client_commands

        return client_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name, as the server does."""
        if not (args[0].startswith("-") or self.get_command(ctx, args[0])):
            from pipe.language.flags import did_you_mean

            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise UsageError(
                f"unknown command {quoted(args[0])}{hint} 'pipe --help' lists the commands"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them under two headings."""
        names = self.list_commands(ctx)
        for heading, chosen in (
            ("To run a server", names[: len(self.commands)]),
            ("To use one, named by --server URL or PIPE_SERVER", names[len(self.commands) :]),
        ):
            commands = ((name, self.get_command(ctx, name)) for name in chosen)
            rows = [(name, one.get_short_help_str(limit=70)) for name, one in commands if one]
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(
    cls=Program,
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
        from pipe.mesh.configuration import read_mesh

        read_mesh(settings)
    if settings.workers > 1 or settings.mesh:
        from pipe.hub import run as run_hub

        return run_hub(settings)
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
@click.option("--server", metavar="URL", help="Print that of a server: ssh://USER@HOST:PORT.")
def version(server: str | None) -> int:
    """Print the version."""
    if server is None:
        click.echo(f"pipe {__version__}")
        return 0
    from pipe.client.command import run_words

    return run_words(["version", "--server", server])


@program.command("help", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, metavar="[COMMAND]")
def explain(words: tuple[str, ...]) -> int:
    """Explain a command, or list them all.

    help resume asks the server for functions for a shell, which go on after a lost connection.
    """
    from pipe.client.command import is_for_server, run_words

    return run_words(["help", *words]) if is_for_server(words) else main([*words, "--help"])


for group in (mesh, user, key, token):
    program.add_command(group)


def _fail(message: str, status: int = Outcome.USAGE.status) -> int:
    """Print an error, one line unless several settings are bad, and return its status."""
    for line in message.splitlines():
        click.echo(f"pipe: {line}", err=True)
    return status


def _complete_streams() -> None:
    """Open what a shell has closed (``<&-``), so that no file or connection gets its number.

    stdin cannot be read then, and stdout not be written to.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # this gets the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _discard_stdout() -> None:
    """Let the interpreter flush to nowhere when it ends, instead of complaining."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
