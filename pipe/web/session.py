"""One request with a stream or a command: aiohttp on one side, a session on the other.

It is a `pipe.session.front.Front`.  What the user is told beside the stream has no place in HTTP
but at the end: the last of it is the message of a refusal, or the receipt.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pipe.errors import Outcome
from pipe.language.chat_requests import Chat
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.library.ends import End, end_of
from pipe.session.session import Session
from pipe.web.caller import admit, peer_of
from pipe.web.forwarded import HEADERS
from pipe.web.hangup import has_hung_up
from pipe.web.parts import PARTS
from pipe.web.port import WebPort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.commands.screen import Screen
    from pipe.language.requests import Request
    from pipe.session.front import Owner
    from pipe.stream.traffic import Traffic
    from pipe.web.caller import Visitor
    from pipe.web.hangup import Watch
    from pipe.web.offers import Offer
    from pipe.web.parts import Web

MAX_AGENT_LENGTH = 100
"""Characters of what a client says that it is."""

KERNEL_SECONDS = 5.0
"""How long a reader of HTTP/1.0 may take to read the rest of a stream that broke."""

KERNEL_LOOK_SECONDS, MAX_KERNEL_LOOK_SECONDS = 0.001, 0.1
"""How often a socket is looked at meanwhile, less and less: nothing tells."""

PROOF_SECONDS = 1.0
"""How long a publisher's kernel may take to answer before its bytes are handed on."""

MAX_PROOFS = 4
"""Unasked responses that one request gets: some clients take five (Go's, before 1.24)."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER (socket(7)): on, and for no time."""

_SIOCOUTQ = 0x5411
"""ioctl(2): the bytes that the other end has not confirmed; see tcp(7)."""


