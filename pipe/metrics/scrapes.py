"""The HTTP server behind ``metrics-port``: only as much HTTP as a scrape needs.

It runs on the event loop, without threads, and its clients can cost the streams little:

- At most `MAX_CONNECTIONS` are open; one more replaces the oldest.
- Each has one request with a head of at most `MAX_HEAD_BYTES`, and `PATIENCE_SECONDS` from the
  first byte to the last.
- All waiting requests share one snapshot, with a rest between snapshots: `REST_FACTOR`.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import structlog
from prometheus_client.exposition import choose_encoder, gzip_accepted

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

log = structlog.get_logger()

PATH = "/metrics"

MAX_CONNECTIONS = 16
"""Prometheus needs one; this leaves room for a second, a health check and somebody's browser."""

MAX_HEAD_BYTES = 8192
"""As in common web servers; Prometheus's own requests take 300 bytes."""

PATIENCE_SECONDS = 5.0
"""For one request and its answer; Prometheus gives up after 10 s by default."""

REST_FACTOR = 10
"""After each snapshot comes a rest this many times as long, so that endless scrapes take less than
a tenth of the event loop."""

BACKLOG = 32

_END_OF_HEAD = b"\r\n\r\n"


class ScrapeServer:
    """Answers ``GET /metrics``.

    Args:
        registry: the figures.
        gather: brings them there from elsewhere, and then calls what it is given; None: they are
            there.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        gather: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._registry = registry
        self._gather = gather
        self._loop = asyncio.get_running_loop()
        self.port = 0  # set once it listens
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}  # the oldest first
        self._waiting: dict[_Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None  # set while requests wait
        self._rested = 0.0  # loop time when the rest is over

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be used.
        """
        self._server = await self._loop.create_server(
            lambda: _Connection(self, self._loop), host, port, backlog=BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop answering."""
        if self._server:
            self._server.close()
        if self._timer:
            self._timer.cancel()
        for connection in list(self._connections):
            connection.abort()

    # -- what connections tell --------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        """Add a connection, and drop the oldest if there are too many."""
        self._connections[connection] = None
        if len(self._connections) > MAX_CONNECTIONS:
            next(iter(self._connections)).abort()

    def closed(self, connection: _Connection) -> None:
        """Remove a connection that is gone."""
        self._connections.pop(connection, None)
        self._waiting.pop(connection, None)

    def wants_figures(self, connection: _Connection) -> None:
        """Answer it with the next snapshot."""
        self._waiting[connection] = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._rested, self._take)

    def _take(self) -> None:
        if self._gather:
            self._gather(self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        """Take one snapshot, and write it in each format that a client wants."""
        self._timer = None
        waiting, self._waiting = self._waiting, {}
        started = time.monotonic()
        bodies: dict[tuple[str, bool], bytes] = {}
        for connection in waiting:
            encode, kind = choose_encoder(connection.header("accept"))
            packed = gzip_accepted(connection.header("accept-encoding"))
            try:
                if (kind, False) not in bodies:
                    bodies[kind, False] = encode(self._registry)
                if (kind, packed) not in bodies:
                    bodies[kind, packed] = gzip.compress(bodies[kind, False])
            except Exception:
                log.exception("cannot give metrics")
                connection.answer(HTTPStatus.INTERNAL_SERVER_ERROR)
                continue
            headers = {"Content-Type": kind}
            if packed:
                headers["Content-Encoding"] = "gzip"
            connection.answer(HTTPStatus.OK, bodies[kind, packed], headers)
        took = time.monotonic() - started
        self._rested = self._loop.time() + REST_FACTOR * took


class _Connection(asyncio.Protocol):
    """One connection, for one request."""

    def __init__(self, server: ScrapeServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head: bytearray | None = bytearray()  # until it is complete
        self._without_body = False
        self._headers: dict[str, str] = {}

    def header(self, name: str) -> str:
        """A header of the request, or an empty string."""
        return self._headers.get(name, "")

    def abort(self) -> None:
        """Close it, whatever is under way."""
        if self._transport:
            self._transport.abort()
        self._server.closed(self)

    # -- what the transport tells -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and start the timeout."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._loop.call_later(PATIENCE_SECONDS, self.abort)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note that it is gone."""
        self._transport = None
        if self._timer:
            self._timer.cancel()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Take more of the request's head; ignore what follows it."""
        if self._head is None:
            return
        self._head += data
        head, end, _ = self._head.partition(_END_OF_HEAD)
        if len(head) > MAX_HEAD_BYTES:
            self.answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif end:
            self._head = None
            self._judge(head.decode("latin-1"))

    def _judge(self, head: str) -> None:
        line, *fields = head.split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self.answer(HTTPStatus.BAD_REQUEST)
            return
        method, target, _ = words
        self._without_body = method == "HEAD"
        if target.partition("?")[0] != PATH:
            self.answer(HTTPStatus.NOT_FOUND)
        elif method not in {"GET", "HEAD"}:
            self.answer(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
        else:
            for field in fields:
                name, _, value = field.partition(":")
                self._headers[name.strip().lower()] = value.strip()
            self._server.wants_figures(self)

    def answer(
        self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Answer, and close once the answer is sent."""
        self._head = None
        if self._transport is None or self._transport.is_closing():
            return
        if status is not HTTPStatus.OK:
            body = f"{status.value} {status.phrase}; the figures are at {PATH}\n".encode()
            headers = {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        self._transport.write(
            "\r\n".join(lines).encode() + _END_OF_HEAD + (b"" if self._without_body else body)
        )
        self._transport.close()
