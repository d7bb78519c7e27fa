"""Topics that are watched in one worker and at home in another.

Webhooks, monitors and the log drain watch a topic where they are (`pipe.stream.ports.Watcher`), and
the directory gives such topics their home there.  One that is at home elsewhere when that begins,
as it is in use, is watched there until it has closed: a `FarWatch` is a reader of the server's own
at its home, and tells a `_Watched` here, which tells the watchers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog
from pydantic import TypeAdapter, ValidationError

from pipe.elsewhere import Gone
from pipe.errors import Outcome, PipeError
from pipe.events.listener import Listener
from pipe.language.names import parse_topic
from pipe.mesh.frames import BadFrame, Kind, pack_end, unpack_flag, unpack_mark
from pipe.mesh.port import FarPort
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container

    from pipe.elsewhere import Facts, Way
    from pipe.language.names import TopicName
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.edge import EdgeEnd
    from pipe.mesh.frames import Frame
    from pipe.mesh.link import Link
    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Watcher
    from pipe.stream.router import Router

log = structlog.get_logger()

RETRY_SECONDS = 2.0
"""How often it is tried again to watch what could not be watched."""


class Order(NamedTuple):
    """What somebody wants to know of a topic: its bytes, or only how many there are."""

    topic: str
    chunks: bool


class News(NamedTuple):
    """What has happened on it, besides bytes.

    ``size`` counts bytes that have come.  ``ended`` is how a publisher has ended, if one has: its
    status, whether it broke off, whether it was the last.  ``idle`` tells that the last is gone
    and had sent nothing, ``begun`` at the beginning that a stream is under way, ``closed`` that the
    topic is gone.
    """

    size: int = 0
    ended: tuple[int, bool, bool] | None = None
    idle: bool = False
    begun: bool = False
    closed: bool = False


_ORDER = TypeAdapter(Order)
_NEWS = TypeAdapter(News)


class _Port(FarPort):
    """A watch's port: calls ``freed`` when the link goes on, before any publisher does."""

    def __init__(
        self,
        owner: FarWatch,
        freed: Callable[[], None],
        link: Link,
        number: int,
        router: Router,
        buffer: int,
    ) -> None:
        super().__init__(owner, link, number, router, buffer)
        self._freed = freed

    def link_changed(self) -> None:
        """The link is blocked, or no longer."""
        if not self._link.blocked:
            self._freed()
        super().link_changed()


class FarWatch:
    """Watches a topic for another worker, whenever it is at home here.

    While the link is blocked it adds up how many bytes come, and tells that when the link goes on,
    or with whatever else it has to tell: nobody is paused for those who only want to know that.

    Args:
        link: to that worker.
        number: its number there.
        order: what it wants.
        router: where the topic is.
        buffer: bytes that may be on their way before the topic's publishers are paused.
        over: called when it ends.

    Raises:
        BadFrame: the order cannot be read.
    """

    def __init__(
        self,
        link: Link,
        number: int,
        order: memoryview,
        router: Router,
        buffer: int,
        over: Callable[[], None],
    ) -> None:
        try:
            self._order = _ORDER.validate_json(bytes(order))
            self._name = parse_topic(self._order.topic, caller="")
        except (ValidationError, PipeError) as error:
            raise BadFrame(f"an order that cannot be read: {error}") from None
        self._link = link
        self._number = number
        self._router = router
        self._over = over
        self._unsaid = 0  # bytes
        self.port: FarPort = _Port(self, self._say, link, number, router, buffer)
        self._member = Member(Mode.SUBSCRIBE, sink=self.port, keep_alive=True)
        self._member.internal = True

    def start(self) -> None:
        """Begin."""
        begun = self._router.begun(self._name)
        self.port.bind(self._member)
        self._tell(News(begun=begun.stream_bytes + begun.pipe_bytes > 0))
        self._router.watch(self._name, self, here=False)
        if self._order.chunks:
            self._router.follow(self._member, self._name, lambda _: True)
        self.closed(self._name)

    def _stop(self) -> None:
        self._router.unwatch(self._name, self)
        self._router.leave(self._member)
        self.port.close()
        self._over()

    def _tell(self, news: News) -> None:
        news, self._unsaid = news._replace(size=self._unsaid), 0
        self._link.send(Kind.TELL, self._number, _NEWS.dump_json(news))

    def _say(self) -> None:
        if self._unsaid:
            self._tell(News())

    def closed(self, name: TopicName) -> None:
        """Tell that a topic is gone, if it is this one."""
        if name == self._name and name not in self._router:
            self._tell(News(closed=True))

    # -- the router's watcher ---------------------------------------------------------------------

    def published(self, size: int) -> None:
        """Tell it, if not now then later."""
        self._unsaid += size
        if not self._link.blocked:
            self._say()

    def ended(self, status: int, broken: bool) -> None:
        """Tell it."""
        self._tell(News(ended=(status, broken, not self._router.has_publishers(self._name))))

    def idle(self) -> None:
        """Tell it."""
        self._tell(News(idle=True))

    # -- the port's owner -------------------------------------------------------------------------

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """It stays."""

    def cut(self, outcome: Outcome, text: str = "") -> None:  # noqa: ARG002 - none is told
        """The router gives it up."""
        self._say()
        self._link.send(Kind.CUT, self._number, pack_end(outcome, outcome.status))
        self._link.send(Kind.CLOSED, self._number)
        self._stop()

    def waited_for(self, others: bool) -> None:
        """The other worker takes all at once."""

    def emptied(self) -> None:
        """Nothing waits for that."""

    # -- the link ---------------------------------------------------------------------------------

    def taken(self, frame: Frame) -> None:
        """The other worker has taken something, or wants no more.

        Raises:
            BadFrame: it cannot be.
        """
        match frame.kind:
            case Kind.MARK:
                self.port.mark(*unpack_mark(frame.body))
            case Kind.CLOGGED:
                self.port.clog(unpack_flag(frame.body)[0])
            case Kind.GONE:
                self._stop()
            case _:
                raise BadFrame(f"{frame.kind.name} is not for a watch")

    def lose(self, reason: str) -> None:  # noqa: ARG002 - the link has told it
        """The link is gone."""
        self.port.lose()
        self._stop()


