"""One worker's part in the mesh: who is where, the links there, and the sessions from elsewhere.

A link has a direction: who needs a session elsewhere opens it, and closes it once it has been idle
for `IDLE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pipe import __version__
from pipe.errors import PipeError, Unreachable
from pipe.language.account_requests import GrantAccess, RevokeAccess
from pipe.language.chat_requests import Chat
from pipe.language.hook_requests import AboutHooks
from pipe.language.log_requests import Logs
from pipe.language.monitor_requests import MonitorRequest
from pipe.language.names import TopicName, is_pattern
from pipe.language.past import Offset
from pipe.language.progress_requests import Stat
from pipe.language.requests import Explain, Pipe, Publish, Subscribe
from pipe.language.webhook_requests import AboutWebhooks
from pipe.mesh.asking import ASK_SECONDS, ask_all, send_answer, wait_answer, wait_greeting
from pipe.mesh.directory import WorkerId
from pipe.mesh.edge import MARK_BYTES, EdgeEnd
from pipe.mesh.figures import LinkFigures
from pipe.mesh.hello import PROTOCOL, Hello
from pipe.mesh.home import FarFront, HomeEnd
from pipe.mesh.link import TICK_SECONDS, Link
from pipe.mesh.questions import (
    announce_here,
    look_at_streams,
    read_dealt,
    read_matter,
    read_notice,
    read_streams,
    tell_streams,
    write_matter,
    write_question,
)
from pipe.mesh.visits import Here, There
from pipe.mesh.watching import FarWatch, Watches
from pipe.session.relayed import name_topic, visits
from pipe.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable

    from pipe.elsewhere import Answers, Errand, Visit
    from pipe.events.once import Matter
    from pipe.language.requests import Request
    from pipe.mesh.directory import Directory
    from pipe.mesh.peers import Peers
    from pipe.rights.callers import Caller
    from pipe.service import Service

log = structlog.get_logger()

IDLE_SECONDS = 60.0
"""How long a link is kept that nobody uses: opening one takes a millisecond, and a descriptor at
both ends."""

NEWS_SECONDS = 1.0
"""How long a session waits to hear that a worker is dead which cannot be reached: the hub knows
within milliseconds, and then its topics have no home."""

LEAST_BUFFER = 64 * 1024
"""What each worker may have on its way to a reader on a pattern, however many they are."""

NO_FIRST_TEXT = "the worker that does this is being replaced: try again"

_JOINS = (Publish, Subscribe, Pipe, Chat)
_GRANTS = (GrantAccess, RevokeAccess)
_LOOKS = (Stat, Offset, Explain, *_GRANTS)
_ONCE = (Logs, *AboutHooks.__args__, *AboutWebhooks.__args__, *MonitorRequest.__args__)


class Reach(Protocol):
    """How other workers are reached."""

    async def connect(self, worker: WorkerId, link: Link) -> None:
        """Attach a link to a wire to another worker.

        Raises:
            Unreachable: it is not there.
        """


class Mesh:
    """One worker's part: a `pipe.elsewhere.Elsewhere`.

    Args:
        service: what this worker's sessions share.
        peers: this worker, and the others.
        directory: knows where topics are at home.
        reach: how other workers are reached.
        answer: answers what other workers ask.
        carry: moves a client, of which it gets the front, to the home of a topic, as
            `pipe.elsewhere.Visit.carry` does.

    Attributes:
        figures: of the links, for people and metrics.
    """

    def __init__(
        self,
        service: Service,
        peers: Peers,
        directory: Directory,
        reach: Reach,
        answer: Callable[[str], Awaitable[str]],
        carry: Callable[[object, TopicName, WorkerId], bool] = lambda *_: False,
    ) -> None:
        self._service = service
        self._peers = peers
        self._me = me = peers.own.worker
        self._directory = directory
        self._reach = reach
        self._answer = answer
        self.carry = carry
        self._loop = asyncio.get_running_loop()
        self._hello = Hello(PROTOCOL, __version__, me)
        self.figures = LinkFigures(me)
        self._edges: dict[WorkerId, EdgeEnd] = {}
        self._opening: dict[WorkerId, asyncio.Task[EdgeEnd]] = {}
        self._idle_since: dict[EdgeEnd, float] = {}
        self._homes: dict[HomeEnd, None] = {}
        self._coming: Counter[WorkerId] = Counter()  # joins here that are not settled, by who asked
        self._tasks: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Future[None] = self._loop.create_future()
        self._watched_here: dict[FarWatch, None] = {}  # by others
        self._burying: set[asyncio.Event] = set()
        self._followers: dict[Callable[[], None], None] = {}
        self.watches = Watches(service.router, directory, me, self._edge)
        self._followers[self.watches.look_again] = None
        peers.follow(self._tell_followers, self._bury)
        for name in service.router.watched_names:
            self.watches.watch(name, True)
        service.router.watched = self.watches.watch

    # -- sessions of clients that are here --------------------------------------------------------

    def concerns(self, request: Request) -> bool:
        """Whether it matters where a request is served."""
        if isinstance(request, Subscribe):
            return not is_pattern(request.topic)
        return isinstance(request, (*_JOINS, *_LOOKS, *_ONCE))

    async def find(self, request: Request, topic: TopicName | None) -> Visit:
        """Find out where a session has to run.

        Raises:
            PipeError: it cannot be known, or the other worker cannot be reached.
        """
        # The directory counts a join, so a session that is gone meanwhile has to be settled too.
        finding = self._loop.create_task(self._find(request, topic))
        try:
            return await asyncio.shield(finding)
        except asyncio.CancelledError:
            finding.add_done_callback(_settle)
            raise

    async def _find(
        self, request: Request, topic: TopicName | None, *, again: bool = True
    ) -> Visit:
        counted = topic if isinstance(request, _JOINS) else None
        crowded = False
        if topic is None:
            worker = self._peers.first
            if worker is None:
                raise Unreachable(NO_FIRST_TEXT)
        elif counted:
            worker, _, crowded = await self._directory.enter(topic)
        else:
            worker = await self._directory.find(topic)
        if worker is None or worker == self._me:
            return Here(self, counted, self._me)
        try:
            edge = await self._edge(worker)
            stays = crowded and isinstance(request, Subscribe)
            return There(self, edge, worker, counted, stays=stays)
        except PipeError:
            if counted:
                self.withdraw(counted, worker)
            if isinstance(request, _GRANTS):  # the home hears of it a second later
                return Here(self, None, self._me)
            if not (again and await self._is_gone(worker)):
                raise
            return await self._find(request, topic, again=False)

    async def _is_gone(self, worker: WorkerId) -> bool:
        """Whether a worker that cannot be reached is known to be dead, soon if not yet."""
        if worker in self._peers.others:
            changed = asyncio.Event()
            stop = self.follow(changed.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), NEWS_SECONDS)
            stop()
        return worker not in self._peers.others

    @property
    def workers(self) -> Collection[WorkerId]:
        """The other workers that there are."""
        return self._peers.others.keys()

    def follow(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call something when they have changed, until what this returns is called."""
        self._followers[changed] = None
        return lambda: self._followers.pop(changed, None)

    def _tell_followers(self) -> None:
        for changed in list(self._followers):
            changed()

    async def reach(self, worker: Hashable) -> Visit:
        """Get ready to run a session in one of them.

        Raises:
            Unreachable: it is not there.
        """
        if not isinstance(worker, WorkerId) or worker not in self._peers.others:
            raise Unreachable(f"worker {worker} is gone")
        return There(self, await self._edge(worker), worker, None)

    async def _edge(self, worker: WorkerId) -> EdgeEnd:
        """Return the link to another worker, opened if there is none.

        Raises:
            Unreachable: it is not there.
        """
        while (end := self._edges.get(worker)) and end.link.quiet:
            await asyncio.shield(self._turn)  # so that no session goes there that breaks at once
        if end:
            return end
        if worker not in self._opening:
            opening = self._loop.create_task(self._open_edge(worker))
            self._opening[worker] = opening
            opening.add_done_callback(lambda _: self._opening.pop(worker, None))
        return await asyncio.shield(self._opening[worker])

    async def _open_edge(self, worker: WorkerId) -> EdgeEnd:
        mark_bytes = min(MARK_BYTES, self._service.settings.buffer // 4)
        answered = asyncio.Event()
        end = EdgeEnd(str(worker), partial(self._edge_over, worker), mark_bytes, answered.set)
        end.link = self._make_link(end)
        await self._reach.connect(worker, end.link)
        await wait_greeting(end.link, answered)
        if end.link.over:
            raise Unreachable(f"worker {worker} cannot be reached: try again")
        self._edges[worker] = end
        self.figures.began(end, worker)
        self._watch()
        return end

    def _make_link(self, end: EdgeEnd | HomeEnd) -> Link:
        def later() -> None:
            self._loop.call_soon(link.flush)

        link = Link(self._hello, end, later)
        return link

    def _edge_over(self, worker: WorkerId, end: EdgeEnd, reason: str) -> None:
        log.info("link ended", peer=str(worker), reason=reason)
        if self._edges.get(worker) is end:
            del self._edges[worker]
        self._idle_since.pop(end, None)
        self._turn_over()
        self.figures.ended(end)

    # -- sessions of clients that are elsewhere ---------------------------------------------------

    def accept(self, sender: WorkerId | None = None) -> Link:
        """Make this side's end of a link that another worker opens: this one, if it is known."""
        told = self._asked, self._home_over, self._tell_buriers
        end = HomeEnd(self._welcome, self._watch_here, *told, sender)
        end.link = self._make_link(end)
        self._homes[end] = None
        self.figures.began(end)
        self._watch()
        return end.link

    def _welcome(self, end: HomeEnd, number: int, errand: Errand) -> FarFront:
        service, request = self._service, errand.request
        topic = name_topic(request, errand.caller)[1] if isinstance(request, _JOINS) else None
        visit = self.receive(topic, end.worker)
        buffer = service.settings.buffer
        if errand.part:  # several workers fill one reader's buffer
            buffer = max(buffer // (1 + len(self._peers.others)), LEAST_BUFFER)
        front = FarFront(end.link, number, errand, service.router, buffer, end.forget)
        front.session = session = Session(
            service, front, errand.caller, errand.address, errand.holders
        )
        session.visit = visit
        session.partial = errand.part
        self._do(self._start(end, number, session, errand))
        return front

    def _watch_here(self, end: HomeEnd, number: int, order: memoryview) -> FarWatch:
        service = self._service

        def over() -> None:
            end.forget(number)
            self._watched_here.pop(watch, None)

        watch = FarWatch(end.link, number, order, service.router, service.settings.buffer, over)
        self._watched_here[watch] = None
        watch.start()
        return watch

    async def _start(self, end: HomeEnd, number: int, session: Session, errand: Errand) -> None:
        """Start a session that came over a link, once this worker knows what the others changed.

        A login waits for the same.  So who was granted something by way of another worker has it
        here too, and who has lost it has not.
        """

        def read() -> Request:
            if failure:
                raise failure
            return errand.request

        failure: Exception | None = None
        try:
            await self._service.guard.catch_up()
        except Exception as error:  # noqa: BLE001 - the session ends with it
            failure = error
        if number in end.fronts:
            session.start(read, errand.hints)
        elif session.visit:  # its client is gone
            session.visit.settle()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def receive(self, topic: TopicName | None, asker: WorkerId) -> Visit:
        """A session has come that runs here.

        Args:
            topic: which one it joins, if that was counted by the directory.
            asker: the worker from which it comes.
        """
        return Here(self, topic, asker)

    def _home_over(self, end: HomeEnd, reason: str) -> None:
        log.info("link ended", peer=str(end.hello.worker) if end.hello else "", reason=reason)
        self._homes.pop(end, None)
        self.figures.ended(end)
        self._tell_buriers()

    # -- the directory ----------------------------------------------------------------------------

    def expect(self, asker: WorkerId) -> None:
        """A session is about to begin here, and perhaps to join a topic."""
        self._coming[asker] += 1

    def withdraw(self, topic: TopicName, home: WorkerId) -> None:
        """A join that the directory has counted is not sent."""
        self._directory.withdraw(topic, home)

    def settle(self, topic: TopicName | None, asker: WorkerId) -> None:
        """A session that runs here has begun; it has joined its topic, if any, or never will.

        Only now its join has arrived: before, the topic may close and must keep its home for it.
        """
        self._coming[asker] -= 1
        if not self._coming[asker]:
            del self._coming[asker]
            self._tell_buriers()
        if topic:
            self._directory.arrived(topic, asker)
            if topic not in self._service.router:
                self.closed(topic)

    def closed(self, topic: TopicName) -> None:
        """A topic that was at home here is gone, or its last receipt that was kept here."""
        for watch in self._watched_here:
            watch.closed(topic)
        if topic not in self._service.holds.receipts:
            self._directory.closed(topic)

    async def _bury(self, worker: WorkerId) -> None:
        """A worker is dead: cut the link there, and take what it has sent until nothing is left."""
        edge = self._edges.get(worker)
        if edge:
            edge.link.fail("its process has ended")
        for _ in range(2):  # so that links are accepted that it has opened
            await asyncio.sleep(0)
        news = asyncio.Event()
        self._burying.add(news)
        while self._may_hear_of(worker):
            news.clear()
            await news.wait()
        self._burying.remove(news)

    def _may_hear_of(self, worker: WorkerId) -> bool:
        unread = any(home.hello is None or home.worker == worker for home in self._homes)
        return unread or worker in self._coming

    def _tell_buriers(self) -> None:
        for news in self._burying:
            news.set()

    # -- questions --------------------------------------------------------------------------------

    async def ask(self, request: Request, caller: Caller) -> Answers:
        """Ask all other workers; who cannot answer in time is missing."""
        question = write_question(request, caller)

        async def ask(worker: WorkerId) -> str | None:
            return await wait_answer(await self._edge(worker), question)

        return await ask_all(self._peers.others, ask)

    async def look_at_streams(self) -> None:
        """Have all of them tell clients here how their streams move."""
        ends = [end for end in self._edges.values() if end.sessions]
        await asyncio.gather(*map(look_at_streams, ends))

    @property
    def is_first(self) -> bool:
        """Whether this worker has what a service has once."""
        return self._peers.first == self._me

    async def ask_first(self, matter: Matter) -> bool:
        """Have the worker that has it deal with something.

        Raises:
            Unreachable: there is none now, or it does not answer.
        """
        first = self._peers.first
        if first is None:
            raise Unreachable(NO_FIRST_TEXT)
        answer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                answer = await wait_answer(await self._edge(first), write_matter(matter))
        if answer is None:
            raise Unreachable(f"worker {first} does not answer: try again")
        return read_dealt(answer)

    def _asked(self, end: HomeEnd, number: int, question: str) -> None:
        notice = read_notice(question)
        if notice:
            with visits(self.receive(notice.topic, end.worker)):
                send_answer(end, number, announce_here(self._service, notice))
            return
        numbers = read_streams(question)
        if numbers is not None:
            send_answer(end, number, tell_streams(self._service, end.fronts, numbers))
            return
        matter = read_matter(question)
        if matter:
            send_answer(end, number, json.dumps(self._service.once.deal(matter)))
            return
        self._do(self._reply(end, number, question))

    async def _reply(self, end: HomeEnd, number: int, question: str) -> None:
        try:
            answer = await self._answer(question)
        except Exception:
            log.exception("question not answered")
            return
        send_answer(end, number, answer)

    # -- time -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look after the links from now on, as long as there are any."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _turn_over(self) -> None:
        """Some link may have ended, or been heard again."""
        turn, self._turn = self._turn, self._loop.create_future()
        turn.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for home in list(self._homes):
            home.link.tick()
        for end in list(self._edges.values()):
            if not end.idle:
                self._idle_since.pop(end, None)
            elif now - self._idle_since.setdefault(end, now) >= IDLE_SECONDS:
                end.link.fail("nobody needs it")
                continue
            end.link.tick()
        self._turn_over()
        if self._homes or self._edges:
            self._watch()

    def close(self) -> None:
        """End all links, as the worker stops."""
        ends: list[HomeEnd | EdgeEnd] = [*self._homes, *self._edges.values()]
        for end in ends:
            end.link.fail("the worker stops")
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self.watches.close()
        for task in self._tasks:
            task.cancel()


def _settle(finding: asyncio.Task[Visit]) -> None:
    if not finding.cancelled() and not finding.exception():
        finding.result().settle()
