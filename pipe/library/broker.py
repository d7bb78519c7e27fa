"""Topics in a program's own process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.language.names import TopicName, parse_pattern, parse_topic, random_path
from pipe.language.requests import Publish, Subscribe
from pipe.library.seat import Outlet, Seat
from pipe.library.verbs import TopicInfo, Verbs
from pipe.session.midstream import what_it_missed
from pipe.session.past import place_in_the_past, what_is_kept, what_it_gets
from pipe.session.place import check_pattern, make_member
from pipe.stream.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import Pattern
    from pipe.language.requests import List, Pipe
    from pipe.library.streams import Link
    from pipe.stream.statistics import Statistics, TopicStatistics

OWNER = "local"
"""Whose space names without a slash are in.  Nobody asks who may do what: it is one program."""

BUFFER_BYTES = 1 << 20
"""What a reader may have waiting before it holds its publishers up: the server's default."""

STALL_SECONDS = 60.0
"""How long a reader may take nothing while others wait for it: the server's default."""


class Broker(Verbs):
    """Topics in this process, with all laws of a stream, and neither network nor accounts.

    It belongs to the event loop that it is first used in.

    >>> import asyncio, pipe
    >>> async def main():
    ...     broker = pipe.Broker()
    ...     async def write():
    ...         async with broker.publish("build") as stream:
    ...             await stream.write(b"compiling")
    ...         return stream.receipt
    ...     writer = asyncio.create_task(write())
    ...     async for piece in broker.subscribe("build"):
    ...         print(piece)
    ...     print(await writer)
    >>> asyncio.run(main())
    b'compiling'
    Receipt(sent_bytes=9, subscribers=1, left_early=0)

    Args:
        buffer: Bytes that a reader may have waiting, before it holds up its publishers or, if it
            asked for that, misses what comes.
        stall_timeout: Seconds after which a reader that takes nothing, while others of its topic
            wait for it, is `CutOff`.
        on_status: Called with each line about a stream that the commands show on stderr.
    """

    def __init__(
        self,
        *,
        buffer: int = BUFFER_BYTES,
        stall_timeout: float = STALL_SECONDS,
        on_status: Callable[[str], None] | None = None,
    ) -> None:
        self._buffer = buffer
        self._stall_timeout = stall_timeout
        self._tell = on_status or _ignore
        self._lingering: dict[TopicName, asyncio.TimerHandle] = {}
        self._router = Router(clock=_now, lingers=self._linger)

    def statistics(self) -> Statistics:
        """Return the figures of all topics and members, those that have left included."""
        return self._router.statistics()

    async def _topics(self, request: List) -> list[TopicInfo]:
        wanted = parse_pattern(request.pattern, caller=OWNER) if request.pattern else None
        names = (name for name in self._router.names() if wanted is None or _is(wanted, name))
        return [_info(found) for name in sorted(names) if (found := self._router.topic(name))]

    async def _open(self, request: Publish | Subscribe | Pipe) -> Link:
        raw = request.topic or random_path()
        parse_name = parse_pattern if isinstance(request, Subscribe) else parse_topic
        name = parse_name(raw, caller=OWNER, public=request.public)
        seat = Seat(self._router, request, self._buffer, self._stall_timeout, self._tell)
        seat.member = make_member(request, Outlet(seat), seat)
        if isinstance(name, TopicName):
            self._join(seat, name, request)
        else:
            check_pattern(request)
            self._router.join_pattern(seat.member, name, lambda _: True)
        return seat

    def _join(self, seat: Seat, name: TopicName, request: Publish | Subscribe | Pipe) -> None:
        told = what_it_missed(self._router, name, request)
        if isinstance(request, Subscribe):
            seat.member.lag = place_in_the_past(self._router, name, request, None)
            gets = what_it_gets(seat.member.lag, name, request)
            told = gets if seat.member.lag else [*gets, *told]
        self._router.join(seat.member, name)
        for line in (*told, *what_is_kept(self._router, name, request)):
            self._tell(line)

    def _linger(self, name: TopicName, seconds: float) -> None:
        if before := self._lingering.pop(name, None):
            before.cancel()
        loop = asyncio.get_running_loop()
        self._lingering[name] = loop.call_later(seconds, self._let_go, name)

    def _let_go(self, name: TopicName) -> None:
        del self._lingering[name]
        self._router.let_go(name)


def _is(wanted: TopicName | Pattern, name: TopicName) -> bool:
    return wanted == name if isinstance(wanted, TopicName) else wanted.matches(name)


def _info(topic: TopicStatistics) -> TopicInfo:
    return TopicInfo(
        name=str(topic.name),
        publishers=topic.publishers,
        subscribers=topic.subscribers,
        pipes=topic.pipes,
        waiting=topic.waiting,
        clogged=topic.clogged,
        in_bytes=topic.received_bytes,
        out_bytes=topic.delivered_bytes,
        stream_bytes=topic.begun.stream_bytes,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _ignore(_line: str) -> None:
    """Nobody wants to know."""
