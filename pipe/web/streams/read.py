"""``GET``: the response is the stream.  It ends as it should if and only if `ssh` exits with 0."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pipe.commands.ls import find_elsewhere
from pipe.errors import AccessDenied, Outcome, PipeError, Unreachable
from pipe.language.durations import format_duration, parse_duration
from pipe.language.names import TopicName, is_pattern, parse_topic
from pipe.language.requests import Subscribe
from pipe.library.streams import Reader
from pipe.session.past import first_byte
from pipe.web.caller import admit
from pipe.web.link import WebLink
from pipe.web.offers import (
    NO_OFFER,
    check_filename,
    disposition,
    safe_filename,
    safe_type,
    the_offer,
    the_offer_on,
)
from pipe.web.parts import PARTS
from pipe.web.session import Exchange
from pipe.web.statuses import OUTCOME, NotFound, refusal_of
from pipe.web.streams.options import choice, read_options, topic_in
from pipe.web.streams.ranges import (
    LAST,
    STREAM,
    is_partial,
    read_range,
    refuse_range,
)
from pipe.web.streams.sse import Events, write_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.web.caller import Visitor

GRACE_SECONDS = 1.0
"""A session that has not begun when its time is over has so much more for that: who may not read
is told so, and not that nothing came."""

LOOK_SECONDS = 0.01

HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Accept-Ranges": "none",
    "Referrer-Policy": "no-referrer",
    "X-Accel-Buffering": "no",  # nginx would hold it back
}
"""Of each stream, whatever it is: a browser that opens it runs nothing of it, and keeps nothing."""

EXTRAS: dict[str, Callable[[str], object]] = {
    "timeout": parse_duration,
    "mime": str,
    "filename": check_filename,
    "format": choice("bytes", "sse"),
    "encoding": choice("text", "base64"),
}
"""Parameters that are no flags of ``sub``."""


async def read(request: web.Request) -> web.StreamResponse:
    """``GET /topic/T``: read a topic or pattern."""
    check_reader(request)
    wanted, extras = read_options(request, Subscribe, topic_in(request), EXTRAS)
    wanted = read_range(request, wanted)
    return await read_as(request, await admit(request), wanted, extras)


def check_reader(request: web.Request) -> None:
    """Refuse a browser that would install a stream as a program of this origin.

    Raises:
        AccessDenied: it would.
    """
    if request.headers.get("Service-Worker", "").lower() == "script":
        raise AccessDenied("access denied: a stream is no program")


async def head(request: web.Request) -> web.StreamResponse:
    """``HEAD /topic/T``: who is there; it joins nobody."""
    wanted, _ = read_options(request, Subscribe, topic_in(request), EXTRAS)
    visitor = await admit(request)
    try:
        parts, caller = request.app[PARTS], visitor.caller
        name = parse_topic(wanted.topic, caller=caller.user, public=wanted.public)
        if not parts.service.access.sees(caller, name):
            raise AccessDenied(f"access denied: {name} is not shared with you")
        there = await _who_is_on(parts.service, caller, name)
    finally:
        visitor.leave()
    if there is None:
        raise NotFound(f"nobody is on {name}")
    publishers, subscribers, pipes = there
    counts = {
        "Pipe-Publishers": str(publishers + pipes),
        "Pipe-Subscribers": str(subscribers + pipes),
    }
    return web.Response(headers={**HEADERS, **counts, OUTCOME: Outcome.DONE.label})


async def _who_is_on(
    service: Service, caller: Caller, name: TopicName
) -> tuple[int, int, int] | None:
    """How many publish, subscribe and do both on a topic in any worker; None if it is not there."""
    topic = service.router.topic(name)
    if topic:
        return topic.publishers, topic.subscribers, topic.pipes
    rows, missing = await find_elsewhere(service, caller, str(name))
    if name in rows:
        facts = rows[name].facts
        return facts["publishers"], facts["subscribers"], facts["pipes"]
    if missing:
        raise Unreachable(f"worker {', '.join(missing)} does not answer: try again")
    return None


async def read_as(
    request: web.Request, visitor: Visitor, wanted: Subscribe, extras: dict[str, Any]
) -> web.StreamResponse:
    """Read for whoever was let in."""
    sse = extras.get("format") == "sse" or (
        "format" not in extras and "text/event-stream" in request.headers.get("Accept", "")
    )
    exchange = Exchange(request, visitor)
    async with Reader(WebLink(exchange, wanted).open) as stream:
        if sse:
            await exchange.wait_joined()
            events = Events(base64=extras.get("encoding") == "base64")
            return await write_events(exchange, stream, HEADERS, events.event, events.last)
        return await _Reading(exchange, wanted, extras).run(stream)


class _Reading:
    """One response with a stream."""

    __slots__ = ("_exchange", "_extras", "_first_byte", "_offer", "_response", "_timer", "_wanted")

    def __init__(self, exchange: Exchange, wanted: Subscribe, extras: dict[str, Any]) -> None:
        self._exchange = exchange
        self._wanted = wanted
        self._extras = extras
        self._offer = NO_OFFER
        self._first_byte: tuple[str, int] | None = None
        self._response: web.StreamResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        exchange.port.on_first = self._first
        if "timeout" in extras:
            seconds: float = extras["timeout"]
            self._timer = asyncio.get_running_loop().call_later(seconds, self._give_up, seconds)

    def _first(self) -> None:
        """The first chunk has come; who publishes it is there now."""
        self._stop_timer()
        exchange = self._exchange
        caller = exchange.visitor.caller.user
        if not is_pattern(self._wanted.topic):
            name: TopicName = parse_topic(
                self._wanted.topic, caller=caller, public=self._wanted.public
            )
            session, offers = exchange.session, exchange.parts.offers
            if session.facts:
                self._offer = the_offer_on(offers, name) if session.facts.alone else NO_OFFER
                self._first_byte = session.facts.first
            elif session.member:
                members = exchange.parts.service.router.members(name)
                self._offer = the_offer(offers, members)
                self._first_byte = first_byte(session.member)

    def _give_up(self, seconds: float, grace: float = GRACE_SECONDS) -> None:
        exchange = self._exchange
        if grace > 0 and not exchange.session.topic and not exchange.end:  # it has not begun
            loop = asyncio.get_running_loop()
            left = grace - LOOK_SECONDS
            self._timer = loop.call_later(LOOK_SECONDS, self._give_up, seconds, left)
            return
        exchange.session.end(
            Outcome.TIMEOUT, f"gave up: nothing came within {format_duration(seconds)}"
        )

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    async def run(self, stream: Reader) -> web.StreamResponse:
        """Write all of it, then its end."""
        exchange = self._exchange
        try:
            if self._wanted.keep_alive or is_pattern(self._wanted.topic):
                await exchange.wait_joined()
                await self._begin()
            async for piece in stream:
                if not self._response:
                    await self._begin()
                exchange.write(piece)
            response = self._response or await self._begin()
        except PipeError as error:
            if not self._response:
                return await exchange.conclude(self._refusal(error))
            response = self._response
            await exchange.break_off()
        finally:
            self._stop_timer()
        return await exchange.conclude(response)

    async def _begin(self) -> web.StreamResponse:
        status = HTTPStatus.PARTIAL_CONTENT if self._is_partial else HTTPStatus.OK
        self._response = await self._exchange.begin(self._headers(), status)
        self._exchange.port.direct = self._exchange.write
        return self._response

    def _headers(self) -> dict[str, str]:
        kind = self._extras.get("mime") or self._offer.content_type
        filename = self._extras.get("filename") or safe_filename(self._offer.filename)
        headers = {**HEADERS, "Content-Type": safe_type(kind)}
        if filename:
            headers["Content-Disposition"] = disposition(filename)
        if self._offer.length is not None:
            headers["Pipe-Length"] = str(self._offer.length)
        if self._first_byte:
            stream, number = self._first_byte
            headers[STREAM], headers["Pipe-Offset"] = stream, str(number)
            if self._is_partial:
                headers["Content-Range"] = f"bytes {number}-{LAST}/*"
        return headers

    @property
    def _is_partial(self) -> bool:
        """Whether the client asked for a part of a stream, and gets it."""
        request = self._exchange.request
        return self._first_byte is not None and is_partial(request, self._wanted)

    def _refusal(self, error: PipeError) -> web.Response:
        request, exchange = self._exchange.request, self._exchange
        if not is_partial(request, self._wanted):
            return refusal_of(request, error)
        name: TopicName = parse_topic(
            self._wanted.topic, caller=exchange.visitor.caller.user, public=self._wanted.public
        )
        if exchange.session.facts:
            return refuse_range(request, error, exchange.session.facts.kept)
        history = exchange.parts.service.router.history(name)
        return refuse_range(request, error, history.kept[:3] if history else None)
