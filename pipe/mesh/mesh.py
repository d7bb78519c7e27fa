"""One worker's part in the mesh: who is where, the links there, and the sessions from elsewhere.

A link has a direction: who needs a session elsewhere opens it, and closes it once it has been idle
for `IDLE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from pipe import __version__
from pipe.errors import Unreachable
from pipe.language.hook_requests import (
    AddHook,
    ListHooks,
    RemoveHook,
    RotateHook,
    TestHook,
)
from pipe.language.log_requests import Logs
from pipe.language.monitor_requests import MonitorRequest
from pipe.language.names import TopicName, is_pattern, parse_topic
from pipe.language.past import Offset
from pipe.language.progress_requests import Stat
from pipe.language.requests import Explain, Pipe, Publish, Subscribe
from pipe.language.webhook_requests import (
    AddWebhook,
    ListWebhooks,
    RemoveWebhook,
    ResumeWebhook,
    TestWebhook,
)
from pipe.mesh.edge import MARK_BYTES, EdgeEnd
from pipe.mesh.frames import Kind
from pipe.mesh.hello import PROTOCOL, Hello
from pipe.mesh.home import FarFront, HomeEnd
from pipe.mesh.link import TICK_SECONDS, Link
from pipe.session import Session
from pipe.session.relayed import name_topic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pipe.elsewhere import Client, Errand, Visit, Way
    from pipe.language.requests import Request
    from pipe.mesh.directory import Directory, WorkerId
    from pipe.service import Service

log = structlog.get_logger()

IDLE_SECONDS = 60.0
"""How long a link is kept that nobody uses: opening one takes a millisecond, and a descriptor at
both ends."""

ASK_SECONDS = 1.0
"""How long a question to other workers may take; who has not answered by then is named."""

FIRST = 1
"""The number of the worker in which runs what there is once: logs, hooks, webhooks, monitors."""

_JOINS = (Publish, Subscribe, Pipe)
_LOOKS = (Stat, Offset, Explain)
_ONCE = (
    Logs,
    *(AddHook, ListHooks, RemoveHook, RotateHook, TestHook),
    *(AddWebhook, ListWebhooks, RemoveWebhook, ResumeWebhook, TestWebhook),
    *MonitorRequest.__args__,
)


class Reach(Protocol):
    """How other workers are reached."""

    async def connect(self, worker: WorkerId, link: Link) -> None:
        """Attach a link to a wire to another worker.

        Raises:
            Unreachable: it is not there.
        """


class Answers(NamedTuple):
    """What the other workers said to a question, and who has not answered."""

    found: dict[WorkerId, str]
    missing: list[WorkerId]


class _Here:
    """A session that runs here; with a topic it is a join that the directory has counted."""

    far = False

    def __init__(self, mesh: Mesh, topic: TopicName | None) -> None:
        self._mesh = mesh
        self._topic = topic
        mesh.arrived(topic)

    def open(self, errand: Errand, client: Client) -> Way:
        """It runs here."""
        raise NotImplementedError

    def settle(self) -> None:
        """It has joined or failed."""
        self._mesh.settle(self._topic)


class _There:
    """A session that runs in another worker."""

    far = True

    def __init__(self, end: EdgeEnd, topic: TopicName | None) -> None:
        self._end = end
        self._topic = topic
        self._opened = False
        end.visits += 1

    def open(self, errand: Errand, client: Client) -> Way:
        """Have it run there."""
        relay = self._end.open(errand, client)
        self._opened = True
        if self._end.link.over:  # since it was found
            asyncio.get_running_loop().call_soon(relay.lose, "the other worker is gone")
        return relay

    def settle(self) -> None:
        """It was opened or never will be."""
        self._end.visits -= 1
        if self._topic and not self._opened:
            self._end.void(str(self._topic))


class Mesh:
    """One worker's part: a `pipe.elsewhere.Elsewhere`.

    Args:
        service: what this worker's sessions share.
        me: this worker.
        directory: knows where topics are at home.
        reach: how other workers are reached.
        first: returns the worker in which runs what there is once.
        answer: answers what other workers ask.
    """

    def __init__(
        self,
        service: Service,
        me: WorkerId,
        directory: Directory,
        reach: Reach,
        first: Callable[[], WorkerId],
        answer: Callable[[str], Awaitable[str]],
    ) -> None:
        self._service = service
        self._me = me
        self._directory = directory
        self._reach = reach
        self._first = first
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._hello = Hello(PROTOCOL, __version__, me)
        self._edges: dict[WorkerId, EdgeEnd] = {}
        self._opening: dict[WorkerId, asyncio.Task[EdgeEnd]] = {}
        self._idle_since: dict[EdgeEnd, float] = {}
        self._homes: dict[HomeEnd, None] = {}
        self._arrived: Counter[TopicName] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

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

    async def _find(self, request: Request, topic: TopicName | None) -> Visit:
        counted = topic if isinstance(request, _JOINS) else None
        if topic is None:
            worker: WorkerId | None = self._first()
        elif counted:
            worker = (await self._directory.enter(topic)).worker
        else:
            worker = await self._directory.find(topic)
        if worker is None or worker == self._me:
            return _Here(self, counted)
        return _There(await self._edge(worker), counted)

    async def _edge(self, worker: WorkerId) -> EdgeEnd:
        """Return the link to another worker, opened if there is none.

        Raises:
            Unreachable: it is not there.
        """
        if worker in self._edges:
            return self._edges[worker]
        if worker not in self._opening:
            opening = self._loop.create_task(self._open_edge(worker))
            self._opening[worker] = opening
            opening.add_done_callback(lambda _: self._opening.pop(worker, None))
        return await asyncio.shield(self._opening[worker])

    async def _open_edge(self, worker: WorkerId) -> EdgeEnd:
        mark_bytes = min(MARK_BYTES, self._service.settings.buffer // 4)
        end = EdgeEnd(str(worker), partial(self._edge_over, worker), mark_bytes)
        end.link = self._make_link(end)
        await self._reach.connect(worker, end.link)
        if end.link.over:
            raise Unreachable(f"worker {worker} cannot be reached: try again")
        self._edges[worker] = end
        self._watch()
        return end

    def _make_link(self, end: EdgeEnd | HomeEnd) -> Link:
        def later() -> None:
            self._loop.call_soon(link.flush)

        link = Link(self._hello, end, later)
        return link

    def _edge_over(self, worker: WorkerId, end: EdgeEnd, reason: str) -> None:
        log.info("link ended", worker=str(worker), reason=reason)
        if self._edges.get(worker) is end:
            del self._edges[worker]
        self._idle_since.pop(end, None)

    # -- sessions of clients that are elsewhere ---------------------------------------------------

    def accept(self) -> Link:
        """Make this side's end of a link that another worker opens."""
        end = HomeEnd(self._welcome, self._void, self._asked, self._home_over)
        end.link = self._make_link(end)
        self._homes[end] = None
        self._watch()
        return end.link

    def _welcome(self, end: HomeEnd, number: int, errand: Errand) -> FarFront:
        service, request = self._service, errand.request
        topic = name_topic(request, errand.caller)[1] if isinstance(request, _JOINS) else None
        visit = _Here(self, topic)
        front = FarFront(
            end.link, number, errand, service.router, service.settings.buffer, end.forget
        )
        front.session = session = Session(
            service, front, errand.caller, errand.address, errand.holders
        )
        session.start(lambda: request, errand.hints, visit=visit)
        return front

    def _void(self, topic: str) -> None:
        _Here(self, parse_topic(topic, caller="")).settle()

    def _home_over(self, end: HomeEnd, reason: str) -> None:
        worker = str(end.hello.worker) if end.hello else ""
        log.info("link ended", worker=worker, reason=reason)
        self._homes.pop(end, None)

    # -- the directory ----------------------------------------------------------------------------

    def arrived(self, topic: TopicName | None) -> None:
        """A join that the directory has counted is here."""
        if topic:
            self._arrived[topic] += 1

    def settle(self, topic: TopicName | None) -> None:
        """A join has joined or failed: a topic that it has not opened is gone again."""
        if topic and topic not in self._service.router:
            self.closed(topic)

    def closed(self, topic: TopicName) -> None:
        """A topic that was at home here is gone."""
        joins = self._arrived.pop(topic, 0)
        if joins:
            self._directory.closed(topic, joins)

    # -- questions --------------------------------------------------------------------------------

    async def ask(self, question: str, workers: Iterable[WorkerId]) -> Answers:
        """Ask other workers something; who cannot answer within `ASK_SECONDS` is missing."""
        asked = [worker for worker in workers if worker != self._me]
        found: dict[WorkerId, str] = {}
        tasks = {worker: self._loop.create_task(self._ask(worker, question)) for worker in asked}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=ASK_SECONDS)
        for worker, task in tasks.items():
            if not task.done():
                task.cancel()
            elif not task.exception() and (text := task.result()) is not None:
                found[worker] = text
        return Answers(found, [worker for worker in asked if worker not in found])

    async def _ask(self, worker: WorkerId, question: str) -> str | None:
        end = await self._edge(worker)
        answer: asyncio.Future[str | None] = self._loop.create_future()

        def answered(text: str | None) -> None:
            if not answer.done():
                answer.set_result(text)

        forget = end.ask(question, answered)
        try:
            return await answer
        finally:
            forget()

    def _asked(self, end: HomeEnd, number: int, question: str) -> None:
        task = self._loop.create_task(self._reply(end, number, question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, end: HomeEnd, number: int, question: str) -> None:
        try:
            answer = await self._answer(question)
        except Exception:
            log.exception("question not answered")
            return
        end.link.send(Kind.ANSWERED, number, answer.encode())

    # -- time -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look after the links from now on, as long as there are any."""
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        for home in list(self._homes):
            home.link.tick(now)
        for end in list(self._edges.values()):
            if not end.idle:
                self._idle_since.pop(end, None)
            elif now - self._idle_since.setdefault(end, now) >= IDLE_SECONDS:
                end.link.fail("nobody needs it")
                continue
            end.link.tick(now)
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
        for task in self._tasks:
            task.cancel()


def _settle(finding: asyncio.Task[Visit]) -> None:
    if not finding.cancelled() and not finding.exception():
        finding.result().settle()
