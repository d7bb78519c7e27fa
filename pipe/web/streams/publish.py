"""``PUT`` and ``POST``: the body is the stream, and the answer is the receipt."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.web import HTTPException, RequestPayloadError

from pipe.errors import Outcome, UsageError
from pipe.language.requests import Publish
from pipe.stream.chunks import Chunk
from pipe.web.caller import admit
from pipe.web.offers import Offer, offer_of, offer_of_part
from pipe.web.session import Exchange
from pipe.web.statuses import OUTCOME, refusal, wants_json
from pipe.web.streams.options import read_options, topic_in
from pipe.web.streams.ranges import read_content_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pipe.web.caller import Visitor
    from pipe.web.statuses import End

log = structlog.get_logger()

MAX_CHUNK_BYTES = 256 * 1024
"""The largest chunk that is published: a reader that is slow holds one at least."""

PART_READ_BYTES = 64 * 1024
"""What is read of a form's file at a time."""

PROOF_AFTER_SECONDS = 1.0
"""A publisher that has waited for so long may have gone, without a word."""

TURN_SECONDS = 0.002
"""An upload's turn of the event loop, however much of it has come."""

MAX_FIELDS = 32
"""Parts of a form that may come before the file."""

MAX_FIELD_BYTES = 64 * 1024
"""And what is read over of each of them."""


async def publish(request: web.Request) -> web.StreamResponse:
    """``PUT`` or ``POST /topic/T``: publish the body."""
    wanted, _ = read_options(request, Publish, topic_in(request))
    wanted = read_content_range(request, wanted)
    return await publish_as(request, await admit(request), wanted)


async def publish_without_waiting(request: web.Request) -> web.StreamResponse:
    """``POST /pubsub/T``: the same, and nobody need be there."""
    check_body(request)
    wanted, _ = read_options(request, Publish, topic_in(request), defaults={"block": False})
    return await publish_as(request, await admit(request), wanted)


def check_body(request: web.Request) -> None:
    """Refuse a body that is no stream.

    Raises:
        UsageError: it is a part of something.
    """
    if "Content-Range" in request.headers:
        raise UsageError("a stream has no ranges: leave out Content-Range")


async def publish_as(request: web.Request, visitor: Visitor, wanted: Publish) -> web.StreamResponse:
    """Publish a body for whoever was let in, and answer once readers have it."""
    exchange = Exchange(request, visitor)
    exchange.start(wanted)
    upload = _Upload(exchange, holds=bool(wanted.hold))
    pump = asyncio.get_running_loop().create_task(upload.run())
    try:
        end = await exchange.wait_end()
        receipt = exchange.session.receipt
    finally:
        pump.cancel()
        if exchange.session.member:
            exchange.parts.offers.pop(exchange.session.member, None)
        exchange.leave(lost=True)
    if end.outcome is not Outcome.DONE:
        return refusal(request, end)
    if receipt is None:
        return _receipt(request, end, {"bytes": 0, "subscribers": 0, "left_early": 0})
    counts = {
        "bytes": receipt.sent_bytes,
        "subscribers": receipt.subscribers,
        "left_early": receipt.left_early,
    }
    return _receipt(request, end, counts)


def _receipt(request: web.Request, end: End, counts: Mapping[str, int]) -> web.Response:
    headers = {OUTCOME: end.outcome.label}
    if wants_json(request):
        response = web.json_response(dict(counts), headers=headers)
    else:
        response = web.Response(text=f"{end.text or end.outcome.label}\n", headers=headers)
    if request.body_exists and not request.content.is_eof():
        response.force_close()  # so that the client stops sending
    return response


