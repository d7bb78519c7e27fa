"""Streams that go on after a lost connection, or after a restart of the server.

A reader asks to be told where in the stream it begins, counts, and goes on there as long as the
ring has it.  A publisher has its stream held (``--hold``), keeps what it sent last, and goes on
with the byte that the server asks for.  Where that cannot be, what may be lost is told, and who
must not lose anything ends with `ConnectionLost`.  A `pipe` joins again: nobody knows what it has
missed, nor how much of what it wrote has arrived, so nothing is written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pipe.errors import Outcome, PipeError, TooLate
from pipe.language.names import PUBLIC, is_pattern, random_path
from pipe.language.past import Last
from pipe.language.requests import OnSlow, Pipe, Publish, Subscribe
from pipe.library.ends import ConnectionLost, End, LoginRefused, Unavailable, end_by, end_of
from pipe.library.streams import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipe.client.lines import Lines

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
"""How long to wait before trying again: it doubles, and a part of it is left to chance, so that
those whom a restart has thrown out do not all come back at once."""

HOLD_SECONDS = 300.0
"""How long a publisher's stream stands without it."""

KEPT_BYTES = 8 << 20
"""What a publisher keeps of what it has sent: more than a server's window, the channel's buffer and
what was not published when the connection broke."""


class ResumableLink(Link, Protocol):
    """A link over which lines come, too."""

    lines: Lines


class Opener(Protocol):
    """What a way does for it."""

    holds: bool
    """Whether a publisher's stream can be held."""

    async def open(self, request: Publish | Subscribe | Pipe) -> ResumableLink:
        """Begin a stream."""

    async def answer(self, command: str, stdin: bytes) -> str:
        """Run a command."""


def delays() -> Iterator[float]:
    """Seconds to wait before each further try."""
    longest = FIRST_SECONDS
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - it may be guessed
        longest = min(2 * longest, LONGEST_SECONDS)


def is_passing(end: End) -> bool:
    """Whether an end is the connection's or the server's, and may pass."""
    return end.lost or end.outcome in {Outcome.SHUTDOWN, Outcome.UNAVAILABLE}


async def open_resumable(
    way: Opener, request: Publish | Subscribe | Pipe, tell: Callable[[str], None]
) -> Link:
    """Begin a stream that goes on."""
    stream: Reading | Writing | Talking
    if isinstance(request, Subscribe):
        stream = Reading(way, request, tell)
    elif isinstance(request, Publish):
        stream = Writing(way, request, tell)
    else:
        stream = Talking(way, request, tell)
    await stream.begin()
    return stream


def _full_name(request: Publish) -> str:
    """The name for commands that have no flag ``-p``."""
    topic = str(request.topic)
    return f"{PUBLIC}/{topic.removeprefix(f'{PUBLIC}/')}" if request.public else topic


class _Resumed:
    """What both directions share."""

    _link: ResumableLink

    def __init__(self, way: Opener, tell: Callable[[str], None]) -> None:
        self._way = way
        self._tell = tell
        self._end: End | None = None
        self._over = asyncio.Event()

    async def _open(self, request: Publish | Subscribe | Pipe) -> ResumableLink:
        """Open it as soon as there is a server."""
        for delay in delays():
            try:
                return await self._way.open(request)
            except LoginRefused:
                raise
            except (ConnectionLost, Unavailable) as error:
                await self._rest(error.message, delay)
        raise AssertionError

    async def _rest(self, why: str, delay: float) -> None:
        self._tell(f"{why}; trying again in {delay:.1f}s")
        await asyncio.sleep(delay)

    def _finish(self, end: End) -> None:
        self._end = self._end or end
        self._over.set()

    async def abort(self) -> None:
        """Leave now."""
        self._finish(LEFT)
        await self._link.abort()

    def drop(self) -> None:
        """The same from wherever it is forgotten."""
        self._link.drop()


LEFT = end_of(Outcome.LEFT, "the program has left this stream")


