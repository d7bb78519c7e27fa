"""The tutorial word for word: each step's blocks, typed into terminals of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from .desks import RECIPES, fenced_blocks, indented_blocks, section
from .processes import HELD, statuses
from .server import ROOT, Server, Status

if TYPE_CHECKING:
    from .desks import Desks

pytestmark = pytest.mark.e2e

TUTORIAL: Final = (ROOT / "docs" / "tutorial.md").read_text()


def step(title: str) -> tuple[list[str], list[str]]:
    """The blocks of a step that are typed, and those that show what comes of it."""
    text = section(title, TUTORIAL)
    return fenced_blocks(text), fenced_blocks(text, "text")


def test_start_a_server() -> None:
    """The server is started as the README does it, and has the same name in `~/.ssh/config`."""
    serve, config = indented_blocks(section("Start a server", TUTORIAL))
    [readmes] = indented_blocks(section(RECIPES).split("### 1.")[0])

    assert (serve, config) == ("make serve\n", readmes)


@pytest.mark.parametrize(
    "title", ["Your first stream", "A file that arrives whole", "Wait for something"]
)
@pytest.mark.parametrize("reader_first", [True, False])
def test_reader_and_writer(server: Server, desks: Desks, title: str, *, reader_first: bool) -> None:
    """The reader prints what the tutorial says, whoever starts first, and both end well."""
    (read, write), (shown, *receipt) = step(title)
    here, there = desks.terminal(), desks.terminal()
    if reader_first:
        reader = there.start(read)
        server.wait_sessions(subscribe=1)
        writer = here.start(write)
    else:
        writer = here.start(write)
        server.wait_waiting()
        reader = there.start(read)

    assert statuses(reader, writer) == [Status.OK] * 2
    assert reader.output == shown
    for line in receipt:
        assert line in writer.text


def test_when_it_goes_wrong(server: Server, desks: Desks) -> None:
    """Ctrl-C at the writer leaves a reader that knows of it."""
    (read, write), [shown] = step("When it goes wrong")
    half, _ = shown.splitlines(keepends=True)
    reader = desks.terminal().start(read)
    server.wait_sessions(subscribe=1)
    writing = desks.terminal()
    writing.start(write)
    reader.wait_stdout(len(half))
    writing.control_c()

    assert reader.wait() == Status.OK  # of its `echo`
    assert reader.output == shown


def test_one_writer_many_readers(server: Server, desks: Desks) -> None:
    """Both readers print what the writer sends."""
    (read, write), _ = step("One writer, many readers")
    readers = [desks.terminal().start(read) for _ in range(2)]
    server.wait_sessions(subscribe=2)
    writer = desks.terminal().start(write)

    assert statuses(writer, *readers) == [Status.OK] * 3
    first, second = (reader.output for reader in readers)
    assert first == second
    assert first


def test_see_what_is_there(server: Server, desks: Desks) -> None:
    """The list has the topic that somebody reads."""
    (read, look), _ = step("See what is there")
    desks.terminal().start(read, HELD)
    server.wait_sessions(subscribe=1)
    looking = desks.terminal().start(look)

    assert looking.wait() == Status.OK
    assert "news" in looking.output
