"""``/api/logs``: log lines in, from shippers, and out, to whom they are about."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from pipe.commands.logs import require_logs
from pipe.errors import AccessDenied, Outcome, PipeError, UsageError
from pipe.events.logs.batches import JSON_TYPE, LINE_TYPES, MAX_BATCH_BYTES, TooMuch, split, unpack
from pipe.language.log_requests import Logs
from pipe.library.ends import end_of
from pipe.library.streams import Reader
from pipe.rights.grants import Operation
from pipe.web.caller import admit
from pipe.web.calls import CALLS
from pipe.web.link import WebLink
from pipe.web.parts import PARTS
from pipe.web.session import Exchange
from pipe.web.statuses import OUTCOME, NotFound, refusal
from pipe.web.streams.options import choice, read_flags
from pipe.web.streams.sse import CONTENT_TYPE as EVENTS_TYPE
from pipe.web.streams.sse import write_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.language.names import TopicName
    from pipe.language.progress_requests import Top
    from pipe.rights.callers import Caller
    from pipe.service import Service

REJECTED = "Pipe-Rejected"
"""The header that counts what was no line."""

MAX_BATCHES = 16
"""Bodies that may be on their way: together at most 32 MiB.  They are read one after the other, as
a body takes some six times its size meanwhile."""

BODY_SECONDS = 30.0
"""How long a body may take to come."""

STEP_SECONDS = 0.002
"""How long a body is read before others have their turn."""

RETRY_SECONDS = 2
"""When a shipper that is told to come back should."""

NDJSON = "application/x-ndjson"

HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",
}


class _Batch(NamedTuple):
    """What was in a body: its lines, and how many things that are none."""

    lines: list[bytes]
    rejected: int


class Shipping:
    """The log lines that come by HTTP."""

    def __init__(self) -> None:
        self._coming = 0
        self._reading = asyncio.Lock()

    async def take(self, request: web.Request) -> web.Response:
        """``POST /api/logs``: publish a batch on the drain's topic."""
        found = await self._take(request, otlp=False)
        if isinstance(found, web.Response):
            return found
        headers = {REJECTED: str(found.rejected)} if found.rejected else {}
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    async def take_otlp(self, request: web.Request) -> web.Response:
        """``POST /v1/logs``: the same, as OpenTelemetry's exporters do it (OTLP 1.0, section HTTP).

        They expect an object that says what was rejected.
        """
        if _content_type(request) != JSON_TYPE:
            return _unsupported(request, f"send OTLP as {JSON_TYPE}: set the encoding to json")
        found = await self._take(request, otlp=True)
        if isinstance(found, web.Response):
            return found
        rejected = str(found.rejected)  # protobuf writes long numbers as text
        partial = {"partialSuccess": {"rejectedLogRecords": rejected}} if found.rejected else {}
        return web.json_response(partial)

    async def _take(self, request: web.Request, *, otlp: bool) -> _Batch | web.Response:
        """Read and publish a body; return what was in it, or why it was not taken."""
        service = request.app[PARTS].service
        visitor = await admit(request)
        try:
            topic = _judge(service, visitor.caller)
            wrong = _what_is_wrong(request)
            if wrong:
                return wrong
            if self._coming >= MAX_BATCHES or service.logs.clogged:
                return _come_back(request)
            self._coming += 1
            try:
                body = await _receive(request)
                async with self._reading:
                    batch = await _read(request, body, otlp=otlp)
                    _judge(service, visitor.caller)  # again: that took a while
                    return await _publish(request, service, topic, batch) or batch
            except TooMuch as error:
                return _refused(request, error.message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            finally:
                self._coming -= 1
        finally:
            visitor.leave()


def _judge(service: Service, caller: Caller) -> TopicName:
    """Return the drain's topic.

    Raises:
        NotFound: there is none.
        AccessDenied: the caller may not write it.
    """
    topic = service.settings.log_drain_topic
    service.access.require(caller)
    require_logs(caller)
    if topic is None:
        raise NotFound("this server has no log drain: its operator sets one with --log-drain")
    if not service.access.decide(caller, topic, Operation.WRITE).allowed:
        raise AccessDenied(f"access denied: you may not write the log drain, {topic}")
    return topic


def _what_is_wrong(request: web.Request) -> web.Response | None:
    """Refuse a body of a kind that is not read."""
    kind = _content_type(request)
    if kind != JSON_TYPE and kind not in LINE_TYPES:
        return _unsupported(
            request, f"a body of type {kind} is not read: send lines of JSON as {NDJSON}"
        )
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in {"identity", "gzip"}:
        return _unsupported(request, "of encodings only gzip is read")
    return None


def _content_type(request: web.Request) -> str:
    """The type of the body; one that says none is taken for lines, as from syslog-ng."""
    return request.content_type if "Content-Type" in request.headers else NDJSON


def _unsupported(request: web.Request, text: str) -> web.Response:
    headers = {"Accept-Encoding": "gzip", "Accept": f"{NDJSON}, {JSON_TYPE}"}
    return _refused(request, text, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, headers)


def _refused(
    request: web.Request, text: str, status: HTTPStatus, headers: Mapping[str, str] | None = None
) -> web.Response:
    return refusal(request, end_of(Outcome.USAGE, text), status, headers)


def _come_back(request: web.Request) -> web.Response:
    """Refuse for now: shippers keep the batch and send it again."""
    text = "the log drain is full: send it again"
    end = end_of(Outcome.UNAVAILABLE, text)
    return refusal(request, end, headers={"Retry-After": str(RETRY_SECONDS)})


async def _receive(request: web.Request) -> bytearray:
    """Take a body as it comes.

    Raises:
        TooMuch: there is too much of it.
        UsageError: it does not come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while data := await request.content.readany():
                body += data
                if len(body) > MAX_BATCH_BYTES:
                    raise TooMuch(f"the body has more than {MAX_BATCH_BYTES} bytes")
    except TimeoutError:
        raise UsageError(f"the body did not come within {BODY_SECONDS:g} s") from None
    return body


async def _read(request: web.Request, body: bytearray, *, otlp: bool) -> _Batch:
    """Read a body, giving way to others.

    Raises:
        TooMuch: there is too much in it.
        UsageError: it cannot be read.
    """
    turn = _Turn()
    lines: list[bytes] = []
    size = rejected = 0
    if request.headers.get("Content-Encoding", "").lower() == "gzip":
        packed, body = bytes(body), bytearray()
        for piece in unpack(packed):
            body += piece
            await turn.give_way()
    for line in split(_content_type(request), bytes(body), otlp=otlp):
        if line:
            lines.append(line)
            size += len(line)
            if size > MAX_BATCH_BYTES + 1:  # a newline more than there was
                raise TooMuch(f"the lines have more than {MAX_BATCH_BYTES} bytes, escapes and all")
        elif line is None:
            rejected += 1
        await turn.give_way()
    return _Batch(lines, rejected)


class _Turn:
    """A request's turn of the event loop."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + STEP_SECONDS

    async def give_way(self) -> None:
        """Let others have theirs, once this has lasted long enough."""
        if time.monotonic() > self._ends:
            await asyncio.sleep(0)
            self._ends = time.monotonic() + STEP_SECONDS


async def _publish(
    request: web.Request, service: Service, topic: TopicName, batch: _Batch
) -> web.Response | None:
    """Publish a batch on the drain's topic, or return why that cannot be."""
    if batch.rejected and not batch.lines:
        text = f"none of {batch.rejected} lines is a JSON object of at most 64 KiB"
        headers = {REJECTED: str(batch.rejected)}
        return _refused(request, text, HTTPStatus.BAD_REQUEST, headers)
    if batch.lines and not await service.announce(topic, b"".join(batch.lines)):
        return _come_back(request)  # also if nobody knows: better twice than not at all
    return None


# -- lines go out -------------------------------------------------------------------------------


async def read(request: web.Request) -> web.StreamResponse:
    """``GET /api/logs``: what ``logs`` prints, as lines of JSON or as events."""
    fields, extras = read_flags(request, Logs, {"format": choice("ndjson", "sse")})
    sse = extras.get("format") == "sse" or (
        "format" not in extras and "text/event-stream" in request.headers.get("Accept", "")
    )
    return await serve(request, Logs(**fields), sse=sse)


async def serve(request: web.Request, wanted: Logs | Top, *, sse: bool) -> web.StreamResponse:
    """Answer with lines, at once or as long as they come.

    Raises:
        PipeError: there are none, and the error says why.
    """
    exchange = Exchange(request, await admit(request))
    async with Reader(WebLink(exchange, wanted).open) as stream:
        request.app[CALLS].take(exchange.visitor.caller.user, asyncio.get_running_loop().time())
        await exchange.wait_joined()
        if not exchange.follows:
            data = exchange.answered.encode()
            headers = {**HEADERS, "Content-Type": EVENTS_TYPE if sse else NDJSON, OUTCOME: "done"}
            return web.Response(body=_events(data) if sse else data, headers=headers)
        if sse:
            return await write_events(exchange, stream, HEADERS, _events)
        response = await exchange.begin({**HEADERS, "Content-Type": NDJSON})
        try:
            async for lines in stream:
                exchange.write(lines)
        except PipeError:
            await exchange.break_off()
        return await exchange.conclude(response)


def _events(lines: bytes) -> bytes:
    """Write each line as an event."""
    return b"".join(b"data: %b\n\n" % line for line in bytes(lines).splitlines())