class Reading(_Resumed):
    """A reader's stream."""

    def __init__(self, way: Opener, request: Subscribe, tell: Callable[[str], None]) -> None:
        super().__init__(way, tell)
        self._request = request
        self._numbered = not (is_pattern(request.topic) or request.on_slow is OnSlow.DROP)
        self._stays = request.keep_alive or is_pattern(request.topic)
        self._next: tuple[int, str] | None = None  # the byte that comes next, of which stream
        self._received = 0
        self._received_here = 0  # over the link that is open

    async def begin(self) -> None:
        """Open it, so that the server tells where it begins."""
        request = self._request
        asks = request.last is not None or request.offset is not None or request.whole
        if self._numbered and not asks:
            request = self._request = replace(request, last=Last(0))
        self._link = await self._open(request)

    async def receive(self) -> bytes:
        """Return the next bytes, wherever they come from."""
        while not self._end:
            data = await self._link.receive()
            if data:
                self._received += len(data)
                self._received_here += len(data)
                return data
            end = await self._link.wait_end()
            try:
                if not await self._goes_on(end):
                    self._finish(end)
            except PipeError as error:
                self._finish(end_by(error))
        return b""

    async def _goes_on(self, end: End) -> bool:
        """Go on, if that end is none, and return whether it does."""
        gone = self._next and self._stays and end.outcome is Outcome.LATE
        if not (gone or is_passing(end)):
            return False
        begins = self._link.lines.begins
        if gone or not self._numbered:
            self._next = None
        elif begins:
            self._next = begins[0] + self._received_here, begins[1]
        elif self._received_here:
            self._next = None
        # Otherwise the link broke before it said where it began: what was known still holds.
        if self._next:
            offset, stream = self._next
            wanted = replace(self._request, last=None, offset=offset, stream=stream)
        elif self._stays or not self._received:
            wanted = self._request
            if self._received:
                self._tell("what came meanwhile is lost")
            if self._received and not gone:  # it has had what it asked for of the past
                wanted = replace(wanted, last=None, offset=None, stream=None)
        else:
            return False
        await self._link.abort()
        await self._rest(end.message, next(delays()))
        self._link = await self._open(wanted)
        if self._end:  # the program has left meanwhile
            await self._link.abort()
        self._received_here = 0
        return True

    async def wait_end(self) -> End:
        """Wait until it is over."""
        await self._over.wait()
        return self._end or LEFT

    async def send(self, data: bytes) -> None:
        """A reader sends nothing."""

    async def send_eof(self) -> None:
        """Nor does it end anything."""
        await self._link.send_eof()


class Writing(_Resumed):
    """A publisher's stream."""

    def __init__(self, way: Opener, request: Publish, tell: Callable[[str], None]) -> None:
        super().__init__(way, tell)
        self._request = replace(
            request,
            topic=request.topic or random_path(),
            hold=request.hold or (HOLD_SECONDS if way.holds else 0.0),
        )
        self._name = _full_name(self._request)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._sent = 0  # bytes of the stream, from its first
        self._all = False
        self._turn = asyncio.Lock()  # of whoever uses the link
        self._tries = delays()

    async def begin(self) -> None:
        """Open it, and watch it."""
        self._link = await self._open(self._request)
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def send(self, data: bytes) -> None:
        """Send bytes; those that a lost connection swallows are sent again.

        Raises:
            PipeError: the stream has ended.
        """
        async with self._turn:
            if self._end:
                self._end.check()
            self._keep(data)
            try:
                await self._link.send(data)
            except (ConnectionLost, Unavailable):
                return  # whoever watches goes on, with these bytes
        self._tries = delays()

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        self._sent += len(data)
        while self._kept_bytes - len(self._kept[0]) >= KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    async def send_eof(self) -> None:
        """Everything is sent."""
        async with self._turn:
            self._all = True
            await self._link.send_eof()

    async def receive(self) -> bytes:
        """Return what a server has to say to a publisher: nothing."""
        await self._over.wait()
        return b""

    async def wait_end(self) -> End:
        """Wait until it is over; its receipt counts the whole stream."""
        await self._over.wait()
        end = self._end or LEFT
        if end.receipt:
            return end._replace(receipt=replace(end.receipt, sent_bytes=self._sent))
        return end

    async def abort(self) -> None:
        """Leave now."""
        self._watcher.cancel()
        await super().abort()

    def drop(self) -> None:
        """The same from wherever it is forgotten."""
        self._watcher.cancel()
        super().drop()

    async def _watch(self) -> None:
        while not self._end:
            end = await self._link.wait_end()
            refused = end.outcome is Outcome.LATE  # it was asked to go on with another byte
            if not (refused or is_passing(end)):
                self._finish(end)
                return
            async with self._turn:
                try:
                    await self._go_on(end)
                except PipeError as error:
                    self._finish(end_by(error))

    async def _go_on(self, end: End) -> None:
        started = self._link.lines.started or not self._request.block
        await self._rest(end.message, next(self._tries))
        taken = await self._ask_taken()
        if taken is None:
            await self._begin_anew(nothing_taken=not started)
            return
        first = self._sent - self._kept_bytes
        if not first <= taken <= self._sent:
            raise ConnectionLost(f"cannot go on with byte {taken}: from {first} on it is kept here")
        self._link = await self._open(replace(self._request, at=taken))
        await self._send_again(taken - first)

    async def _ask_taken(self) -> int | None:
        """Ask which byte comes next; None: the stream is not there any more."""
        if not self._way.holds:
            return None
        for delay in delays():
            try:
                return int(await self._way.answer(f"offset -- {self._name}", b""))
            except TooLate:
                return None
            except LoginRefused:
                raise
            except (ConnectionLost, Unavailable) as error:
                await self._rest(error.message, delay)
        raise AssertionError

    async def _begin_anew(self, *, nothing_taken: bool) -> None:
        whole_here = self._sent == self._kept_bytes
        if nothing_taken and whole_here:
            self._link = await self._open(self._request)
            await self._send_again(0)
            return
        if self._request.whole or self._all:
            raise ConnectionLost("the connection is lost, and the server has not kept the stream")
        self._tell("a new stream begins: what was on its way is lost")
        self._kept.clear()
        self._kept_bytes = self._sent = 0
        self._link = await self._open(self._request)

    async def _send_again(self, skipped: int) -> None:
        """Send what is kept, but its first bytes, and the end if that was sent."""
        try:
            for data in list(self._kept):
                if skipped < len(data):
                    await self._link.send(data[skipped:])
                skipped = max(0, skipped - len(data))
            if self._all:
                await self._link.send_eof()
        except (ConnectionLost, Unavailable, TooLate):
            pass  # whoever watches tries again


