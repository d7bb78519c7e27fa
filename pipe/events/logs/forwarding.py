"""Lines of this worker's own on their way to the worker that has the log lines.

They are sent in batches, one at a time; what finds the queue full is dropped and counted.  So a
worker that answers slowly, or not at all, holds nobody up and costs a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pipe.errors import PipeError
from pipe.events.logs.lines import cut, to_json
from pipe.events.logs.rings import LINE_COST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Value: TypeAlias = str | int | float | bool | None

MAX_BYTES = 1 << 20
"""Lines that wait to be sent, each with `LINE_COST`: some 3,000."""

MAX_BYTES_BY_STRANGERS = MAX_BYTES // 8
"""Of these, how many may tell of what strangers do, of which there may be any number."""

BATCH_BYTES = 256 * 1024
"""How much is sent at once: it goes in one frame, and takes its reader some milliseconds."""

PAUSE_SECONDS = 0.5
"""How long to wait after lines could not be sent: the next worker takes over within a second."""


class OwnLine(NamedTuple):
    """A line of the server's own about a user.

    ``time`` is in seconds since 1970.  With ``by_stranger`` it tells of somebody who has not
    proved to be that user.
    """

    time: float
    user: str
    level: str
    text: str
    fields: dict[str, Value]
    by_stranger: bool

    @classmethod
    def make(
        cls,
        time: float,
        user: str,
        level: str,
        text: str,
        fields: Mapping[str, object],
        *,
        by_stranger: bool = False,
    ) -> OwnLine:
        """Make one that can be sent: long values are cut, and others than JSON has are text."""
        values = {name: _plain(value) for name, value in fields.items()}
        return cls(time, _valid(user), level, text, values, by_stranger)


class OwnLines(NamedTuple):
    """Some of them, oldest first, and how many before these were dropped."""

    lines: tuple[OwnLine, ...]
    dropped: int = 0


class Forwarder:
    """What waits to be sent.

    Args:
        send: hands lines over; raises PipeError if it is not known that they have arrived.
    """

    def __init__(self, send: Callable[[OwnLines], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: deque[tuple[OwnLine, int]] = deque()
        self._bytes = {False: 0, True: 0}  # of lines that wait, by strangers or not
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, line: OwnLine) -> None:
        """Send a line soon, if there is room for it."""
        size = len(to_json(line.fields)) + LINE_COST
        most = MAX_BYTES_BY_STRANGERS if line.by_stranger else MAX_BYTES
        if self._bytes[line.by_stranger] + size > most:
            self._dropped += not line.by_stranger
            return
        self._bytes[line.by_stranger] += size
        self._waiting.append((line, size))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            lines = self._take_some()
            try:
                await self._send(lines)
            except PipeError:  # they may have arrived, so they are not sent again
                self._dropped += lines.dropped + sum(not one.by_stranger for one in lines.lines)
                await asyncio.sleep(PAUSE_SECONDS)
        self._task = None

    def _take_some(self) -> OwnLines:
        some: list[OwnLine] = []
        total = 0
        while self._waiting and total < BATCH_BYTES:
            line, size = self._waiting.popleft()
            self._bytes[line.by_stranger] -= size
            total += size
            some.append(line)
        dropped, self._dropped = self._dropped, 0
        return OwnLines(tuple(some), dropped)


def _plain(value: object) -> Value:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _valid(str(cut(str(value))))


def _valid(text: str) -> str:
    """Replace what is not Unicode, as it is in the end."""
    return text.encode("utf-8", "replace").decode()
