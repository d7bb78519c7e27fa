"""Command lines in the documentation: the program knows each command, option and flag."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import click
import pytest

from pipe.cli import program
from pipe.client.command import ClientCommand
from pipe.language.requests import parse

from .e2e.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS: Final = ("README.md", *(f"docs/{name}.md" for name in ("operations", "using", "events")))

LINE: Final = re.compile(
    r"^ *(?:.*[;&|(] *)?(?:runuser -u pipe -- )?(?:\S*/bin/|uvx )?"
    r"(pipe(?:-server)? (?:serve|check|user|key|token|mesh|pub|sub|ls)\b.*)$",
    re.MULTILINE,
)


def command_lines(text: str) -> Iterator[list[str]]:
    """The words of each line in a block that starts the program, up to what is the shell's."""
    blocks = re.findall(r"(?:^    .*\n)+|^```(?:sh)?\n(?:.*\n)*?```", text, re.MULTILINE)
    for block in blocks:
        for line in LINE.findall(block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            end = next((i for i, word in enumerate(words) if word in {"<", ">", "|", "&&"}), None)
            yield [word.rstrip(")") for word in words[1:end]]


CASES: Final = [
    pytest.param(words, id=f"{name}: {shlex.join(words)}"[:80])
    for name in DOCUMENTS
    for words in command_lines((ROOT / name).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("words", CASES)
def test_command_line(words: list[str]) -> None:
    """It is understood; what its values mean is not looked at."""
    context = click.Context(program, info_name="pipe")
    command: click.Command = program
    while isinstance(command, click.Group):
        _, found, words = command.resolve_command(context, words)
        assert found
        command = found
    if isinstance(command, ClientCommand):
        parse(shlex.join([str(command.name), *words]))
    else:
        command.make_context(str(command.name), words, parent=context)


def test_there_are_some() -> None:
    """The lines are found."""
    assert len(CASES) > 12