class _Watched:
    """A topic elsewhere that is watched here: a `pipe.elsewhere.Client`.

    Args:
        home: where it is.
        order: what is wanted.
        watchers: who watches it here, now.
        look: called when it may be elsewhere by now, or cannot be heard of any more.
    """

    way: Way
    pending = 0
    clogged = False

    def __init__(
        self,
        home: WorkerId,
        order: Order,
        watchers: Callable[[], tuple[Watcher, ...]],
        look: Callable[[_Watched, bool], None],
    ) -> None:
        self.home = home
        self.order = order
        self._watchers = watchers
        self._look = look
        self._under_way = False
        self._known = set(watchers())

    def greet(self) -> None:
        """Let those who have begun to watch know if a stream is under way."""
        known, self._known = self._known, set(self._watchers())
        if self._under_way:
            self._tell_late(known)

    def leave(self) -> None:
        """Watch it there no more."""
        if self._under_way:  # nobody hears of its end
            self._tell_late()
        self.way.leave(Gone(Outcome.DONE, "", confirmed=True, lost=False, complete=False))

    def write(self, chunk: Chunk) -> None:
        """Give the watchers a chunk."""
        self._under_way = True  # how many bytes there are may be told later
        for watcher in self._watchers():
            if isinstance(watcher, Listener):
                watcher.relay(chunk)

    def tell(self, text: str) -> None:
        """Give them the news.

        Raises:
            BadFrame: it cannot be read.
        """
        try:
            news = _NEWS.validate_json(text)
        except ValidationError:
            raise BadFrame("news that cannot be read") from None
        if news.begun:
            self._under_way = True
            self._tell_late()
        if news.size:
            self._under_way = True
            for watcher in self._watchers():
                watcher.published(news.size)
        if news.ended:
            self._end(*news.ended)
        if news.idle:
            self._idle()
        if news.closed:
            self._look(self, False)

    def _tell_late(self, known: Container[Watcher] = ()) -> None:
        """Tell all but those who know it that there will not be all of a stream."""
        for watcher in self._watchers():
            if isinstance(watcher, Listener) and watcher not in known:
                watcher.late()

    def _end(self, status: int, broken: bool, last: bool) -> None:
        self._under_way = self._under_way and not last
        for watcher in self._watchers():
            if isinstance(watcher, Listener):
                watcher.relay_end(status, broken=broken, last=last)
            else:
                watcher.ended(status, broken)

    def _idle(self) -> None:
        self._under_way = False
        for watcher in self._watchers():
            if isinstance(watcher, Listener):
                watcher.relay_idle()
            else:
                watcher.idle()

    def cut(self, outcome: Outcome, text: str) -> None:  # noqa: ARG002
        """It was given up there."""
        self.lose("")

    def lose(self, reason: str) -> None:  # noqa: ARG002 - the link has told it
        """The other worker is gone, and the stream with it."""
        if self._under_way:
            self._end(Outcome.BROKEN.status, broken=True, last=True)
        self._look(self, True)

    # -- what only clients need -------------------------------------------------------------------

    def joined(self) -> None:
        """It watches."""

    def pause(self) -> None:
        """Nothing is sent."""

    def resume(self) -> None:
        """Nothing is sent."""

    def note(self, facts: Facts) -> None:
        """Nobody wants to know."""

    def draw(self, line: str, *, last: bool) -> None:
        """Nothing is drawn."""

    def answer(self, text: str) -> None:
        """Nothing was asked."""

    def follow(self) -> None:
        """Nothing was asked."""

    def waited_for(self, others: bool) -> None:
        """It takes all at once."""

    def stream_moved(self, count: int | None) -> None:
        """It holds up no end."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """It does not end by itself."""


class Finder(Protocol):
    """What is needed of the directory: see `pipe.mesh.directory.Directory`."""

    async def find(self, topic: TopicName) -> WorkerId | None:
        """Return a topic's home, or None if it has none."""

    def watch(self, topic: TopicName, watched: bool) -> None:
        """Something here needs all that happens on a topic, or no longer."""