class _Upload:
    """What a client sends, on its way to the session."""

    def __init__(self, exchange: Exchange, *, holds: bool) -> None:
        self._exchange = exchange
        self._holds = holds
        self._request = exchange.request
        self._turn_ends = time.monotonic() + TURN_SECONDS

    async def run(self) -> None:
        """Hand on all of it."""
        exchange = self._exchange
        session = exchange.session
        if not await self._may_go_on():
            return
        try:
            async for data in self._pieces():
                await self._feed(data)
        except (UsageError, RequestPayloadError, ValueError, HTTPException) as error:
            if self._holds and exchange.transport.is_closing():
                return  # the connection is lost, and the handler is told
            text = error.message if isinstance(error, UsageError) else f"{error}"
            session.cut(Outcome.USAGE, f"the body cannot be read: {text or 'it broke off'}")
        except OSError:
            pass  # the client is gone, and the handler is told
        except Exception:
            log.exception("upload failed", user=session.caller.user)
            session.cut(Outcome.FAILED)
        else:
            session.feed_eof()

    async def _feed(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            if not await self._may_go_on():
                return
            piece = data
            if len(data) > MAX_CHUNK_BYTES:
                piece = view[start : start + MAX_CHUNK_BYTES]  # type: ignore[assignment]
            self._deliver(Chunk(piece))

    def _deliver(self, chunk: Chunk) -> None:
        turns = self._exchange.parts.service.turns
        started, used = time.monotonic(), turns.used
        self._exchange.port.deliver(chunk)
        turns.use(time.monotonic() - started, used)

    async def _may_go_on(self) -> bool:
        """Wait until the session wants more; whether it does, and the client is there still."""
        exchange, port, loop = self._exchange, self._exchange.port, asyncio.get_running_loop()
        await self._give_way()
        if port.reading:
            return not port.over
        paused_at = loop.time()
        wanted: bool | None = None
        while wanted is None:
            try:
                async with asyncio.timeout(exchange.parts.service.settings.keepalive_interval):
                    wanted = await port.wait_reading()
            except TimeoutError:
                if exchange.request.content.total_bytes:
                    await exchange.is_alive(sparing=1)
        if not wanted:
            return False
        waited = loop.time() - paused_at >= PROOF_AFTER_SECONDS
        if not waited or not exchange.request.content.total_bytes:
            return True
        return await exchange.is_alive() and await port.wait_reading()

    async def _give_way(self) -> None:
        """Let others have their turn: aiohttp parses what has come without ever waiting."""
        if self._exchange.parts.service.turns.spent or time.monotonic() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + TURN_SECONDS

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The stream's bytes as they come; nothing is read while the session is paused."""
        request = self._request
        if request.content_type == "multipart/form-data":
            async for data in self._pieces_of_form():
                yield data
            return
        self._offer(offer_of(request.headers, request.content_length))
        content, is_chunked = request.content, request.content_length is None
        while await self._may_go_on():
            # Of a body with a length each read is a chunk as it is; tiny chunks are put together.
            if is_chunked:
                data = await content.read(MAX_CHUNK_BYTES)
            else:
                data, _ = await content.readchunk()
            if not data:
                return
            yield data

    async def _pieces_of_form(self) -> AsyncIterator[bytes]:
        """The same of a form's first file."""
        form = await self._request.multipart()
        part = await _find_file(form)
        self._offer(offer_of_part(part.headers, part.filename))
        while await self._may_go_on():
            data = await part.read_chunk(PART_READ_BYTES)
            if not data:
                await form.next()  # raises ValueError where no boundary follows: it was cut
                return
            yield data

    def _offer(self, offer: Offer) -> None:
        member = self._exchange.session.member
        if member and not self._exchange.end:
            topic = self._exchange.session.topic
            self._exchange.parts.offers[member] = replace(offer, topic=topic)


async def _find_file(form: MultipartReader) -> BodyPartReader:
    """Read over the fields of a form up to its first file."""
    for _ in range(MAX_FIELDS):
        part = await form.next()
        if part is None:
            break
        if not isinstance(part, BodyPartReader):
            raise UsageError("a form within a form is no file")
        if part.filename is not None:
            return part
        await _skip(part)
    raise UsageError("there is no file in the form: use curl -F file=@NAME")


async def _skip(part: BodyPartReader) -> None:
    """Read over a field that is no file."""
    size = 0
    while data := await part.read_chunk():
        size += len(data)
        if size > MAX_FIELD_BYTES:
            raise UsageError("a field before the file is too long")
