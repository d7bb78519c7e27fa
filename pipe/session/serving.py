"""How a session serves its request: here, or in the worker where its topic is at home.

A request joins a topic, answers once, or goes on answering; `pipe.session.session` has the rest of
a session's life.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pipe.commands import Answer, Asker, answer, input_limit
from pipe.commands.following import follow
from pipe.commands.logs import follow_logs
from pipe.errors import Outcome, PipeError
from pipe.language.chat_requests import Chat
from pipe.language.log_requests import Logs
from pipe.language.names import TopicName
from pipe.language.progress_requests import Stat, Top
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.session.chat import Conversation
from pipe.session.joining import Newcomer, name_of
from pipe.session.outflow import Outflow
from pipe.session.place import Place, make_member
from pipe.session.progress import Progress, show_progress
from pipe.session.relayed import Relayed, Visitor, make_errand, name_topic, visits
from pipe.session.resume import find_resumption
from pipe.session.state import State
from pipe.session.wide import Wide

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pipe.elsewhere import Elsewhere, Facts, Visit
    from pipe.language.names import Pattern
    from pipe.language.requests import Answerable, Request
    from pipe.limits.quotas import Holder
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.rights.live import Abroad
    from pipe.service import Service
    from pipe.session.front import Front, Port
    from pipe.session.intake import Intake
    from pipe.session.outflow import Feed
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member

log = structlog.get_logger()


class Serving(ABC):
    """The part of a `pipe.session.Session` that serves its request; the rest is abstract here."""

    # Waiting readers are many, and a dict for more than 30 names takes a KiB for each.
    __slots__ = (
        "__weakref__",
        "_counted",
        "_front",
        "_holders",
        "_intake",
        "_loop",
        "_outflow",
        "_place",
        "_progress",
        "_relayed",
        "_request",
        "_service",
        "_state",
        "_task",
        "_topic",
        "_wide",
        "address",
        "caller",
        "facts",
        "member",
        "movable",
        "partial",
        "port",
        "receipt",
        "visit",
    )

    _intake: Intake
    port: Port

    def __init__(
        self,
        service: Service,
        front: Front,
        caller: Caller,
        address: str,
        holders: tuple[Holder, ...],
    ) -> None:
        self.caller = caller
        self.address = address
        self.member: Member | None = None
        self.visit: Visit | None = None  # of one that was sent here, as its topic is at home here
        self.movable = True  # to where its topic is at home
        self.receipt: Receipt | None = None
        self.facts: Facts | None = None  # if it runs elsewhere, what is known of it from there
        self.partial = False  # one of several on a pattern, of which another has the client
        self._service = service
        self._front = front
        self._holders = holders
        self._loop = asyncio.get_running_loop()
        self._state = State.OPENING
        self._request: Request | None = None  # until its command has been read
        self._topic = ""  # or pattern, once it is known
        self._place: Place | None = None  # on a topic
        self._task: asyncio.Task[None] | None = None
        self._outflow: Outflow | None = None  # of a command that goes on answering
        self._progress: Progress | None = None  # nobody asked for it
        self._relayed: Relayed | None = None  # most run here
        self._wide: Wide | None = None  # most are on one topic
        self._counted: Member | None = None  # what its client gets, from wherever it comes

    @property
    def topic(self) -> str:
        """The name of the topic or pattern, once it is known."""
        return self._topic

    @property
    def abroad(self) -> Abroad | None:
        """Its streams in other workers, if it has any there."""
        return self._relayed or self._wide

    @abstractmethod
    def announce(self, text: str) -> None:
        """Tell the user something, unless they want only the stream."""

    @abstractmethod
    def finish(self, receipt: Receipt) -> None:
        """Everything that was published has arrived."""

    @abstractmethod
    def fail(self, error: PipeError) -> None:
        """End with an error's outcome and message."""

    @abstractmethod
    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:
        """End in order."""

    @abstractmethod
    def _tell(self, text: str) -> None:
        """Tell the user something in any case."""

    @abstractmethod
    def waited_for(self, others: bool) -> None:
        """Run the clock of law 4 while others wait."""

    @property
    @abstractmethod
    def paused_seconds(self) -> float:
        """How long clogged readers have held this publisher back."""

    @abstractmethod
    def hand_over(self) -> None:
        """Let another session go on with the stream, if that was asked for."""

    @abstractmethod
    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now."""

    def _serve_somewhere(self, request: Request, hints: Sequence[str]) -> None:
        elsewhere = self._service.elsewhere
        if elsewhere and not self.visit and elsewhere.concerns(request):
            self._do(partial(self._find_home, elsewhere, request, hints))
        else:
            self._serve(request, hints)

    async def _find_home(
        self, elsewhere: Elsewhere, request: Request, hints: Sequence[str]
    ) -> None:
        request, topic = name_topic(request, self.caller)
        visit = await elsewhere.find(request, topic)
        self._topic = str(topic or "")
        # Not in this task: a client that moves takes along what its session does.
        self._loop.call_soon(self._serve_at_home, visit, request, hints)

    def _serve_at_home(self, visit: Visit, request: Request, hints: Sequence[str]) -> None:
        """Serve a request here, or have it served where its topic is at home."""
        with visits(visit), self._ended_by_failure():
            if self._state is not State.OPENING:
                return
            self._request = request
            if not visit.far:
                self._serve(request, hints)
            elif not (self.movable and visit.carry(self._front)):
                self._relay(visit, request, hints)

    def _relay(self, visit: Visit, request: Request, hints: Sequence[str]) -> None:
        relayed = Relayed(self, self._front, self.port, self._intake)
        visitor = Visitor(self.caller, self.address, self._holders)
        relayed.start(visit, visitor, request, hints)
        self._state, self._relayed = State.RELAYING, relayed
        self.member = self._counted = relayed.member

    def _serve(self, request: Request, hints: Sequence[str]) -> None:
        if isinstance(request, (Publish, Subscribe, Pipe)):
            self._state = State.STREAMING
            self._join(request, hints)
        elif isinstance(request, Chat):
            self._enter_room(request)
        elif isinstance(request, Logs) and request.follow:
            self._follow(follow_logs(self._service, self.caller, request))
        elif isinstance(request, Top) or (isinstance(request, Stat) and request.follow):
            answers = follow(self._service, self.caller, request, self._front.screen)
            self._follow(answers)
            self._do(answers.look)
        else:
            self._state = State.ANSWERING
            self._do(partial(self._answer, request))

    async def _answer(self, request: Answerable) -> None:
        stdin = await self._intake.read_all(input_limit(request))
        asker = Asker(self.caller, self.address, self, stdin, self._holders)
        found = await answer(request, self._service, asker)
        self._front.answer(found)
        self.end(Outcome.DONE, exit_status=found.exit_status if isinstance(found, Answer) else 0)

    def _follow(self, feed: Feed) -> None:
        self._intake.drain()
        self._state = State.FOLLOWING
        self._front.follow()
        self._outflow = Outflow(self.port, feed, self._front.line_end)
        self._outflow.pump()

    def _enter_room(self, request: Chat) -> None:
        self._place = Place(self._service, self.caller, self._holders)
        chat = Conversation(self, self._service, self._place, request)
        self.member, self._topic, self._state = chat.member, str(chat.topic), State.FOLLOWING
        chat.enter(self._front, self._lost)
        self._outflow = Outflow(self.port, chat, b"\n")
        self._intake.collect(chat)
        self._outflow.pump()

    @property
    def follows(self) -> bool:
        """Whether it goes on answering until somebody ends it."""
        if self._state is State.RELAYING and self._relayed:
            return self._relayed.follows
        return self._state is State.FOLLOWING

    def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        self._task = self._loop.create_task(self._do_in_order(work))

    async def _do_in_order(self, work: Callable[[], Awaitable[None]]) -> None:
        with self._ended_by_failure():
            await work()

    @contextmanager
    def _ended_by_failure(self) -> Iterator[None]:
        try:
            yield
        except PipeError as error:
            self.fail(error)
        except Exception:
            log.exception("session failed", user=self.caller.user)
            self.end(Outcome.FAILED, Outcome.FAILED.text)

    # -- joining a topic --------------------------------------------------------------------------

    def _join(self, request: Publish | Subscribe | Pipe, hints: Sequence[str]) -> None:
        name = name_of(request, self.caller)
        self._topic = str(name)
        self.member = self._counted = member = make_member(request, self._intake, self.port)
        member.user, member.internal = self.caller.user, self.partial
        self._place = place = Place(self._service, self.caller, self._holders)
        if not isinstance(name, TopicName):
            self._do(partial(self._join_pattern, place, member, name, request))
            return
        place.enter(name, request, self._lost)
        resumption = find_resumption(self._service, self.caller, name, request)
        if resumption.await_receipt(self._intake, member, self.fail, self.finish):
            return
        newcomer = Newcomer(self._service, self.caller, self.port, self._intake, self.announce)
        with newcomer.joins(place, member, name, request, hints, resumption):
            self._progress = show_progress(self._front, member, self.caller, request)

    async def _join_pattern(
        self, place: Place, member: Member, pattern: Pattern, request: Publish | Subscribe | Pipe
    ) -> None:
        """Join all matching topics; one reader per user and turn, as this looks at every topic."""
        async with self._service.joining.turn(self.caller.user):
            if self._state is not State.STREAMING:
                return
            place.enter_pattern(pattern, request)
            self._intake.drain()
            elsewhere, counted = self._service.elsewhere, member
            if elsewhere and not self.visit:
                self._wide = wide = Wide(self, self.port, member, self._service.router, elsewhere)
                self._counted = counted = wide.whole
                visitor = Visitor(self.caller, self.address, ())  # counted here
                await wide.join(make_errand(self._front, visitor, request), self._tell)
            else:
                self.port.bind(member)
            if self._state is State.STREAMING:
                self._progress = show_progress(self._front, counted, self.caller, request)
                place.join(member)

    def _lost(self, loss: Loss) -> None:
        """End, as the right to be here has ended."""
        self.cut(Outcome.DENIED, f"access to {self._topic} has ended: {loss.value}")
