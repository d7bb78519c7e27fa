"""``GET`` as server-sent events: what a page reads with an ``EventSource``.

The data of an event, lines joined by a newline, is a piece of the stream, and all of them together
are the stream; but text has to be UTF-8, and lines that end in CR LF or CR end in LF.  Base64 takes
any bytes.  The last event is ``end``; whoever reads closes then, as an EventSource would come back.
"""

from __future__ import annotations

import asyncio
import base64 as encoding
import codecs
from typing import TYPE_CHECKING

from aiohttp import web

from pipe.web.statuses import json_text, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.web.session import Exchange

BEAT_SECONDS = 15.0
"""After so much silence a comment is sent, as proxies give up on the silent."""

BEAT = b": \n\n"


class Events:
    """One response with a stream as events.

    Args:
        exchange: its request, started.
        base64: whether the data is base64 of the bytes rather than text.
    """

    def __init__(self, exchange: Exchange, *, base64: bool) -> None:
        self._exchange = exchange
        self._base64 = base64
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._ends_with_cr = False
        self._number = 0

    async def run(self, headers: Mapping[str, str]) -> web.StreamResponse:
        """Write all of it, then its end."""
        exchange = self._exchange
        refused = await exchange.wait_joined()
        if refused:
            return refusal(exchange.request, refused)
        exchange.stream()
        response = web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"})
        await response.prepare(exchange.request)
        await self._write(response, BEAT)  # so that the head goes out, through proxies too
        while (data := await self._take(response)) is not None:
            event = self._event(data)
            if event:
                await self._write(response, event)
            exchange.port.handed(len(data))
            exchange.port.drained()
        end = await exchange.wait_end()
        rest = "" if self._base64 else self._decode(b"", True)
        if rest:
            await self._write(response, self._text_event(rest))
        if not exchange.transport.is_closing():
            await self._write(
                response, f"event: end\ndata: {json_text(end.as_json())}\n\n".encode()
            )
        if not end.whole:
            await exchange.break_off()
        return await exchange.conclude(response)

    async def _take(self, response: web.StreamResponse) -> bytes | memoryview | None:
        """The next piece, with a comment for each time that none comes for a while."""
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    return await self._exchange.port.take()
            except TimeoutError:
                await self._write(response, BEAT)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        await response.write(data)
        await self._exchange.request.writer.drain()

    def _event(self, data: bytes | memoryview) -> bytes:
        if self._base64:
            return self._numbered(f"data: {encoding.b64encode(data).decode()}\n")
        text = self._decode(bytes(data))
        return self._text_event(text) if text else b""

    def _text_event(self, text: str) -> bytes:
        if self._ends_with_cr and text.startswith("\n"):
            text = text[1:]  # of a CR LF that was cut in two
        if not text:
            return b""
        self._ends_with_cr = text.endswith("\r")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return self._numbered("".join(f"data: {line}\n" for line in lines))

    def _numbered(self, lines: str) -> bytes:
        self._number += 1
        return f"id: {self._number}\n{lines}\n".encode()
