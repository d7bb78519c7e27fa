"""One session, from its request to its end, whichever front it came through.

What its client sends goes through its `Intake`, the router's source; what its client reads comes
out of its front's `Port`, the router's sink.  It goes from one `State` to the next, and ends once,
with one `Outcome`.

The end of a stream counts once the reader's client has confirmed it.  A client that goes without
confirming has left, or was cut off.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipe.elsewhere import Gone
from pipe.errors import Outcome, PipeError
from pipe.language.requests import Publish
from pipe.session.intake import Intake
from pipe.session.midstream import what_was_sent, why_over
from pipe.session.patience import Patience
from pipe.session.relayed import visits
from pipe.session.report import Ended, report, traffic_of
from pipe.session.resume import hold_place
from pipe.session.serving import Serving
from pipe.session.stall import StallClock
from pipe.session.state import State
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipe.language.requests import Request
    from pipe.limits.quotas import Holder
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Front
    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Receipt
    from pipe.stream.traffic import Traffic

MAX_ORPHANS = 256
"""Streams whose clients sent an end of file and hung up before slow readers had everything.  Each
holds at most a window, so together they stay below 256 MiB.  Beyond that a stream breaks."""


class Session(Serving):
    """One session.

    Args:
        service: what all sessions share.
        front: its client's way in and out.
        caller: who it is.
        address: where the client is, for people to read.
        holders: the user and address whose quotas it counts for.
    """

    __slots__ = (
        "_abandoned",
        "_deaf",
        "_ends_stream",
        "_exit_status",
        "_opened_at",
        "_orphaned",
        "_outcome",
        "_patience",
        "_stall_clock",
    )

    def __init__(
        self,
        service: Service,
        front: Front,
        caller: Caller,
        address: str,
        holders: tuple[Holder, ...],
    ) -> None:
        super().__init__(service, front, caller, address, holders)
        self._opened_at = self._loop.time()
        self._stall_clock: StallClock | None = None  # most readers keep up
        self._patience: Patience | None = None  # most need none
        self._outcome: Outcome | None = None
        self._exit_status = 0
        self._ends_stream = False  # the outcome is a stream's, for the client to confirm
        self._deaf = False  # its client discards what it gets
        self._orphaned = False
        self._abandoned = False  # by its client, of whose stream the rest is on its way
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
                self._serve_somewhere(request, hints)

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

    def abandon(self) -> None:
        """The client is gone, and the rest of its stream is on its way from another worker."""
        self._abandoned = True

    def stop_reading(self) -> None:
        """Treat the client as gone, since it discards what it gets.

        That ends a `pipe` too, whatever its client has yet to send, as it ends other programs.  A
        publisher has no use for its stdout; if it closes before the end of input, the client itself
        is gone, and its connection lives on for others.
        """
        if self._relayed:
            ends = self._relayed.stop_reading()
        else:
            reads = self.member and (self.member.sink or not self._intake.at_end)
            ends = bool(reads or self.follows)
        if ends:
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
            gives_up = partial(self.end, Outcome.TIMEOUT)
            self._patience = Patience(self._loop, self._tell_of_wait, gives_up)
        with self._ended_by_failure():
            sent = self.member.received_bytes if self.member else 0
            self._patience.wait(request, missing, sent, gone=self._orphaned or self._abandoned)

    def _tell_of_wait(self, text: str) -> None:
        if not self._service.draining:  # nobody comes any more, and it will be cut as well
            self.announce(text)

    def finish(self, receipt: Receipt) -> None:
        """Everything that was published has arrived: print the receipt."""
        self.receipt = receipt
        if self._orphaned:
            self._hold_place(receipt)
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
        waits = self._intake.complete_but_waiting and self._service.orphans < MAX_ORPHANS
        if self._relayed:
            self._relayed.leave(Gone(outcome, str(error or ""), confirmed, lost, complete=waits))
        if waits:
            # The client sent its whole stream and hung up; slow readers still get all of it.
            self._orphaned = True
            self._service.orphans += 1
            return
        if self.member:
            self.member.confirmed = confirmed and not self._deaf
        if lost:
            self._hold_place()
        self._close(outcome, error)

    def _hold_place(self, receipt: Receipt | None = None) -> bool:
        """Leave the place to whoever goes on with the stream, if that was asked for."""
        place, member = self._place, self.member
        if place is None or member is None or (self._outcome and not self._ends_stream):
            return False
        if hold_place(self._service, self.caller, self._request, place, member, receipt):
            self._place = None
        return self._place is None

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
