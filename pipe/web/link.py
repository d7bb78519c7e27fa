"""A request's stream, as its handler sees it: as any program does, through `pipe.library`.

A handler has a `Writer`, `Reader` or `Duplex`, and the stream's end as an exception, as in
`pipe.Broker`.  What is behind it here counts more exactly: a piece is written when the transport
has written it, and what a client sends is read when the session wants it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Self

from pipe.errors import PipeError
from pipe.library.streams import chunks_of
from pipe.stream.chunks import CHUNK_COST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from pipe.language.requests import Request
    from pipe.library.ends import End
    from pipe.stream.chunks import Chunk
    from pipe.web.session import Exchange

PROOF_AFTER_SECONDS = 1.0
"""A publisher that has waited for so long may have gone, without a word."""

TURN_SECONDS = 0.002
"""An upload's turn of the event loop, however much of it has come."""


class WebLink:
    """The way of one request to its stream: a `pipe.library.streams.Link`.

    Args:
        exchange: not yet started.
        wanted: what it is for.
        window: bytes that are taken of the client before they are wanted, so that it can be heard.
    """

    __slots__ = (
        "_ahead",
        "_exchange",
        "_in_hand",
        "_port",
        "_service",
        "_turn_ends",
        "_wanted",
        "_window",
    )

    def __init__(self, exchange: Exchange, wanted: Request, window: int = 0) -> None:
        self._exchange = exchange
        self._wanted = wanted
        self._port = exchange.port
        self._service = exchange.parts.service
        self._window = window
        self._port.reads_ahead = bool(window)
        self._ahead = 0  # bytes that were sent since more was wanted
        self._in_hand = 0  # bytes that the handler has, and has not come back for
        self._turn_ends = time.monotonic() + TURN_SECONDS

    async def open(self) -> Self:
        """Begin to serve."""
        self._exchange.start(self._wanted)
        return self

    async def wait_ready(self) -> bool:
        """Wait until the session wants more of the client.

        Returns:
            Whether it ever will.

        Raises:
            ConnectionResetError: the client is gone.
        """
        port, loop = self._port, asyncio.get_running_loop()
        await self._give_way()
        if port.reading:
            return not port.over
        paused_at = loop.time()
        wanted: bool | None = None
        while wanted is None:
            try:
                async with asyncio.timeout(self._service.settings.keepalive_interval):
                    wanted = await port.wait_reading()
            except TimeoutError:
                if self._exchange.request.content.total_bytes:
                    await self._exchange.prove_alive(sparing=1)
        waited = loop.time() - paused_at >= PROOF_AFTER_SECONDS
        if not (wanted and waited and self._exchange.request.content.total_bytes):
            return wanted
        await self._exchange.prove_alive()
        return await port.wait_reading()

    async def _give_way(self) -> None:
        """Let others have their turn: aiohttp parses what has come without ever waiting."""
        if self._service.turns.spent or time.monotonic() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + TURN_SECONDS

    async def send(self, data: bytes) -> None:
        """Publish bytes as soon as the session wants them.

        Raises:
            PipeError: it has ended.
            ConnectionResetError: the client is gone.
        """
        for chunk in chunks_of(data):
            if self._port.reading:
                self._ahead = 0
            if self._ahead >= self._window and not await self.wait_ready():
                (await self.wait_end()).check()
                return
            if not self._port.reading:
                self._ahead += chunk.size + CHUNK_COST
            self._deliver(chunk)

    def _deliver(self, chunk: Chunk) -> None:
        turns = self._service.turns
        started, used = time.monotonic(), turns.used
        self._port.deliver(chunk)
        turns.use(time.monotonic() - started, used)

    async def send_eof(self) -> None:
        """The client has sent everything."""
        if not self._exchange.end:
            self._exchange.session.feed_eof()

    async def receive(self) -> bytes:
        """Return what is to be written next; empty: that was all.

        What was returned before is with the transport by now, and counts once that has written it.
        """
        port = self._port
        if self._in_hand:
            port.handed(self._in_hand)
            self._in_hand = 0
            await self._drain()
        while not (chunk := port.pop()):
            if port.unsent:
                await self._drain()
            elif port.over:
                return b""
            else:
                await port.bell.wait()
        data = chunk.data if port.reads_ahead else port.join(chunk)
        self._in_hand = len(data)
        return data  # type: ignore[return-value]  # or a memoryview, which a transport takes as well

    async def _drain(self) -> None:
        await self._exchange.request.writer.drain()
        self._port.drained()

    async def wait_end(self) -> End:
        """Wait until it has ended."""
        return await self._exchange.wait_end()

    async def abort(self) -> None:
        """Leave now, unless all was said."""
        self._exchange.leave()

    def drop(self) -> None:
        """Nothing: a handler always leaves."""

    async def while_open(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what a stream asks of its client, as long as there is a session.

        An error that it raises ends the session.
        """
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._port.bell.ring())
        try:
            while not (self._exchange.end or task.done()):
                await self._port.bell.wait()
            if task.done():
                task.result()
        except PipeError as error:
            if not self._exchange.end:
                self._exchange.session.cut(error.outcome, error.message)
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def beating(seconds: float, beat: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do something now and then beside a stream: proxies give up on the silent.

    It takes no turn of whoever reads the stream: aiohttp has one future for all that wait until
    a transport has room, so none of them may be cancelled for a beat.
    """

    async def go_on() -> None:
        with contextlib.suppress(ConnectionError):  # the handler is told
            while True:
                await asyncio.sleep(seconds)
                await beat()

    task = asyncio.get_running_loop().create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
