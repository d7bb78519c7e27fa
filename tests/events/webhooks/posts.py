"""A poster that keeps what it is given, and answers as a test says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from pipe.events.webhooks.posting import Answer, Result
from tests.e2e.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GOOD = Answer(Result.DELIVERED, "answered 200", 200)
BAD = Answer(Result.REFUSED, "answered 500", 500)
GONE = Answer(Result.GONE, "answered 410", 410)


class Post(NamedTuple):
    """What was sent."""

    user: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class FakePoster:
    """Answers with ``answer``, once ``open`` is set."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answer = GOOD
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = 0
        self.most = 0
        self.closed = False
        self._came = asyncio.Condition()

    async def post(self, user: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Keep it."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            self.posts.append(Post(user, url, headers, body))
            async with self._came:
                self._came.notify_all()
            await self.open.wait()
            return self.answer
        finally:
            self.under_way -= 1

    def itself(self) -> FakePoster:
        """What `Webhooks.make_poster` is to be."""
        return self

    async def close(self) -> None:
        """Note it."""
        self.closed = True

    async def wait(self, count: int) -> list[bytes]:
        """Return the bodies, once there are so many."""
        async with asyncio.timeout(DEADLINE), self._came:
            await self._came.wait_for(lambda: len(self.posts) >= count)
        return [post.body for post in self.posts]


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so that has no event."""
    async with asyncio.timeout(DEADLINE):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
