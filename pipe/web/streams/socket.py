"""``GET /pipe/T`` by WebSocket: both directions at once, as ``pipe``, ``pub``, ``sub`` or ``chat``.

A binary frame is some bytes of the stream, and each chunk that comes is one frame.  Where pages
want text, frames are UTF-8, cut at the ends of characters.  With ``status=true`` text frames are
JSON beside the stream.  A WebSocket has no flow control of its own: where nobody reads, the TCP
connection stands still, and with it the answers to pings.  So a little is read ahead.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from pipe.errors import Outcome, PipeError, UsageError
from pipe.language.chat_requests import Chat
from pipe.language.names import quoted
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.library.ends import receipt_as_json
from pipe.library.streams import Duplex
from pipe.web.caller import WEBSOCKET_PROTOCOL, admit
from pipe.web.link import WebLink, beating
from pipe.web.parts import PARTS
from pipe.web.session import Exchange
from pipe.web.statuses import UpgradeRequired, json_text
from pipe.web.streams.options import choice, read_options, switch, topic_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.library.ends import End

MAX_MESSAGE_BYTES = 1 << 20
"""The longest message that is taken, and the longest frame that is sent."""

TEXT, BINARY = 0x81, 0x82
"""Kinds of frames, each the last of its message."""

MAX_REASON_BYTES = 120
"""RFC 6455, section 5.5: a control frame has 125 bytes at most, the code takes two of them."""

MODES: dict[str, type[Pipe] | type[Publish] | type[Subscribe] | type[Chat]] = {
    "pipe": Pipe,
    "pub": Publish,
    "sub": Subscribe,
    "chat": Chat,
}

EXTRAS: dict[str, Callable[[str], object]] = {
    "mode": choice(*MODES),
    "format": choice("binary", "text"),
    "status": switch,
}
"""Parameters that are no flags of the commands."""


async def converse(request: web.Request) -> web.StreamResponse:
    """``GET /pipe/T``: read and write a topic."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise UpgradeRequired("this address is for WebSockets: /topic/NAME is for GET and PUT")
    mode = choice(*MODES)(request.query.get("mode", "pipe"))
    wanted, extras = read_options(request, MODES[mode], topic_in(request), EXTRAS)
    text, status = extras.get("format") == "text", bool(extras.get("status"))
    if text and status:
        raise UsageError("?status is for format=binary: text frames are the stream otherwise")
    response = web.WebSocketResponse(
        protocols=(WEBSOCKET_PROTOCOL,),
        # A client answers our close behind all that it has yet to read.
        timeout=request.app[PARTS].service.settings.stall_timeout,
        max_msg_size=MAX_MESSAGE_BYTES,
        compress=False,
        decode_text=False,
    )
    if not response.can_prepare(request):
        raise UsageError("this is no handshake of a WebSocket (RFC 6455)")
    exchange = Exchange(request, await admit(request))
    link = WebLink(exchange, wanted, exchange.parts.service.settings.window)
    async with Duplex(link.open) as stream:
        return await _Conversation(exchange, stream, response, text=text, status=status).run()


