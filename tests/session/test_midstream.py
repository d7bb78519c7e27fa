"""What readers and publishers are told in mid-stream, and what `--whole` makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pipe.settings import Lane
from tests.ssh.line import Line
from tests.ssh.messages import close, data, eof

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MUCH = b"x" * 17_000

JOINED = b"pipe: joined in mid-stream: 17,000 bytes went by before\n"
TOO_LATE = b"pipe: too late for the whole stream: 17,000 bytes went by before\n"


@pytest_asyncio.fixture
async def line() -> AsyncIterator[Line]:
    """A connection that is logged in."""
    line = Line(Lane.FAST)
    await line.wire.log_in()
    yield line
    await line.wire.finish()


async def begin(line: Line, flags: str = "") -> None:
    """Let a publisher, session 1, send 17,000 bytes to a reader, session 0."""
    await line.start(0, "sub -k film")
    await line.start(1, f"pub {flags} film")
    await line.say(data(1, MUCH))
    assert line.client.stderr(0) == b""


@pytest.mark.parametrize("command", ["sub film", "sub -k film", "pipe film"])
async def test_latecomer_is_told(line: Line, command: str) -> None:
    """Once, before it gets the rest."""
    await begin(line)
    await line.start(2, command)
    await line.say(data(1, b"rest"), eof(1))

    assert line.client.stderr(2).count(JOINED) == 1
    assert line.client.data(2) == b"rest"


@pytest.mark.parametrize("command", ["sub -c film", "sub 'f*'", "pipe -c film"])
async def test_who_is_not_told(line: Line, command: str) -> None:
    """Who wants no status text, and who reads a pattern."""
    await begin(line)
    await line.start(2, command)
    await line.say(data(1, b"rest"), eof(1))

    assert line.client.stderr(2) == b""
    assert line.client.data(2) == b"rest"


async def test_talk_has_no_beginning(line: Line) -> None:
    """Nobody is told what was said in a chat before, but who wants the whole is refused."""
    await line.start(0, "pipe tea")
    await line.start(1, "pipe tea")
    await line.say(data(1, MUCH))
    await line.start(2, "sub tea")
    await line.start(3, "sub -w tea")

    assert line.client.stderr(2) == b""
    assert (line.client.stderr(3), line.statuses(3)) == (TOO_LATE, [75])


@pytest.mark.parametrize(
    ("flags", "command"),
    [
        ("", "sub -w film"),
        ("", "sub -kwc film"),
        ("-w", "sub film"),
        ("-w", "sub -c film"),
        ("-w", "sub -w film"),
        ("-w", "pipe film"),
        ("-w", "chat film"),
        ("-w", "sub --last 1 film"),
        ("-w", "sub -k --last 2l film"),
    ],
)
async def test_latecomer_is_refused(line: Line, flags: str, command: str) -> None:
    """Where it or the publisher wants the whole: status 75, in the same words, and no byte."""
    await begin(line, flags)
    await line.start(2, command)
    await line.say(close(2))
    await line.say(data(1, b"rest"), eof(1))

    assert (line.client.stderr(2), line.statuses(2)) == (TOO_LATE, [75])
    assert line.client.data(2) == b""
    assert line.ended("subscribe" if "sub" in command else "pipe")["late"] == 1
    assert line.statuses(1) == [0]


async def test_who_is_there_from_the_first_byte(line: Line) -> None:
    """It gets the whole, though the publisher has come and waits for more."""
    await line.start(0, "sub -w film")
    await line.start(1, "pub -w -m 2 film")
    await line.start(2, "sub -w film")
    await line.say(data(1, MUCH), eof(1), close(0), close(2))

    assert line.client.data(0) == line.client.data(2) == MUCH
    assert [line.statuses(number) for number in range(3)] == [[0], [0], [0]]


async def test_next_stream_may_be_had_whole(line: Line) -> None:
    """When the one before has ended, though a reader of it stays."""
    await begin(line, "-w")
    await line.say(eof(1))
    await line.start(2, "sub -w film")
    await line.start(3, "pub -w film")
    await line.say(data(3, b"whole"), eof(3), close(2))

    assert line.client.data(2) == b"whole"
    assert line.statuses(2) == [0]


async def test_pattern_cannot_be_had_whole(line: Line) -> None:
    """A pattern has no beginning: a usage error."""
    await line.start(0, "sub -w 'f*'")

    assert line.statuses(0) == [64]
    assert line.client.stderr(0) == b"pipe: --whole is for one topic, not for a pattern\n"


async def test_publisher_that_waits_for_another_reader(line: Line) -> None:
    """It says what the one before has had, once for each gap; that it goes on, too."""
    await begin(line)
    await line.say(close(0))
    gap = b"pipe: no subscriber left after 17,000 bytes; waiting for another, up to 30d\n"
    assert line.client.stderr(1).endswith(gap)
    await line.start(2, "sub film")
    assert line.client.stderr(1).endswith(b"a subscriber is here, sending\n")
    await line.say(close(2))
    assert line.client.stderr(1).count(gap) == 2
    assert line.client.stderr(2) == JOINED
    assert not line.closed(1)


async def test_publisher_that_has_sent_nothing(line: Line) -> None:
    """Nobody has missed anything: it waits as at first, also for a whole stream."""
    await line.start(0, "sub -k film")
    await line.start(1, "pub -w film")
    await line.say(close(0))
    assert line.client.stderr(1).endswith(b"pipe: waiting for 1 subscriber, up to 30d\n")
    await line.start(2, "sub -w film")
    await line.say(data(1, b"whole"), eof(1), close(2))

    assert (line.statuses(1), line.statuses(2)) == ([0], [0])


@pytest.mark.parametrize("flags", ["-w", "-wc"])
async def test_whole_stream_breaks(line: Line, flags: str) -> None:
    """When nobody is left who has had it from the beginning, with 74 and a line that says why."""
    await begin(line, flags)
    await line.start(2, "sub -k 'f*'")
    await line.say(close(0))
    await line.say(data(1, b"rest"))

    assert line.client.stderr(1).endswith(
        b"pipe: no subscriber left after 17,000 bytes, and with --whole nobody else may have the"
        b" rest\n"
    )
    assert line.statuses(1) == [74]
    assert line.ended("publish") == {}
    await line.say(close(1))
    assert line.ended("publish") == {"broken": 1}
    assert line.client.data(2) == b""


async def test_whole_stream_goes_on_with_one(line: Line) -> None:
    """A reader that leaves early is the publisher's news, and no harm to the others."""
    await line.start(0, "sub film")
    await line.start(1, "pub -w -m 2 film")
    await line.start(2, "sub film")
    await line.say(data(1, MUCH))
    await line.say(close(0))
    await line.say(data(1, b"rest"), eof(1))
    await line.say(close(2))

    assert line.client.data(2) == MUCH + b"rest"
    assert (line.statuses(1), line.statuses(2)) == ([0], [0])
    assert b"to 2 subscribers, 1 of them left early" in line.client.stderr(1)