class Exchange:
    """One request and its session.

    Args:
        request: open.
        visitor: who sends it; leaves with the session.
    """

    __slots__ = (
        "_counted",
        "_expects",
        "_last",
        "_left",
        "_proofs",
        "_streams",
        "answered",
        "broken_off",
        "confirmed",
        "end",
        "follows",
        "heard",
        "parts",
        "port",
        "request",
        "session",
        "transport",
        "visitor",
    )

    def __init__(self, request: web.Request, visitor: Visitor) -> None:
        self.request = request
        self.parts: Web = request.app[PARTS]
        self.visitor = visitor
        self.end: End | None = None
        self.answered = ""
        self.heard: Callable[[str], None] | None = None
        self.broken_off = False
        self.follows = False  # an answer has begun that goes on
        self.confirmed = False  # HTTP has no word for it: the end is written
        self._last = ""
        self._counted = False
        self._proofs = 0
        self._left = False
        self._streams = False  # a response is under way
        self._expects = request.headers.get("Expect", "").lower() == "100-continue"
        transport = request.transport
        if transport is None:
            visitor.leave()
            raise ConnectionResetError
        self.transport = transport
        self.session: Session = Session(
            self.parts.service, self, visitor.caller, visitor.address, visitor.holders
        )

    def start(self, request: Request) -> None:
        """Begin to serve."""
        if isinstance(request, (Publish, Subscribe, Pipe, Chat)):
            self._counted = True
            self.parts.service.metrics.web_streams.inc()
        self.session.start(lambda: request)

    def leave(self) -> None:
        """The request's handler is done with it, or its client is gone; again it does nothing.

        Unless all was said that is a lost connection: only a WebSocket has another goodbye.
        """
        if self._left:
            return
        self._left = True
        if self.session.member:
            self.parts.offers.pop(self.session.member, None)
        lost = self.transport.is_closing() and not (self.confirmed or self.port.reads_ahead)
        self.session.client_gone(Outcome.LEFT, confirmed=self.confirmed, lost=lost)
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits()

    def offer(self, offer: Offer) -> None:
        """Let readers know what the stream is that is published."""
        if self.session.member and not self.end:
            self.parts.offers[self.session.member] = replace(offer, topic=self.session.topic)

    def gone(self) -> None:
        """The client has said goodbye: nothing more is written."""
        self.port.stop(discard=True)

    async def wait_joined(self) -> None:
        """Wait until it has its place on a topic, or an answer has begun.

        Raises:
            PipeError: it has ended without.
        """
        while not (self.end or self.port.bound or self.follows):
            await self.port.bell.wait()
        if self.end:
            self.end.check()

    async def wait_end(self) -> End:
        """Wait until it has ended, or the client has said goodbye."""
        while not (self.end or self.port.over):
            await self.port.bell.wait()
        return self.end or end_of(Outcome.LEFT)

    def stream(self) -> None:
        """A response has begun that is a stream: from now on only its end can tell."""
        self._streams = True

    async def begin(
        self, headers: Mapping[str, str], status: HTTPStatus = HTTPStatus.OK
    ) -> web.StreamResponse:
        """Begin such a response."""
        self.stream()
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(self.request)
        return response

    # -- the session ------------------------------------------------------------------------------

    def make_port(self, owner: Owner) -> WebPort:
        """Make the data path."""
        service = self.parts.service
        hangups: Watch = self.transport.get_extra_info("hangups") or self.parts.hangups
        self.port = WebPort(owner, self.transport, service.router, hangups, service.settings.buffer)
        if self._expects:
            self.port.on_resume = self._say_continue
        return self.port

    def _say_continue(self) -> None:
        """Somebody wants to have it: let the client send."""
        if not self.transport.is_closing() and not self._streams:
            self.transport.write(CONTINUE)

    async def prove_alive(self, sparing: int = 0) -> None:
        """Find out whether a client is still there of which nothing was read for a while.

        The kernel of a client that is gone keeps what it could not send, and its goodbye behind
        it.  It answers only what is sent to it: with a reset.

        Args:
            sparing: so many times that can still be asked afterwards.

        Raises:
            ConnectionResetError: it is not.
        """
        sock = self.transport.get_extra_info("socket")
        if (
            self._proofs < MAX_PROOFS - sparing
            and sock
            and is_framed(self.request)
            and not self._behind
        ):
            self._proofs += 1
            self.transport.write(CONTINUE)
            await asyncio.sleep(0)  # it is written at the end of a turn
            await _wait_confirmed(self.transport, PROOF_SECONDS)
            if not self.transport.is_closing() and has_hung_up(sock.fileno()):
                self.transport.abort()
        if self.transport.is_closing():
            raise ConnectionResetError

    @property
    def _behind(self) -> bool:
        """Whether the client is behind a proxy, which may not know what to do with our 100."""
        headers = self.request.headers
        return peer_of(self.request) in self.parts.proxies or any(
            name in headers for name in ("Via", *HEADERS)
        )

    def tell(self, text: str) -> None:
        """Keep it for the end."""
        self._last = text
        if self.heard:
            self.heard(text)

    def draw(self, line: str, *, last: bool) -> None:
        """Leave it out: a response has no second stream, and no parameter asks for it."""

    def answer(self, text: str) -> None:
        """Keep it for the response."""
        self.answered = text

    def screen(self) -> Screen | None:
        """There is none."""
        return None

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """There is none."""

    @property
    def line_end(self) -> bytes:
        """What ends a line."""
        return b"\n"

    def follow(self) -> None:
        """Let the handler begin its response."""
        self.follows = True
        self.port.bell.ring()

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """All is written: the handler does the rest."""
        self._end(End(outcome, exit_status, self._last, self.session.receipt))

    def abort(self, outcome: Outcome, text: str) -> bool:
        """End now.  A response that waits for its client to read is cut off where it is."""
        told = self.end is None
        self._end(end_of(outcome, text), discard=True)
        if self._streams and self.transport.get_write_buffer_size():
            reset_if_unframed(self.request, self.transport)
            self.transport.abort()
        return told

    def _end(self, end: End, *, discard: bool = False) -> None:
        if self.end is None:
            self.end = end
        self.port.stop(discard=discard)

    def closed(self, traffic: Traffic) -> None:  # noqa: ARG002
        """The session is over."""
        if self._counted:
            self.parts.service.metrics.web_streams.dec()
        self.visitor.leave()
        self.heard = None
        self.port.bell.ring()
        del self.session

    def log_fields(self) -> dict[str, str]:
        """What the log says of the client's software."""
        front = "tunnel" if self.transport.get_extra_info("login") else "http"
        agent = self.request.headers.get("User-Agent", "")[:MAX_AGENT_LENGTH]
        return {"client": agent, "front": front}

    # -- a response -----------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Write a piece of a response that has begun, as a chunk (RFC 9112, section 7.1).

        aiohttp would copy it.
        """
        if self.transport.is_closing() or not data:  # an empty chunk would be the last one
            return
        if is_framed(self.request):
            self.transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self.transport.write(data)

    # -- the end of a response --------------------------------------------------------------------

    async def conclude(self, response: web.StreamResponse) -> web.StreamResponse:
        """Write a response to its end; from then on its reader counts as having it."""
        if not self.broken_off:
            try:
                await response.prepare(self.request)
                await response.write_eof()
                await self.request.writer.drain()
            except OSError:
                return response  # the client is gone
        self.confirmed = self.broken_off or not self.transport.is_closing()
        return response

    # -- an end that is none ----------------------------------------------------------------------

    async def break_off(self) -> None:
        """End a response that has begun so that its client knows that something is missing.

        Chunked, the last chunk is missing.  HTTP/1.0 has no chunks, and a connection that is closed
        looks like the end, so there it is reset, once the client has what was written.
        """
        if self.broken_off or self.transport.is_closing():
            return
        if is_framed(self.request):
            self.transport.close()
        else:
            await _wait_confirmed(self.transport, KERNEL_SECONDS)
            reset_if_unframed(self.request, self.transport)
            self.transport.abort()
        self.broken_off = True


async def open_exchange(request: web.Request, wanted: Request) -> Exchange:
    """Let in whoever sends a request, and begin to serve it.

    Raises:
        PipeError: it is not let in.
    """
    exchange = Exchange(request, await admit(request))
    exchange.start(wanted)
    return exchange


def is_framed(request: web.Request) -> bool:
    """Whether a response without a length says where it ends."""
    return (request.version.major, request.version.minor) >= (1, 1)


def reset_if_unframed(request: web.Request, transport: asyncio.Transport) -> None:
    """Have the close of a connection of HTTP/1.0 be an error for the client."""
    sock = transport.get_extra_info("socket")
    if sock and not is_framed(request):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)


async def _wait_confirmed(transport: asyncio.Transport, seconds: float) -> None:
    """Wait a while until the client's kernel has all that was written."""
    sock = transport.get_extra_info("socket")
    pause = KERNEL_LOOK_SECONDS
    while sock and seconds > 0 and not transport.is_closing():
        left = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0" * 4)
        if not int.from_bytes(left, "little") or has_hung_up(sock.fileno()):
            return
        await asyncio.sleep(pause)
        seconds -= pause
        pause = min(2 * pause, MAX_KERNEL_LOOK_SECONDS)
