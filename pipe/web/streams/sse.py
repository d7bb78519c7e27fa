"""``GET`` as server-sent events: what a page reads with an ``EventSource``.

The data of an event, lines joined by a newline, is a piece of the stream, and all of them together
are the stream; but text has to be UTF-8, and lines that end in CR LF or CR end in LF.  Base64 takes
any bytes.  The last event is ``end``; whoever reads closes then, as an EventSource would come back.
"""

from __future__ import annotations

import base64 as encoding
import codecs
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from pipe.errors import PipeError
from pipe.web.link import beating
from pipe.web.statuses import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from pipe.library.streams import Reader
    from pipe.web.session import Exchange

BEAT_SECONDS = 15.0
"""After so much silence a comment is sent, as proxies give up on the silent."""

BEAT = b": \n\n"

CONTENT_TYPE = "text/event-stream"


class Events:
    """The events of one stream.

    Args:
        base64: whether the data is base64 of the bytes rather than text.
    """

    def __init__(self, *, base64: bool) -> None:
        self._base64 = base64
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._ends_with_cr = False
        self._number = 0

    def last(self) -> bytes:
        """Return what is left of a text that was cut within a character."""
        return b"" if self._base64 else self._text_event(self._decode(b"", True))

    def event(self, data: bytes) -> bytes:
        """Return a piece of the stream as an event; empty if there is no whole character in it."""
        if self._base64:
            return self._numbered(f"data: {encoding.b64encode(data).decode()}\n")
        return self._text_event(self._decode(bytes(data)))

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


async def write_events(
    exchange: Exchange,
    stream: Reader,
    headers: Mapping[str, str],
    event: Callable[[bytes], bytes],
    last: Callable[[], bytes] = bytes,
) -> web.StreamResponse:
    """Write a stream as events, then how it has ended as the last one.

    Args:
        exchange: its request.
        stream: all of it.
        headers: of the response.
        event: writes a piece as an event.
        last: writes what is left at the end.
    """
    response = await exchange.begin({**headers, "Content-Type": CONTENT_TYPE})
    exchange.write(BEAT)  # so that the head goes out, through proxies too
    with contextlib.suppress(PipeError):
        async with beating(BEAT_SECONDS, partial(_beat, exchange)):
            async for piece in stream:
                exchange.write(event(piece))
    end = await exchange.wait_end()
    exchange.write(last())
    exchange.write(f"event: end\ndata: {json_text(end.as_json())}\n\n".encode())
    if not end.whole:
        await exchange.break_off()
    return await exchange.conclude(response)


async def _beat(exchange: Exchange) -> None:
    if not exchange.port.unsent:
        exchange.write(BEAT)
        exchange.port.bell.ring()  # whoever reads the stream waits until it is written
