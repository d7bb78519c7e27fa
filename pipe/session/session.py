"""One session, from its request to its end, whichever front it came through.

What its client sends goes through its `Intake`, the router's source; what its client reads comes
out of its front's `Port`, the router's sink.  It goes from one `State` to the next, and ends once,
with one `Outcome`.

The end of a stream counts once the reader's client has confirmed it.  A client that goes without
confirming has left, or was cut off.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from pipe.commands import Answer, Asker, answer, input_limit
from pipe.commands.following import follow
from pipe.commands.logs import follow_logs
from pipe.elsewhere import Gone, Size
from pipe.errors import Outcome, PipeError
from pipe.language.log_requests import Logs
from pipe.language.names import TopicName
from pipe.language.progress_requests import Stat, Top
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.session.intake import Intake
from pipe.session.joining import Newcomer, name_of
from pipe.session.midstream import what_was_sent, why_over
from pipe.session.outflow import Outflow
from pipe.session.patience import Patience
from pipe.session.place import Place, make_member
from pipe.session.progress import Progress, show_progress
from pipe.session.relayed import Relayed, Visitor, make_errand, name_topic, visits
from pipe.session.report import Ended, report, traffic_of
from pipe.session.resume import hold_place
from pipe.session.stall import StallClock
from pipe.session.state import State
from pipe.session.wide import Wide
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pipe.commands.screen import Screen
    from pipe.elsewhere import Elsewhere, Visit
    from pipe.language.names import Pattern
    from pipe.language.requests import Answerable, Request
    from pipe.limits.quotas import Holder
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Front, Port
    from pipe.session.outflow import Feed
    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member
    from pipe.stream.traffic import Traffic

log = structlog.get_logger()

MAX_ORPHANS = 256
"""Streams whose clients sent an end of file and hung up before slow readers had everything.  Each
holds at most a window, so together they stay below 256 MiB.  Beyond that a stream breaks."""


class Session:
    """One session.

    Args:
        service: what all sessions share.
        front: its client's way in and out.
        caller: who it is.
        address: where the client is, for people to read.
        holders: the user and address whose quotas it counts for.
    """

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
        self.receipt: Receipt | None = None
        self._service = service
        self._front = front
        self._holders = holders
        self._loop = asyncio.get_running_loop()
        self._state = State.OPENING
        self._request: Request | None = None  # until its command has been read
        self._topic = ""  # or pattern, once it is known
        self._opened_at = self._loop.time()
        self._place: Place | None = None  # on a topic
        self._task: asyncio.Task[None] | None = None
        self._stall_clock: StallClock | None = None  # most readers keep up
        self._outflow: Outflow | None = None  # of a command that goes on answering
        self._progress: Progress | None = None  # nobody asked for it
        self._patience: Patience | None = None  # most need none
        self._relayed: Relayed | None = None  # most run here
        self.visit: Visit | None = None  # of one that was sent here, as its topic is at home here
        self.movable = True  # to where its topic is at home
        self.partial = False  # one of several on a pattern, of which another has the client
        self._wide: Wide | None = None  # most are on one topic
        self._counted: Member | None = None  # what its client gets, from wherever it comes
        self._outcome: Outcome | None = None
        self._exit_status = 0
        self._ends_stream = False  # the outcome is a stream's, for the client to confirm
        self._deaf = False  # its client discards what it gets
        self._orphaned = False
        self.port = front.make_port(self)
        self._intake = Intake(self, self.port, service.router, service.turns)
        self.port.connect(self._intake.feed)

    # -- the front: the request -------------------------------------------------------------------

    def start(self, read: Callable[[], Request], hints: Sequence[str] = ()) -> None:
        """Count as alive, and soon serve the client's request.

        Args:
            read: returns the request; an error that it raises ends the session.
            hints: lines for clients that send a stream.
        """
        self._service.sessions[self] = None
        # Not at once: the front may need this to return before it is done with the request.
        self._loop.call_soon(self._service.turns.do, partial(self._begin, read, hints))

    def _begin(self, read: Callable[[], Request], hints: Sequence[str]) -> None:
        with visits(self.visit), self._ended_by_failure():
            if self._state is not State.OPENING:
                return
            self._service.access.require(self.caller)
            self._request = request = read()
            if self._state is State.OPENING:  # no early Ctrl-C
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
        self._state = State.RELAYING
        self._relayed = relayed = Relayed(self, self._front, self.port, self._intake)
        self.member = self._counted = relayed.member
        visitor = Visitor(self.caller, self.address, self._holders)
        relayed.start(visit, visitor, request, hints)

    def resized(self, screen: Screen) -> None:
        """The client's terminal has another size."""
        if self._relayed:
            self._relayed.way.resize(Size(*screen))

    def _serve(self, request: Request, hints: Sequence[str]) -> None:
        if isinstance(request, (Publish, Subscribe, Pipe)):
            self._state = State.STREAMING
            self._join(request, hints)
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
        self._outflow = Outflow(self.port, feed, self._front.follow())
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
        newcomer = Newcomer(self._service, self.caller, self.port, self._intake, self.announce)
        with newcomer.joins(place, member, name, request, hints, self._lost):
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

    # -- the front: bytes come --------------------------------------------------------------------

    def feed(self, chunk: Chunk) -> None:
        """Take a chunk that did not come through the port."""
        self._intake.feed(chunk)

    def feed_eof(self) -> None:
        """The client has sent everything."""
        self._intake.feed_eof()

    def take_back(self) -> Iterator[Chunk]:
        """Hand back what has arrived so far and was not used."""
        return self._intake.take_back()

    def stop_reading(self) -> None:
        """Treat the client as gone, since it discards what it gets.

        That ends a `pipe` too, whatever its client has yet to send, as it ends other programs.  A
        publisher has no use for its stdout; if it closes before the end of input, the client itself
        is gone, and its connection lives on for others.
        """
        if self._relayed:
            self._relayed.way.stop_reading()
            return
        reads = self.member and (self.member.sink or not self._intake.at_end)
        if reads or self.follows:
            self._deaf = True
            self.cut(Outcome.LEFT)

    # -- the intake -------------------------------------------------------------------------------

    def end_of_stream(self) -> None:
        """Everything the client sent is published; now wait for its readers."""
        if self.member and self.member.mode is Mode.PUBLISH:
            self._state = State.DRAINING
        if self._place:
            self._place.write_no_more()

    def waits(self, missing: int) -> None:
        """Tell the user that it waits, and for how long, or that the wait is over."""
        request = self._request
        if not isinstance(request, Publish) or not (missing or self._patience):
            return
        if self._patience is None:
            self._patience = Patience(self._loop, self.announce, partial(self.end, Outcome.TIMEOUT))
        with self._ended_by_failure():
            sent = self.member.received_bytes if self.member else 0
            self._patience.wait(request, missing, sent)

    def finish(self, receipt: Receipt) -> None:
        """Everything that was published has arrived: print the receipt."""
        self.receipt = receipt
        self._show_no_more()  # the receipt stands below it
        self.announce(what_was_sent(receipt, self.member.at if self.member else None))
        outcome = Outcome.UNDELIVERED if receipt.undelivered else Outcome.DONE
        self.end(outcome, outcome.text)

    def fail(self, error: PipeError) -> None:
        """End with an error's outcome and message."""
        self.end(error.outcome, error.message)

    # -- the port ---------------------------------------------------------------------------------

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The stream is over for this reader."""
        self._ends_stream = self._outcome is None
        text = why_over(outcome, self.member)
        self.end(outcome, text, exit_status=exit_status or outcome.status)

    def waited_for(self, others: bool) -> None:
        """Run the clock of law 4 while others wait."""
        if others and self._state is not State.CLOSED:
            self._stall_clock = self._stall_clock or StallClock(
                self._service.settings.stall_timeout,
                progress=lambda: self._counted.written_bytes if self._counted else 0,
                stalled=lambda: self.cut(Outcome.STALLED),
            )
            self._stall_clock.start()
        elif self._stall_clock:
            self._stall_clock.stop()

    def emptied(self) -> None:
        """Nothing is queued any longer: if this is the end, tell the client."""
        if self._relayed and self._state is State.RELAYING:
            self._relayed.way.took()
        elif self._outflow and self.follows:
            self._outflow.pump()
        elif self._state is State.ENDING and self._outcome and not self.port.queued:
            self._front.finish(self._outcome, self._exit_status)

    # -- the end ----------------------------------------------------------------------------------

    def announce(self, text: str) -> None:
        """Tell the user something, unless they want only the stream."""
        if not getattr(self._request, "clean", False):
            self._tell(text)

    def _tell(self, text: str) -> None:
        if self._state is not State.CLOSED:
            self._front.tell(text)

    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:
        """End in order: the last bytes, the line, end of file, the exit status."""
        if not self._begin_end(outcome, exit_status):
            return
        if text:
            self._tell(text)
        self._leave_unless_read()
        self.emptied()
        if self._orphaned:
            self._close(Outcome.LEFT)

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now: what is queued is lost, and the client gets its status at once.

        A client that was sent everything, including its status, still has a moment to confirm it.
        """
        if self._state is State.CLOSED:
            return
        if self._relayed:
            self._relayed.way.cut(outcome, text)
        self._begin_end(outcome, None)
        if self._front.abort(outcome, text or outcome.text):
            self._outcome, self._exit_status = outcome, outcome.status
            self._ends_stream = False
            self._leave()
        if self._orphaned:
            self._close(outcome)

    def _begin_end(self, outcome: Outcome, exit_status: int | None) -> bool:
        if self._state in {State.ENDING, State.CLOSED}:
            return False
        self._state = State.ENDING
        self._outcome = outcome
        self._exit_status = outcome.status if exit_status is None else exit_status
        self._intake.discard()
        self._show_no_more()
        return True

    def _show_no_more(self) -> None:
        outflow, self._outflow = self._outflow, None
        if outflow:
            outflow.close()
        progress, self._progress = self._progress, None
        if progress:
            progress.finish()

    def _leave_unless_read(self) -> None:
        """Leave the topic now, unless publishers still need to know if this reader gets it all."""
        if self.member and not (self.member.finishing and self.member.joined):
            self._leave()

    def _leave(self) -> None:
        self.waited_for(others=False)
        if self._patience:
            self._patience.stop()
        if self._wide:
            self._wide.leave()
        if self._place and self.member:
            self._place.leave(self.member, self._loop.time())

    @property
    def lacks_readers(self) -> bool:
        """Whether it is a publisher that waits for readers to come."""
        return self._intake.lacks_readers

    @property
    def paused_seconds(self) -> float:
        """How long clogged readers have held this publisher back."""
        return self._intake.held_seconds

    # -- the front: the client is gone ------------------------------------------------------------

    def client_gone(
        self,
        outcome: Outcome,
        error: Exception | None = None,
        *,
        confirmed: bool = False,
        lost: bool = False,
    ) -> None:
        """The client is gone.

        Args:
            outcome: how the session ended, unless it already ended and the client knows.
            error: for the log.
            confirmed: whether the client confirmed that it has everything, up to the end.
            lost: whether it did not go by itself, as far as one can tell.
        """
        if self._state is State.CLOSED or self._orphaned:
            return
        if self._relayed:
            complete = self._intake.complete_but_waiting
            self._relayed.leave(Gone(outcome, str(error or ""), confirmed, lost, complete))
        if self._intake.complete_but_waiting and self._service.orphans < MAX_ORPHANS:
            # The client sent its whole stream and hung up; slow readers still get all of it.
            self._orphaned = True
            self._service.orphans += 1
            return
        if self.member:
            self.member.confirmed = confirmed and not self._deaf
        if lost:
            self._hold_place()
        self._close(outcome, error)

    def _hold_place(self) -> bool:
        """Leave the place to whoever goes on with the stream, if that was asked for."""
        if self._outcome or not self._place or not self.member:
            return False
        if not hold_place(self._service, self.caller, self._request, self._place, self.member):
            return False
        self._place = None
        return True

    def hand_over(self) -> None:
        """Let another session go on with the stream, if that was asked for."""
        if self._hold_place():
            self.cut(Outcome.LEFT, "another session goes on with this stream")

    def _close(self, otherwise: Outcome, error: Exception | None = None) -> None:
        """Give everything back.

        Args:
            otherwise: the outcome if there is none yet, or the client has not confirmed it.
            error: for the log.
        """
        if self._orphaned:
            self._service.orphans -= 1
        outcome = self._outcome
        confirmed = self.member is not None and self.member.confirmed
        if outcome is None or (self._ends_stream and not confirmed):
            outcome = otherwise
        self._state = State.CLOSED
        if self._task:
            self._task.cancel()
        self._leave()
        self._show_no_more()
        self._intake.discard()
        self.port.close()
        if self in self._service.sessions:
            del self._service.sessions[self]
            self._service.paused_seconds += self.paused_seconds
        traffic = traffic_of(self._counted, self._intake)
        self._front.closed(traffic)
        self._service.turns.do(partial(self._conclude, outcome, traffic, error))

    def _conclude(self, outcome: Outcome, traffic: Traffic, error: Exception | None) -> None:
        """Log how it ended, and let go of everything: this is most of the cost of an end."""
        ended = Ended(
            user=self.caller.user,
            address=self.address,
            client=self._front.log_fields(),
            request=self._request,
            topic=self._topic,
            outcome=outcome,
            traffic=traffic,
            seconds=self._loop.time() - self._opened_at,
            error=error,
        )
        # Otherwise it is known where it ran, or the rest of it.
        if not self.partial and (self._relayed is None or self._relayed.lost):
            report(self._service, ended)
        self._forget()

    def _forget(self) -> None:
        """Cut the reference cycles that this session is in.

        This frees its memory at once.  With many objects, garbage collection is rare and slow.
        """
        self._intake.close()
        self._place = None
        self.member = self._counted = None
        self._stall_clock = None
        self._patience = None
        self._relayed = self._wide = None
        del self.port, self._intake, self._front
