"""A client's terminal, if it asks for a pseudo-terminal (``ssh -t``; RFC 4254, section 6.2).

The client then sets its terminal to raw mode: each key comes as bytes, and a line feed only moves
down.  In a stream those are bytes like any others (law 1).  If a session takes no stream from its
client, they are keys, and mean what they mean in the client's own terminal.
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
"""Lines for users who write a stream from a terminal: ``~.`` makes `ssh` itself quit.  Of ``~~`` at
the start of a line only one arrives, and neither `ssh` nor the statuses say so."""

ENDING_SIGNALS = frozenset({"HUP", "INT", "KILL", "QUIT", "TERM"})
"""Signals from the client (RFC 4254, section 6.9) that end a program which does not handle them."""

MAX_TYPE_LENGTH = 64
"""Bytes of a terminal's type, which is unused here; terminfo's longest names have about 40."""

_CONTROL_C = 3
_CONTROL_D = 4
_NO_KEY = 255
"""RFC 4254, section 8: the terminal has no such key."""


class Input(Protocol):
    """Where what was typed goes: a `pipe.session.intake.Intake`."""

    def feed(self, chunk: Chunk) -> None:
        """Take a chunk."""

    def feed_eof(self) -> None:
        """Take the end of the input."""


class Terminal:
    """The keys of one client's terminal.

    Args:
        modes: the terminal's modes as the client sent them; Ctrl-C and Ctrl-D by default.
    """

    def __init__(self, modes: Mapping[int, int]) -> None:
        interrupts = modes.get(PTY_ISIG, 1)
        self._interrupt = _key(modes.get(PTY_VINTR, _CONTROL_C)) if interrupts else b""
        self._end = _key(modes.get(PTY_VEOF, _CONTROL_D))

    def feed(self, chunk: Chunk, intake: Input) -> bool:
        """Pass on what was typed, up to the key that ends the input.

        Returns:
            Whether the interrupt key was pressed; then nothing is passed on.
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
