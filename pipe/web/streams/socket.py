"""``GET /pipe/T`` by WebSocket: both directions at once, as ``pipe``, ``pub``, ``sub`` or ``chat``.

A binary frame is some bytes of the stream, and each chunk that comes is one frame.  Where pages
want text, frames are UTF-8, cut at the ends of characters.  With ``status=true`` text frames are
JSON beside the stream.  A WebSocket has no flow control of its own: where nobody reads, the TCP
connection stands still, and with it the answers to pings.  So a little is read ahead.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from pipe.errors import Outcome, UsageError
from pipe.language.chat_requests import Chat
from pipe.language.names import quoted
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.stream.chunks import CHUNK_COST, Chunk
from pipe.web.caller import WEBSOCKET_PROTOCOL, admit
from pipe.web.parts import PARTS
from pipe.web.session import Exchange
from pipe.web.statuses import UpgradeRequired, json_text, refusal
from pipe.web.streams.options import choice, read_options, switch, topic_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.web.statuses import End

MAX_MESSAGE_BYTES = 1 << 20
"""The longest message that is taken, and the longest frame that is sent."""

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
    try:
        exchange.start(wanted)
        return await _Conversation(exchange, response, text=text, status=status).run()
    finally:
        exchange.leave()


class _Conversation:
    """One WebSocket and its session."""

    def __init__(
        self, exchange: Exchange, socket: web.WebSocketResponse[Any], *, text: bool, status: bool
    ) -> None:
        self._exchange = exchange
        self._port = exchange.port
        self._socket = socket
        self._status = status
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode if text else None
        self._notes: deque[dict[str, object]] = deque()
        self._waiting = 0
        self._port.reads_ahead = True
        if status:
            exchange.heard = self._hear

    async def run(self) -> web.StreamResponse:
        """Talk until the session ends, or the client does."""
        exchange, socket = self._exchange, self._socket
        refused = await exchange.wait_joined()
        if refused:
            return refusal(exchange.request, refused)
        exchange.stream()
        await socket.prepare(exchange.request)
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
            self._notes.append({"waiting": waiting})
        elif not self._exchange.session.receipt:
            self._notes.append({"note": text})
        self._port.bell.ring()

    async def _send(self) -> None:
        """Send what comes, until nothing will come any more or the client has closed."""
        socket, port = self._socket, self._port
        while not socket.closed:
            while self._notes:
                await socket.send_str(json_text(self._notes.popleft()))
            chunk = port.pop()
            if chunk:
                await self._send_chunk(chunk)
                port.handed(chunk.size)
                await self._exchange.request.writer.drain()
                port.drained()
            elif port.unsent:
                await self._exchange.request.writer.drain()
                port.drained()
            elif port.over:
                return
            else:
                await self._wait()

    def _write(self, data: bytes | memoryview) -> None:
        """Send a piece of the stream as binary frames."""
        transport = self._exchange.transport
        if self._socket.closed or transport.is_closing():
            return
        for start in range(0, len(data), MAX_MESSAGE_BYTES):
            piece = data
            if len(data) > MAX_MESSAGE_BYTES:
                piece = memoryview(data)[start : start + MAX_MESSAGE_BYTES]
            transport.writelines((binary_head(len(piece)), piece))

    async def _send_chunk(self, chunk: Chunk) -> None:
        if self._decode:
            if text := self._decode(bytes(chunk.data)):
                await self._socket.send_str(text)
        else:
            self._write(chunk.data)

    async def _wait(self) -> None:
        """Wait for news, with a ping now and then: proxies give up on the silent."""
        try:
            async with asyncio.timeout(self._exchange.parts.service.settings.keepalive_interval):
                await self._port.bell.wait()
        except TimeoutError:
            if not self._exchange.transport.get_write_buffer_size():
                await self._socket.ping()

    async def _say_end(self, end: End) -> None:
        if self._decode and (rest := self._decode(b"", True)):
            await self._socket.send_str(rest)
        if self._status:
            receipt = self._exchange.session.receipt
            if receipt:
                counts = {
                    "bytes": receipt.sent_bytes,
                    "subscribers": receipt.subscribers,
                    "left_early": receipt.left_early,
                }
                await self._socket.send_str(json_text({"receipt": counts}))
            await self._socket.send_str(json_text({"end": end.as_json()}))
        reason = end.message.encode("utf-8", "backslashreplace")[:MAX_REASON_BYTES]
        await self._socket.close(
            code=close_code(end), message=reason.decode("utf-8", "ignore").encode()
        )
        self._exchange.confirmed = self._socket.close_code != WSCloseCode.ABNORMAL_CLOSURE

    # -- from the client --------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Take what the client sends, until it closes."""
        port, session = self._port, self._exchange.session
        window = self._exchange.parts.service.settings.window
        ahead = 0
        while True:
            if port.reading:
                ahead = 0
            elif ahead >= window and not await port.wait_reading():
                return
            message = await self._socket.receive()
            if message.type is WSMsgType.BINARY or (
                message.type is WSMsgType.TEXT and not self._status
            ):
                if not port.reading:
                    ahead += len(message.data) + CHUNK_COST
                if message.data:
                    port.deliver(Chunk(message.data))
            elif message.type is WSMsgType.TEXT:
                self._obey(message.data)
            else:
                if message.type is WSMsgType.CLOSE and message.data == 1000:
                    session.feed_eof()
                break
        self._exchange.gone()

    def _obey(self, data: bytes) -> None:
        """Do what a client says beside the stream."""
        try:
            if json.loads(data) == {"eof": True}:
                self._exchange.session.feed_eof()
                return
        except ValueError:
            pass
        text = data.decode("utf-8", "replace")
        self._exchange.session.cut(
            Outcome.USAGE, f'the text frame {quoted(text)} is not {{"eof":true}}'
        )


def binary_head(size: int) -> bytes:
    """The head of a binary frame, whole and unmasked (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((0x82, size))
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big")
    return b"\x82\x7f" + size.to_bytes(8, "big")


def close_code(end: End) -> int:
    """What a WebSocket is closed with: 4000 and the exit status, where that is not 0."""
    if end.whole:
        return 1000
    if end.outcome is Outcome.SHUTDOWN:
        return 1001
    return 4000 + end.exit_status