class _Conversation:
    """One WebSocket and its stream."""

    def __init__(
        self,
        exchange: Exchange,
        stream: Duplex,
        socket: web.WebSocketResponse[Any],
        *,
        text: bool,
        status: bool,
    ) -> None:
        self._exchange = exchange
        self._stream = stream
        self._port = exchange.port
        self._socket = socket
        self._status = status
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode if text else None
        self._notes: list[str] | None = []  # until there is a WebSocket
        self._waiting = 0
        if status:
            exchange.heard = self._hear

    async def run(self) -> web.StreamResponse:
        """Talk until the session ends, or the client does.

        Raises:
            PipeError: it is refused.
        """
        exchange, socket = self._exchange, self._socket
        await exchange.wait_joined()
        exchange.stream()
        await socket.prepare(exchange.request)
        notes, self._notes = self._notes or (), None
        for note in notes:
            self._write_text(note)
        if not self._decode:
            self._port.direct = self._write
        listener = asyncio.get_running_loop().create_task(self._listen())
        try:
            await self._send()
            if exchange.end and not socket.closed:
                listener.cancel()  # while it waits, aiohttp takes our own close for the client's
                await asyncio.wait([listener])
                await self._say_end(exchange.end)
        finally:
            listener.cancel()
        return socket

    # -- to the client ----------------------------------------------------------------------------

    def _hear(self, text: str) -> None:
        """Something is said beside the stream."""
        member = self._exchange.session.member
        waiting = member.waiting if member else 0
        if waiting != self._waiting:
            self._waiting = waiting
            self._say({"waiting": waiting})
        elif not self._exchange.session.receipt:
            self._say({"note": text})

    def _say(self, what: dict[str, object]) -> None:
        """Tell a client something beside the stream."""
        note = json_text(what)
        if self._notes is None:
            self._write_text(note)
            self._port.bell.ring()  # its task tells when it is written
        else:
            self._notes.append(note)

    async def _send(self) -> None:
        """Send what comes, until nothing will come any more or the client has closed."""
        exchange = self._exchange
        interval = exchange.parts.service.settings.keepalive_interval
        with contextlib.suppress(PipeError):
            async with beating(interval, self._ping):
                async for piece in self._stream:
                    if self._decode:
                        self._write_text(self._decode(bytes(piece)))
                    else:
                        self._write(piece)

    def _write(self, data: bytes | memoryview) -> None:
        """Send a piece of the stream as binary frames."""
        for start in range(0, len(data), MAX_MESSAGE_BYTES):
            piece = data
            if len(data) > MAX_MESSAGE_BYTES:
                piece = memoryview(data)[start : start + MAX_MESSAGE_BYTES]
            self._write_frame(BINARY, piece)

    def _write_text(self, text: str) -> None:
        if text:
            self._write_frame(TEXT, text.encode())

    def _write_frame(self, kind: int, data: bytes | memoryview) -> None:
        transport = self._exchange.transport
        if not (self._socket.closed or transport.is_closing()):
            transport.writelines((frame_head(kind, len(data)), data))

    async def _ping(self) -> None:
        """Say something now and then: proxies give up on the silent."""
        if not self._port.unsent:
            await self._socket.ping()

    async def _say_end(self, end: End) -> None:
        if self._decode:
            self._write_text(self._decode(b"", True))
        if self._status:
            if end.receipt:
                self._say({"receipt": receipt_as_json(end.receipt)})
            self._say({"end": end.as_json()})
        reason = end.message.encode("utf-8", "backslashreplace")[:MAX_REASON_BYTES]
        await self._socket.close(
            code=close_code(end), message=reason.decode("utf-8", "ignore").encode()
        )
        self._exchange.confirmed = self._socket.close_code != WSCloseCode.ABNORMAL_CLOSURE

    # -- from the client --------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Take what the client sends, until it closes or nothing more is wanted."""
        with contextlib.suppress(PipeError):
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.BINARY or (
                    message.type is WSMsgType.TEXT and not self._status
                ):
                    await self._stream.write(message.data)
                elif message.type is WSMsgType.TEXT:
                    await self._obey(message.data)
                else:
                    if message.type is WSMsgType.CLOSE and message.data == WSCloseCode.OK:
                        await self._stream.write_eof()
                    break
            self._exchange.gone()

    async def _obey(self, data: bytes) -> None:
        """Do what a client says beside the stream."""
        try:
            if json.loads(data) == {"eof": True}:
                await self._stream.write_eof()
                return
        except ValueError:
            pass
        text = data.decode("utf-8", "replace")
        self._exchange.session.cut(
            Outcome.USAGE, f'the text frame {quoted(text)} is not {{"eof":true}}'
        )


def frame_head(kind: int, size: int) -> bytes:
    """The head of a frame, whole and unmasked (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((kind, size))
    if size < 1 << 16:
        return bytes((kind, 126)) + size.to_bytes(2, "big")
    return bytes((kind, 127)) + size.to_bytes(8, "big")


def close_code(end: End) -> int:
    """What a WebSocket is closed with: 4000 and the exit status, where that is not 0."""
    if end.whole:
        return 1000
    if end.outcome is Outcome.SHUTDOWN:
        return 1001
    return 4000 + end.status
