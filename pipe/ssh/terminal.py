"""A client's terminal, where it asks for a pseudo-terminal (``ssh -t``; RFC 4254, section 6.2).

The client sets its terminal to raw mode then: each key comes as bytes, and a line feed only goes
down.  In a stream those bytes are bytes like others (law 1).  Where a session takes no stream from
its client, they are keys, and mean what the client's own terminal would take them for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from asyncssh import PTY_ISIG, PTY_VEOF, PTY_VINTR

from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_END = "\r\n"

STREAM_TEXTS = (
    "with -t every key is sent, Ctrl-C and Ctrl-D too; to leave, type Enter ~ .",
    "ssh keeps a ~ at the start of a line for itself; with -T or -e none it sends that too",
)
"""For whoever writes into a stream: ``~.`` is how `ssh` itself is told to go.  Of ``~~`` at the
start of a line only one arrives, and neither `ssh` nor the statuses say so."""

ENDING_SIGNALS = frozenset({"HUP", "INT", "KILL", "QUIT", "TERM"})
"""What a client may send (RFC 4254, section 6.9) that ends a program which does not care for it."""

MAX_TYPE_LENGTH = 64
"""Bytes of a terminal's type, which nobody here needs; terminfo's longest names have about 40."""

_CONTROL_C = 3
_CONTROL_D = 4
_NO_KEY = 255
"""RFC 4254, section 8: the terminal has no such key."""


class Input(Protocol):
    """Where what was typed goes: a `pipe.session.intake.Intake`."""

    def feed(self, chunk: Chunk) -> None:
        """Take it."""

    def feed_eof(self) -> None:
        """That was all."""


class Terminal:
    """The keys of one client's terminal.

    Args:
        modes: the terminal's modes, as the client has sent them; Ctrl-C and Ctrl-D where it has
            not.
    """

    def __init__(self, modes: Mapping[int, int]) -> None:
        interrupts = modes.get(PTY_ISIG, 1)
        self._interrupt = _key(modes.get(PTY_VINTR, _CONTROL_C)) if interrupts else b""
        self._end = _key(modes.get(PTY_VEOF, _CONTROL_D))

    def feed(self, chunk: Chunk, intake: Input) -> bool:
        """Hand on what was typed, up to the key that ends the input.

        Returns:
            Whether the key that interrupts was pressed; then nothing is handed on.
        """
        text = bytes(chunk.data)
        if self._interrupt and self._interrupt in text:
            return True
        end = b""
        if self._end:
            text, end, _ = text.partition(self._end)
        intake.feed(Chunk(text))
        if end:
            intake.feed_eof()
        return False


def _key(code: int) -> bytes:
    return bytes((code,)) if code < _NO_KEY else b""
