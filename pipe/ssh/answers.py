"""Answers that a client asks for and does not read: the one thing that may pile up for it.

Streams stop where the transport is full or keys are exchanged.  Answers to the client's own
requests do not, as the protocol wants each of them; so a client that asks on and on and reads
nothing would fill the memory.  It is cut off:

- when more than ``most`` bytes are unsent, or wait for new keys;
- when answers wait and not a byte has been read for ``patience``.

A slow reader is left alone: what waits for it is its stream, and the stream has a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Ending

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

UNNOTICED_BYTES = 64 * 1024
"""So much in answers may wait without a look at the time.  A client in order has only a few at any
time, such as to its keepalives; one that asks for this much knows what it does."""

ANSWER_BYTES = 256
"""What an answer that waits for new keys takes in memory beside its data."""


class Answers:
    """What one blocked connection has been asked for; made anew each time that it is blocked.

    Args:
        loop: for its timer.
        unsent: how many bytes the transport holds.
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
        """One more waits, with ``size`` bytes: for the transport, or ``deferred`` for new keys."""
        self._queued += size + ANSWER_BYTES
        if (self._queued if deferred else self._unsent()) > self._most:
            self._end(Ending.OVERFLOW)
        elif self._queued > UNNOTICED_BYTES and self._timer is None:
            self._watch()

    def close(self) -> None:
        """The connection is blocked no more, or gone."""
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
            # Not from inside: asyncssh may be in the middle of handling the client's packet.
            self._loop.call_soon(cut, ending)
