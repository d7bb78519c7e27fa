"""``PUT`` and ``POST``: the body is the stream, and the answer is the receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.web import HTTPException, RequestPayloadError

from pipe.errors import Outcome, UsageError
from pipe.language.requests import Publish
from pipe.library.ends import receipt_as_json
from pipe.library.streams import MAX_CHUNK_BYTES, Writer
from pipe.stream.ports import Receipt
from pipe.web.caller import admit
from pipe.web.link import WebLink
from pipe.web.offers import offer_of, offer_of_part
from pipe.web.session import Exchange
from pipe.web.statuses import OUTCOME, wants_json
from pipe.web.streams.options import read_options, topic_in
from pipe.web.streams.ranges import read_content_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.library.ends import End
    from pipe.web.caller import Visitor

PART_READ_BYTES = 64 * 1024
"""What is read of a form's file at a time."""

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
    """Publish a body for whoever was let in, and answer once readers have it.

    Raises:
        PipeError: they do not, and the error says why.
    """
    exchange = Exchange(request, visitor)
    link = WebLink(exchange, wanted)
    async with Writer(link.open) as stream:
        await link.while_open(_upload(exchange, link, stream, wanted))
    return _answer(request, stream.receipt or Receipt(0, 0, 0), await exchange.wait_end())


def _answer(request: web.Request, receipt: Receipt, end: End) -> web.Response:
    headers = {OUTCOME: Outcome.DONE.label}
    if wants_json(request):
        response = web.json_response(receipt_as_json(receipt), headers=headers)
    else:
        response = web.Response(text=f"{end.message}\n", headers=headers)
    if request.body_exists and not request.content.is_eof():
        response.force_close()  # so that the client stops sending
    return response


async def _upload(exchange: Exchange, link: WebLink, stream: Writer, wanted: Publish) -> None:
    """Write what a client sends to its stream."""
    try:
        async for data in _pieces(exchange, link):
            await stream.write(data)
    except (RequestPayloadError, ValueError, HTTPException) as error:
        if wanted.hold and exchange.transport.is_closing():
            raise ConnectionResetError from error  # that is why, and who comes back goes on
        raise UsageError(f"the body cannot be read: {error or 'it broke off'}") from error


async def _pieces(exchange: Exchange, link: WebLink) -> AsyncIterator[bytes]:
    """A stream's bytes as they come; nothing is read while the session is paused."""
    request, content = exchange.request, exchange.request.content
    if not await link.wait_ready():
        return
    if request.content_type == "multipart/form-data":
        async for data in _pieces_of_form(exchange, link):
            yield data
        return
    exchange.offer(offer_of(request.headers, request.content_length))
    is_chunked = request.content_length is None
    while await link.wait_ready():
        # Of a body with a length each read is a chunk as it is; tiny chunks are put together.
        if is_chunked:
            data = await content.read(MAX_CHUNK_BYTES)
        else:
            data, _ = await content.readchunk()
        if not data:
            return
        yield data


async def _pieces_of_form(exchange: Exchange, link: WebLink) -> AsyncIterator[bytes]:
    """The same of a form's first file."""
    form = await exchange.request.multipart()
    part = await _find_file(form)
    exchange.offer(offer_of_part(part.headers, part.filename))
    while await link.wait_ready():
        data = await part.read_chunk(PART_READ_BYTES)
        if not data:
            await form.next()  # raises ValueError where no boundary follows: it was cut
            return
        yield data


async def _find_file(form: MultipartReader) -> BodyPartReader:
    """Read over the fields of a form up to its first file."""
    for _ in range(MAX_FIELDS):
        part = await form.next()
        if part is None:
            break
        if not isinstance(part, BodyPartReader):
            raise ValueError("a form within a form is no file")
        if part.filename is not None:
            return part
        await _skip(part)
    raise ValueError("there is no file in the form: use curl -F file=@NAME")


async def _skip(part: BodyPartReader) -> None:
    """Read over a field that is no file."""
    size = 0
    while data := await part.read_chunk():
        size += len(data)
        if size > MAX_FIELD_BYTES:
            raise ValueError("a field before the file is too long")