class Watches:
    """What is watched in this worker.

    Args:
        router: knows it.
        directory: knows where topics are.
        me: this worker.
        reach: returns the link to another worker; raises PipeError.
    """

    def __init__(
        self,
        router: Router,
        directory: Finder,
        me: WorkerId,
        reach: Callable[[WorkerId], Awaitable[EdgeEnd]],
    ) -> None:
        self._router = router
        self._directory = directory
        self._me = me
        self._reach = reach
        self._far: dict[TopicName, _Watched] = {}
        self._due: dict[TopicName, None] = {}
        self._failed: dict[TopicName, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def watch(self, name: TopicName, watched: bool) -> None:
        """Somebody begins to watch a topic here, or ends that."""
        self._directory.watch(name, watched)
        if far := self._far.get(name):
            far.greet()
        self.look(name)

    def look(self, name: TopicName) -> None:
        """See soon whether a topic has to be watched elsewhere, one after the other."""
        if self._over:
            return
        self._due[name] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def look_again(self) -> None:
        """Workers have come or gone, or time has passed: see what could not be seen."""
        self._stop_timer()
        for name in self._failed:
            self.look(name)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """End it."""
        self._over = True
        self._stop_timer()
        if self._task:
            self._task.cancel()

    async def _work(self) -> None:
        try:
            while self._due:
                name = next(iter(self._due))
                del self._due[name]
                await self._try(name)
        finally:
            self._task = None

    async def _try(self, name: TopicName) -> None:
        try:
            await self._see(name)
        except PipeError as error:
            if name not in self._failed:
                log.warning("topic not watched elsewhere", reason=error.message)
            self._failed[name] = None
            if self._timer is None and not self._over:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(RETRY_SECONDS, self.look_again)
        else:
            self._failed.pop(name, None)

    async def _see(self, name: TopicName) -> None:
        home = await self._directory.find(name) if self._router.watchers(name) else None
        end = await self._reach(home) if home and home != self._me else None
        order = self._order(name)  # after all that may have changed it
        before = self._far.get(name)
        if end is None or home is None or order is None:
            after = None
        elif before and (before.home, before.order) == (home, order):
            return
        else:
            after = _Watched(
                home,
                order,
                lambda: self._router.watchers(name),
                lambda watched, lost: self._changed(name, watched, lost),
            )
            after.way = relay = end.watch(_ORDER.dump_json(order), after)
            if end.link.over:  # it has ended since it was found
                asyncio.get_running_loop().call_soon(relay.lose, "the other worker is gone")
        if before:
            before.leave()
            del self._far[name]
        if after:
            self._far[name] = after

    def _order(self, name: TopicName) -> Order | None:
        """What the watchers of a topic want; None if there are none.

        Those who may not read it now get nothing of a topic that is elsewhere, until it closes.
        """
        watchers = self._router.watchers(name)
        listeners = [one for one in watchers if isinstance(one, Listener)]
        if not watchers or (len(listeners) == len(watchers) and not _may_read(listeners)):
            return None
        return Order(str(name), _may_read(listeners))

    def _changed(self, name: TopicName, watched: _Watched, lost: bool) -> None:
        if self._far.get(name) is watched:
            if lost:
                del self._far[name]
            self.look(name)


def _may_read(listeners: list[Listener]) -> bool:
    return any(one.may_read for one in listeners)
