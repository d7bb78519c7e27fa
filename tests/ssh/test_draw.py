"""The line that a channel draws over itself on stderr."""

from __future__ import annotations

from typing import Any

import pytest

from pipe.rights.callers import Caller
from pipe.ssh.channel import Channel


class Wire:
    """In place of asyncssh's channel and its connection."""

    def __init__(self) -> None:
        self.text = ""
        self.unsent = 0
        self.blocked = self.exchanges_keys = self.closing = False

    def write_stderr(self, data: bytes) -> None:
        """Keep it."""
        self.text += data.decode()

    def get_write_buffer_size(self) -> int:
        """What waits for the client's window."""
        return self.unsent

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self.closing


@pytest.fixture
def wire() -> Wire:
    """A connection with one channel."""
    return Wire()


@pytest.fixture
def channel(wire: Wire) -> Channel:
    """The channel on it."""
    parts: Any = wire
    channel = Channel(parts, parts, Caller("alice", "SHA256:a", False))
    channel._channel = parts  # noqa: SLF001 - as `connection_made` does
    return channel


def test_shorter_line_covers_the_longer_one(channel: Channel, wire: Wire) -> None:
    """Blanks take the place of what stood there, and only the last line ends."""
    channel.draw("long", last=False)
    channel.draw("it", last=False)
    channel.draw("end", last=True)

    assert wire.text == "\rlong\rit  \rend\n"


def test_other_lines_begin_anew(channel: Channel, wire: Wire) -> None:
    """What is told does not stand behind the drawn line."""
    channel.draw("1 B", last=False)
    channel.tell("here")
    channel.draw("2 B", last=False)

    assert wire.text == "\r1 B\npipe: here\n\r2 B"


@pytest.mark.parametrize("why", ["unsent", "blocked", "exchanges_keys"])
def test_nothing_queues_up(channel: Channel, wire: Wire, why: str) -> None:
    """While the client or its connection takes nothing, only the last line is written."""
    setattr(wire, why, 1)
    channel.draw("1 B", last=False)
    assert wire.text == ""

    channel.draw("2 B", last=True)
    assert wire.text == "\r2 B\n"


def test_closed_channel(channel: Channel, wire: Wire) -> None:
    """Nothing is written to a client that is gone."""
    wire.closing = True
    channel.draw("1 B", last=True)

    assert wire.text == ""
