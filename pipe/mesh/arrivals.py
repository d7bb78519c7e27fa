"""Connections at a mesh's port, until it is known whose they are.

Anybody may connect there, so what is done for strangers is bounded:

- Each has `ARRIVAL_SECONDS` for TLS and its greeting together, however it divides them.
- There are at most `MOST`, and `MOST_OF_SOURCE` from one address or IPv6 /64.  Where there is no
  room a newcomer takes the place of the oldest: of those from its own address if these are as many
  as may be, else of those from the address that has most.  Workers greet within milliseconds, so
  who connects and says nothing keeps none of them out.
- Of an address from which `MOST_FAILED` have come to nothing within a second no more are heard
  until that is over: TLS with each of them would keep this process from all else.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from pipe.limits.listener import Listener
from pipe.limits.sources import source_of
from pipe.mesh.pulse import SILENCE_SECONDS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = structlog.get_logger()

ARRIVAL_SECONDS = SILENCE_SECONDS

MOST = 128
MOST_OF_SOURCE = 32
"""A machine's workers open one link each, and each stranger costs some 100 KiB, most of it TLS."""


MOST_FAILED = 32
"""Strangers of one address in a second; TLS with each takes up to some milliseconds."""


class _Arrival:
    """One connection."""

    __slots__ = ("connection", "source", "timer")

    timer: asyncio.TimerHandle

    def __init__(self, connection: socket.socket, source: str) -> None:
        self.connection = connection
        self.source = source


class Arrivals:
    """All of them.

    Args:
        context: of TLS, which asks for a certificate.
        make: makes what a connection is for; it calls what it is given with True once it is known
            whose it is, and with False if it is over before that.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make: Callable[[Callable[[bool], None]], asyncio.BufferedProtocol],
    ) -> None:
        self._context = context
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._listener = Listener(self._welcome)
        self._waiting: dict[str, dict[_Arrival, None]] = {}  # by source, the oldest first
        self._failed: Counter[str] = Counter()  # by source, within this second
        self._second = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def listen(self, host: str, port: int) -> int:
        """Accept connections, and return the port.

        Raises:
            OSError: the place cannot be had.
        """
        return await self._listener.start(host, port)

    async def close(self) -> None:
        """Accept no more, and end those that are not known yet."""
        self._listener.close()
        for crowd in list(self._waiting.values()):
            for arrival in list(crowd):
                self._turn_away(arrival)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _welcome(self, connection: socket.socket, address: str) -> None:
        source = source_of(address)
        if self._has_failed(source):
            connection.close()
            return
        self._make_room(source)
        arrival = _Arrival(connection, source)
        arrival.timer = self._loop.call_later(ARRIVAL_SECONDS, self._turn_away, arrival)
        self._waiting.setdefault(source, {})[arrival] = None
        task = self._loop.create_task(self._serve(arrival))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _has_failed(self, source: str) -> bool:
        """Whether too many from there have come to nothing within this second."""
        second = int(self._loop.time())
        if second != self._second:
            self._second = second
            self._failed.clear()
        return self._failed[source] >= MOST_FAILED

    def _make_room(self, source: str) -> None:
        crowd = self._waiting.get(source, {})
        if len(crowd) < MOST_OF_SOURCE:
            if len(self) < MOST:
                return
            crowd = max(self._waiting.values(), key=len)
        self._turn_away(next(iter(crowd)))

    async def _serve(self, arrival: _Arrival) -> None:
        """Speak TLS."""
        protocol = self._make(lambda known: self._settle(arrival, known=known))
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                arrival.connection,
                ssl=self._context,
                ssl_handshake_timeout=ARRIVAL_SECONDS,
            )
        except OSError as error:  # ssl.SSLError is one
            log.debug("link not begun", address=arrival.source, error=str(error))
            arrival.connection.close()
            self._settle(arrival, known=False)

    def _turn_away(self, arrival: _Arrival) -> None:
        """End a connection: TLS is told that nothing comes any more, whatever it waits for."""
        self._settle(arrival, known=False)
        log.debug("link not begun", address=arrival.source, error="it did not greet in time")
        with contextlib.suppress(OSError):
            arrival.connection.shutdown(socket.SHUT_RDWR)

    def _settle(self, arrival: _Arrival, *, known: bool) -> None:
        """It is a stranger no longer, or over."""
        arrival.timer.cancel()
        crowd = self._waiting.get(arrival.source, {})
        if arrival in crowd:
            del crowd[arrival]
            if not known:
                self._failed[arrival.source] += 1
            if not crowd:
                del self._waiting[arrival.source]