class Talking(_Resumed):
    """A `pipe`: whoever notices that the connection is lost, its reader or its writer, joins again.

    Writes wait for that.  The one during which the connection broke counts as sent, as a part of it
    may be.
    """

    def __init__(self, way: Opener, request: Pipe, tell: Callable[[str], None]) -> None:
        super().__init__(way, tell)
        self._request = replace(request, topic=request.topic or random_path())
        self._all = False
        self._turn = asyncio.Lock()  # of whoever writes, or joins again
        self._tries = delays()

    async def begin(self) -> None:
        """Join."""
        self._link = await self._open(self._request)

    async def send(self, data: bytes) -> None:
        """Send bytes, at most once.

        Raises:
            PipeError: the stream has ended.
        """
        async with self._turn:
            if self._end:
                self._end.check()
            link = self._link
            try:
                await link.send(data)
            except (ConnectionLost, Unavailable):
                await self._join_again(link)

    async def send_eof(self) -> None:
        """Everything is sent; from now on this reads."""
        async with self._turn:
            self._all = True
            link = self._link
            try:
                await link.send_eof()
            except (ConnectionLost, Unavailable):
                if not self._end:
                    await self._join_again(link)

    async def receive(self) -> bytes:
        """Return the next bytes, over whichever connection they come."""
        while True:
            link = self._link
            if data := await link.receive():
                self._tries = delays()
                return data
            async with self._turn:
                if not self._end:
                    await self._join_again(link)
                if self._end:
                    return b""

    async def _join_again(self, link: ResumableLink) -> None:
        """Do so, if that link is over and may be replaced."""
        if link is not self._link:
            return  # it was
        end = await link.wait_end()
        if not is_passing(end):
            self._finish(end)
            return
        await link.abort()
        try:
            await self._rest(end.message or end.outcome.text, next(self._tries))
            self._link = await self._open(self._request)
            if self._all:
                with contextlib.suppress(ConnectionLost, Unavailable):  # whoever reads tries again
                    await self._link.send_eof()
        except PipeError as error:
            self._finish(end_by(error))
            return
        if self._end:  # the program has left meanwhile
            await self._link.abort()
        else:
            self._tell("what came meanwhile is lost, and what was on its way")

    async def wait_end(self) -> End:
        """Wait until it is over."""
        await self._over.wait()
        return self._end or LEFT
