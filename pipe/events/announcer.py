"""Short streams of the server's own: an event, an alert.

An announcement is published as ``pub -b=false`` does it: whoever reads the topic now gets it, and
nobody who comes later.  One with a ``hold`` waits so long for a first reader.  It waits too while a
reader of its topic is clogged, as any publisher does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.stream.ports import Receipt
    from pipe.stream.router import Router

MAX_WAITING = 100
"""Announcements that wait for one topic's readers; more are dropped."""

MAX_BYTES = 64 << 20
"""Bytes of all announcements that wait."""

MAX_OWNER_BYTES = 4 << 20
"""Bytes of those in one user's space, so that nobody has all the room."""

OVERHEAD_BYTES = 4096
"""What each takes beside its data: its topic, above all."""


class Announcer:
    """Publishes what the server itself has to say.

    Args:
        router: where.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._waiting: Counter[TopicName] = Counter()
        self._bytes: Counter[str] = Counter()  # by owner
        self._total = 0

    def announce(
        self,
        topic: TopicName,
        data: bytes,
        hold: float = 0.0,
        admit: Callable[[int], bool] = lambda _: True,
    ) -> bool:
        """Publish one short stream.

        Args:
            topic: Where; whether that is allowed has been decided.
            data: The whole stream.
            hold: How many seconds to wait for a reader, if there is none.
            admit: Asked when it is about to be sent, with how many read it: whether it still may
                be.  If not, it breaks.  Without a hold and clogged readers this is asked at once.

        Returns:
            False if too much waits already, and this was dropped.
        """
        size = len(data) + OVERHEAD_BYTES
        owned = self._bytes[topic.owner] + size
        if (
            self._waiting[topic] >= MAX_WAITING
            or owned > MAX_OWNER_BYTES
            or self._total + size > MAX_BYTES
        ):
            return False
        self._waiting[topic] += 1
        self._bytes[topic.owner] += size
        self._total += size
        announcement = _Announcement(
            self._router, data, admit, partial(self._over, topic, size), waits=hold > 0
        )
        announcement.begin(topic, hold)
        return True

    def _over(self, topic: TopicName, size: int) -> None:
        self._waiting[topic] -= 1
        if not self._waiting[topic]:
            del self._waiting[topic]
        self._total -= size
        self._bytes[topic.owner] -= size
        if not self._bytes[topic.owner]:
            del self._bytes[topic.owner]


class _Announcement:
    """One of them: the router's source."""

    def __init__(
        self,
        router: Router,
        data: bytes,
        admit: Callable[[int], bool],
        over: partial[None],
        *,
        waits: bool,
    ) -> None:
        self._router = router
        self._data = data
        self._admit = admit
        self._over = over
        self._sent = False
        self._timer: asyncio.TimerHandle | None = None
        self._member = Member(Mode.PUBLISH, source=self, wants=1 if waits else 0)

    def begin(self, topic: TopicName, hold: float) -> None:
        """Join the topic, for ``hold`` seconds at most until a reader comes."""
        if hold:
            self._timer = asyncio.get_running_loop().call_later(hold, self._leave)
        self._router.join(self._member, topic)

    def pause(self) -> None:
        """There is only one chunk, and it is sent in `resume`."""

    def resume(self) -> None:
        """Send all of it."""
        if self._sent:
            return
        self._sent = True
        if self._timer:
            self._timer.cancel()
        if not self._admit(self._readers):
            self._leave()
            return
        self._router.publish(self._member, Chunk(self._data))
        self._router.end(self._member)

    @property
    def _readers(self) -> int:
        topic = self._member.topic
        return len(topic.readers) if topic else 0

    def waits(self, missing: int) -> None:
        """There is nobody to tell."""

    def finish(self, receipt: Receipt) -> None:  # noqa: ARG002 - nobody reads it
        """It has arrived."""
        self._leave()

    def _leave(self) -> None:
        self._router.leave(self._member)
        self._over()
