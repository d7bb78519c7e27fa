"""Writes the manual pages pipe(1) and pipe-serve(1), from the descriptions that the help has.

python docs/man.py [FOLDER]      # default: build/man
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipe import __version__
from pipe.cli import program
from pipe.cli.options import SettingsCommand
from pipe.errors import Outcome
from pipe.limits.bounds import Limits
from pipe.settings import CONFIG_VARIABLE, DATABASE_NAME, ENVIRONMENT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER = Path(__file__).resolve().parent.parent / "build" / "man"

STATUSES = (
    (0, "All went well."),
    (Outcome.USAGE.status, "A command, option or setting that cannot be understood or used."),
    (Outcome.UNAVAILABLE.status, "A port, folder, file or database that cannot be used."),
    (130, "Ctrl-C."),
    (141, "Whoever read the output is gone."),
)


def pages() -> dict[str, str]:
    """Make all pages: what is in each, by the name of its file."""
    return {"pipe.1": _page_of_all(), "pipe-serve.1": _page_of_serve()}


def plain(text: str) -> str:
    """Write text so that roff prints it as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = escaped.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)


def _page_of_all() -> str:
    context = _context_of_all()
    lines = [
        *_head("PIPE", "pipe", str(program.help)),
        *_synopsis([("pipe", program.collect_usage_pieces(context))]),
        ".SH DESCRIPTION",
        plain(
            "The server lets its users publish to topics and subscribe to them with any SSH client:"
            " ssh HOST pub TOPIC on one end, ssh HOST sub TOPIC on the others. This program runs"
            " it, and keeps its accounts. What users may write is told by: ssh HOST help."
        ),
        ".SH COMMANDS",
    ]
    for command in _commands(program, context):
        lines += _describe(command)
    lines += [".SH OPTIONS", *_options(program, context)]
    lines += [
        *_statuses(),
        *_environment(),
        *_files(),
        *_see_also("pipe-serve", "ssh"),
    ]
    return "\n".join(lines) + "\n"


def _page_of_serve() -> str:
    command = program.commands["serve"]
    context = click.Context(command, info_name="serve", parent=_context_of_all())
    summary, _, rest = str(command.help).partition("\n\n")
    lines = [
        *_head("PIPE-SERVE", "pipe-serve", summary),
        *_synopsis([("pipe serve", command.collect_usage_pieces(context))]),
        ".SH DESCRIPTION",
        *_paragraphs(f"{summary}\n\n{rest}"),
        ".SH OPTIONS",
        *_options(command, context),
        *_statuses(),
        *_environment(),
        *_files(),
        *_see_also("pipe", "ssh", "systemd.service:5"),
    ]
    return "\n".join(lines) + "\n"


def _context_of_all() -> click.Context:
    """As `pipe` itself makes it, so that options have all their names."""
    return click.Context(program, info_name="pipe", **program.context_settings)


def _head(title: str, name: str, summary: str) -> Iterator[str]:
    yield f'.TH {plain(title)} 1 "" "pipe {plain(__version__)}" "User Commands"'
    yield ".SH NAME"
    yield f"{plain(name)} \\- {plain(_sentence(summary))}"


def _synopsis(usages: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for name, pieces in usages:
        yield f"\\fB{plain(name)}\\fP {plain(' '.join(pieces))}"


def _commands(group: click.Group, parent: click.Context) -> Iterator[click.Context]:
    """Yield the context of each command, those of groups in their place."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from _commands(command, context)
        else:
            yield context


def _describe(context: click.Context) -> Iterator[str]:
    command = context.command
    yield ".TP"
    pieces = plain(" ".join(command.collect_usage_pieces(context)))
    yield f"\\fB{plain(context.command_path)}\\fP {pieces}"
    first, *others = list(_paragraphs(str(command.help)))
    yield first
    if others:
        yield ".RS"
        yield from others
        yield ".RE"
    if isinstance(command, SettingsCommand) and not command.setting_names:
        yield ".RS"
        yield ".PP"
        yield plain("The options are those of pipe-serve(1).")
        yield ".RE"
    else:
        yield ".RS"
        yield from _options(command, context, without="help")
        yield ".RE"


def _options(command: click.Command, context: click.Context, *, without: str = "") -> Iterator[str]:
    """Yield a paragraph for each option, and a heading before the first limit."""
    limits = False
    in_parts = sorted(command.get_params(context), key=lambda one: one.name in Limits.model_fields)
    for option in in_parts:
        record = option.get_help_record(context)
        if record and isinstance(option, click.Option) and option.name != without:
            if option.name in Limits.model_fields and not limits:
                limits = True
                yield ".SS Limits"
            yield ".TP"
            yield f"\\fB{plain(record[0])}\\fP"
            yield plain(record[1])


def _paragraphs(text: str) -> Iterator[str]:
    """Yield text line by line, with a request before each paragraph but the first."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield plain(" ".join(paragraph.split()))


def _statuses() -> Iterator[str]:
    yield '.SH "EXIT STATUS"'
    for status, text in STATUSES:
        yield from (".TP", f"\\fB{status}\\fP", plain(text))


def _environment() -> Iterator[str]:
    yield ".SH ENVIRONMENT"
    yield from (".TP", f"\\fB{plain(CONFIG_VARIABLE)}\\fP")
    yield plain("The file of settings, if there is no --config.")
    yield from (".TP", f"\\fB{plain(ENVIRONMENT_PREFIX)}\\fP\\fINAME\\fP")
    yield plain("A setting, as PIPE_DATA_DIR for --data-dir; an option goes before it.")


def _files() -> Iterator[str]:
    yield ".SH FILES"
    for name, text in (
        ("host_key", "In the data folder: the private key that clients know the server by."),
        ("web_key", "There too: the key that secrets of webhooks are derived from."),
        (DATABASE_NAME, "There too: the accounts, unless --database-url says otherwise."),
    ):
        yield from (".TP", f"\\fI{plain(name)}\\fP", plain(text))


def _see_also(*names: str) -> Iterator[str]:
    yield '.SH "SEE ALSO"'
    places = (name.partition(":") for name in names)
    yield ",\n".join(f".BR {plain(name)} ({section or 1})" for name, _, section in places).replace(
        "),\n", ") ,\n"
    )


def _sentence(text: str) -> str:
    """The first sentence, as a page's name line has it: without the full stop."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def main() -> None:
    """Write the pages."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{folder / name}\n")


if __name__ == "__main__":
    main()
