"""Shows a user once a second how far the stream is, if they asked for it.

It reads the member's counters; the data path knows nothing of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from pipe.commands.layout import count
from pipe.commands.progress_line import MAX_NAMES, Figures, progress_line
from pipe.language.requests import Publish, Subscribe
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.language.requests import Pipe
    from pipe.rights.callers import Caller
    from pipe.stream.topics import Member, Topic

INTERVAL_SECONDS = 1.0

RATE_LOOKS = 10
"""Looks that a rate is measured over: a buffer that fills and empties makes it jump."""


def show_progress(
    display: Display, member: Member, caller: Caller, request: Publish | Subscribe | Pipe
) -> Progress | None:
    """Begin to show how far a stream is, if its request asks for that."""
    if request.progress or request.size is not None:
        return Progress(display, member, caller, request.size, _before(request))
    return None


def _before(request: Publish | Subscribe | Pipe) -> int:
    """How many bytes of the stream the client says that it needs no more."""
    if isinstance(request, Publish):
        return request.at or 0
    return request.offset or 0 if isinstance(request, Subscribe) else 0


class Display(Protocol):
    """Where the line is shown: a `pipe.session.front.Front`."""

    def draw(self, line: str, *, last: bool) -> None:
        """Show a line in place of the one before."""


class Progress:
    """The line of one session, from its joining to its end.

    Args:
        display: shows it.
        member: whose counters it reads.
        caller: the user, who may not know everybody there.
        size: how many bytes the stream will have, if the user said so.
        before: how many of them came before this session's.
    """

    def __init__(
        self,
        display: Display,
        member: Member,
        caller: Caller,
        size: int | None,
        before: int = 0,
    ) -> None:
        self._display = display
        self._member = member
        self._caller = caller
        self._size = size
        self._before = before
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()  # when it last had no byte
        self._looks = deque([(self._begun, 0)], maxlen=RATE_LOOKS)
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        moved = self._moved(self._member.written_bytes)
        if not moved:
            self._begun = now
            self._looks.clear()
        since, before = self._looks[0] if self._looks else (now, moved)
        self._looks.append((now, moved))
        rate = (moved - before) / max(now - since, 0.001)
        self._display.draw(progress_line(self._figures(moved, rate)), last=False)
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._look)

    def finish(self) -> None:
        """Show the last state, which stays; its rate is the average.

        What a reader has yet to be sent counts, as the stream's end comes after it.
        """
        self._timer.cancel()
        moved = self._moved(self._member.accepted_bytes)
        seconds = max(self._loop.time() - self._begun, 0.001)
        figures = self._figures(moved, moved / seconds, over=True)
        self._display.draw(progress_line(figures), last=True)

    def _moved(self, read: int) -> int:
        member = self._member
        return read if member.mode is Mode.SUBSCRIBE else member.received_bytes

    def _figures(self, moved: int, rate: float, *, over: bool = False) -> Figures:
        member = self._member
        there, held_up = "", False
        holders: tuple[str, ...] = ()
        if not over:
            there = self._who_is_there()
            holding = list(islice(self._holding(), MAX_NAMES + 1))
            held_up = bool(holding)
            if member.topic and self._knows(member.topic):
                holders = tuple(sorted({one.user or "the server" for one in holding}))
        return Figures(
            moved=moved,
            rate=rate,
            seconds=self._loop.time() - self._begun,
            size=self._size,
            before=self._before,
            read=member.written_bytes if member.mode is Mode.PIPE else None,
            there=there,
            missing=0 if over else member.waiting,
            held_up=held_up,
            holders=holders,
            drains=bool(member.awaits),
            own=not over and member.clogged,
        )

    def _knows(self, topic: Topic) -> bool:
        """Only a topic's owner, and admins, know who is there."""
        return self._caller.admin or topic.name.owner == self._caller.user

    def _who_is_there(self) -> str:
        member = self._member
        topic = member.topic
        if member.awaits:
            return count(len(member.awaits), "reader")
        if topic is None:
            return count(len(member.topics), "topic") if member.topics else "no topic"
        if member.mode is Mode.SUBSCRIBE:
            return count(len(topic.publishers), "publisher")
        return count(topic.readers_of(member), "reader")

    def _holding(self) -> Iterable[Member]:
        """Readers that publishers wait for; after the end of its input, those yet to confirm."""
        member, topic = self._member, self._member.topic
        if topic is None:
            return ()
        if member.awaits:
            return member.awaits
        stopped = member in topic.stopped if member.source else bool(topic.stopped)
        return (one for one in topic.clogged if one is not member) if stopped else ()
