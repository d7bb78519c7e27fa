"""Bounds the answers that a client asks for and does not read.

Streams stop when the transport is full or keys are exchanged.  Answers to the client's own requests
do not, as the protocol requires each of them, so a client that keeps asking and reads nothing would
fill the memory.  It is cut off:

- when more than ``most`` bytes are unsent, or wait for new keys;
- when answers wait and the client has read nothing for ``patience``.

A slow reader is left alone: only its stream waits for it, and the stream has a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Ending

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

UNNOTICED_BYTES = 64 * 1024
"""This much in answers may wait before the time counts.  A normal client has only a few at any
time, such as those to its keepalives; one that asks for more does so on purpose."""

ANSWER_BYTES = 256
"""Memory that an answer waiting for new keys takes besides its data."""


class Answers:
    """The answers that one blocked connection owes; made anew each time it is blocked.

    Args:
        loop: for its timer.
        unsent: returns how many bytes the transport holds.
        cut: called at most once.
        most: bytes.
        patience: seconds.
    """

    __slots__ = ("_cut", "_loop", "_most", "_patience", "_queued", "_timer", "_unsent")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        unsent: Callable[[], int],
        cut: Callable[[Ending], None],
        most: int,
        patience: float,
    ) -> None:
        self._loop = loop
        self._unsent = unsent
        self._cut: Callable[[Ending], None] | None = cut
        self._most = most
        self._patience = patience
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, size: int, *, deferred: bool) -> None:
        """Add an answer of ``size`` bytes that waits for the transport, or for keys if deferred."""
        self._queued += size + ANSWER_BYTES
        if (self._queued if deferred else self._unsent()) > self._most:
            self._end(Ending.OVERFLOW)
        elif self._queued > UNNOTICED_BYTES and self._timer is None:
            self._watch()

    def close(self) -> None:
        """Stop, as the connection is no longer blocked, or is gone."""
        self._cut = None
        if self._timer:
            self._timer.cancel()

    def _watch(self) -> None:
        self._timer = self._loop.call_later(self._patience, self._look, self._unsent())

    def _look(self, before: int) -> None:
        if self._unsent() >= before > 0:
            self._end(Ending.UNREAD)
        else:
            self._watch()

    def _end(self, ending: Ending) -> None:
        cut, self._cut = self._cut, None
        if cut:
            # Not from here: asyncssh may be in the middle of handling the client's packet.
            self._loop.call_soon(cut, ending)
