"""A stream as programs see it: a writer, a reader, or both at once, whatever carries its bytes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, Self

from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from pipe.library.ends import End
    from pipe.stream.ports import Receipt


class Link(Protocol):
    """One member's way to its topic."""

    async def send(self, data: bytes) -> None:
        """Publish bytes, once they may be.

        Raises:
            PipeError: the stream has ended; the error says how.
        """

    async def send_eof(self) -> None:
        """Everything is sent."""

    async def receive(self) -> bytes:
        """Return the next bytes of the stream; empty: it is over, and `end` says how.

        To ask for more is to say that what was returned before is dealt with.
        """

    async def wait_end(self) -> End:
        """Wait until it has ended."""

    async def abort(self) -> None:
        """Leave now.  What is unread is lost, and what has no end of file is broken."""

    def drop(self) -> None:
        """The same from wherever an object is forgotten: it cannot wait."""


MAX_CHUNK_BYTES = 256 * 1024
"""What is written at once is published in chunks of this size: a slow reader holds one at least."""


def chunks_of(data: bytes) -> Iterator[Chunk]:
    """Cut what was written at once."""
    view = memoryview(data)
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        whole = len(data) <= MAX_CHUNK_BYTES
        yield Chunk(data if whole else view[start : start + MAX_CHUNK_BYTES])


class _Stream:
    """What all of them share: they are entered once, and left."""

    def __init__(self, opener: Callable[[], Awaitable[Link]]) -> None:
        self._opener = opener
        self._opening = asyncio.Lock()  # one task may read while another one writes
        self._opened: Link | None = None

    async def _link(self) -> Link:
        if self._opened is None:
            async with self._opening:
                self._opened = self._opened or await self._opener()
        return self._opened

    async def __aenter__(self) -> Self:
        await self._link()
        return self

    async def aclose(self) -> None:
        """Leave now: what a writer has sent without an end of file is a broken stream."""
        if self._opened:
            await self._opened.abort()

    def __del__(self) -> None:
        opened: Link | None = getattr(self, "_opened", None)
        if opened:
            opened.drop()


class Writer(_Stream):
    """A publisher of a topic, entered with ``async with``.

    At the end of the block its readers get the end of file, and the block is left once they have
    everything.  If the block is left by an exception the stream breaks, and they are told.

    Attributes:
        receipt: What became of the stream; None before the end.
    """

    receipt: Receipt | None = None

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Publish bytes; while readers are missing or slow, this waits.

        Raises:
            PipeError: The stream has ended; `TimedOut`, `Broken` and others say why.
        """
        await (await self._link()).send(bytes(data))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        link = await self._link()
        try:
            if kind is None:
                await link.send_eof()
                end = await link.wait_end()
                self.receipt = end.receipt
                end.check()
        finally:
            await link.abort()


class Reader(_Stream):
    """A subscriber: an asynchronous iterator of pieces of the stream, as they come.

    It joins when it is first asked for a piece, or with ``async with``, which also leaves when the
    block is left early.  What a piece is depends on the way that it came; all of them together are
    the stream.  The iteration ends as the command would: without a word if all is well, otherwise
    with an exception after the last piece.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        link = await self._link()
        data = await link.receive()
        if data:
            return data
        (await link.wait_end()).check()
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """Read to the end of the stream, and return all of it: it has to fit into memory.

        Raises:
            PipeError: It did not end well.
        """
        return b"".join([piece async for piece in self])

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Duplex(Reader):
    """A reader that writes to the same topic, as ``pipe`` does."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Publish bytes; while readers are slow, this waits.

        Raises:
            PipeError: The stream has ended, and the error says why.
        """
        await (await self._link()).send(bytes(data))

    async def write_eof(self) -> None:
        """Write no more; go on reading, until the other writers have ended, too."""
        await (await self._link()).send_eof()
