"""One channel, from its request to its exit status.

What its client sends goes through its `Intake`, a `pipe.stream.members.Source`; what its client
reads comes out of its `Port`, a `pipe.stream.members.Sink`.  It ends for one `Outcome`, once.

    OPENING ── request ──> ANSWERING   a command that only answers
        └─────────────────> STREAMING ── end of file of a publisher ──> DRAINING
    any of them ── outcome ──> ENDING  (the last bytes are on their way) ──> CLOSED

The end of a stream that a reader is sent counts once its client has answered it, by closing the
channel.  A client that goes without that has left, or was cut off, and has not confirmed.
"""

from __future__ import annotations

import asyncio
import enum
from functools import partial
from typing import TYPE_CHECKING, cast

import asyncssh
import structlog

from pipe.commands import Asker, answer, input_limit, invitations
from pipe.commands.layout import count
from pipe.errors import Ending, Outcome, PipeError
from pipe.language.durations import format_duration
from pipe.language.names import TopicName, parse_pattern, parse_topic, random_path
from pipe.language.requests import NAMES, Pipe, Publish, Subscribe, parse, sends_stream
from pipe.metrics import COMMAND_MODE
from pipe.session.collector import Collector
from pipe.session.intake import Intake
from pipe.session.place import Place
from pipe.session.stall import StallClock
from pipe.ssh.terminal import (
    ENDING_SIGNALS,
    LINE_END,
    MAX_TYPE_LENGTH,
    STREAM_TEXT,
    Terminal,
)
from pipe.stream.members import Mode, make_member
from pipe.stream.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pipe.language.names import Pattern
    from pipe.language.requests import Answerable, Request
    from pipe.rights.access import Caller, Loss
    from pipe.service import Service
    from pipe.ssh.confirmation import ConfirmedChannel
    from pipe.ssh.connection import Connection
    from pipe.ssh.port import Port
    from pipe.stream.chunks import Chunk
    from pipe.stream.members import Member, Receipt

log = structlog.get_logger()

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long a session that was cut may take to go, before its channel is taken away."""

MAX_ORPHANS = 256
"""Streams of clients that sent an end of file and hung up before slow readers had taken
everything: each holds at most a window, so together they stay below 256 MiB.  Beyond that such
a stream is broken."""

_MODES = {
    Publish: Mode.PUBLISH.value,
    Subscribe: Mode.SUBSCRIBE.value,
    Pipe: Mode.PIPE.value,
}
"""The ``mode`` label of a session, also of one that was refused its topic."""


class State(enum.Enum):
    """Where a session is in its life; see the module's docstring."""

    OPENING = enum.auto()
    ANSWERING = enum.auto()
    STREAMING = enum.auto()
    DRAINING = enum.auto()
    ENDING = enum.auto()
    CLOSED = enum.auto()


class Session(asyncssh.SSHServerSession[bytes]):
    """A channel's session.

    Args:
        service: what all sessions share.
        connection: the connection that carries it.
        caller: who has logged in.
    """

    port: Port
    _intake: Intake
    _channel: ConfirmedChannel

    def __init__(self, service: Service, connection: Connection, caller: Caller) -> None:
        self.member: Member | None = None
        self.caller = caller
        self.address = connection.address
        self._service = service
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._state = State.OPENING
        self._command = ""
        self._terminal: Terminal | None = None
        self._request: Request | None = None  # until its command has been read
        self._topic = ""  # or pattern, once it is known
        self._opened_at = self._loop.time()
        self._place: Place | None = None  # on a topic
        self._task: asyncio.Task[None] | None = None
        self._stall_clock: StallClock | None = None  # most readers keep up
        self._missing = 0
        self._wait_timer: asyncio.TimerHandle | None = None
        self._outcome: Outcome | None = None
        self._exit_status = 0
        self._ends_stream = False  # the outcome is a stream's, for the client to confirm
        self._orphaned = False
        self._close_timer: asyncio.TimerHandle | None = None

    # -- asyncssh: the channel opens --------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = cast("ConfirmedChannel", chan)
        self.port = self._connection.make_port(self, chan)
        self._intake = Intake(self, self.port, self._service.router, self._service.turns)
        self.port.connect(self._intake.feed)

    def pty_requested(
        self,
        term_type: str,
        term_size: tuple[int, int, int, int],  # noqa: ARG002
        term_modes: Mapping[int, int],
    ) -> bool:
        """Say yes, as ``ssh -t`` insists; a stream's bytes pass as they are all the same."""
        if len(term_type) > MAX_TYPE_LENGTH:
            return False
        self._terminal = Terminal(term_modes)
        return True

    @property
    def _line_end(self) -> str:
        return LINE_END if self._terminal else "\n"

    def shell_requested(self) -> bool:
        """``ssh HOST`` with no command gets help."""
        return True

    def exec_requested(self, command: str) -> bool:
        """Keep the command; it is read once the client knows that it was accepted."""
        self._command = command
        return True

    def subsystem_requested(self, subsystem: str) -> bool:  # noqa: ARG002
        """There are none."""
        return False

    def session_started(self) -> None:
        """The request was accepted."""
        self._service.sessions[self] = None
        # In a turn of its own: asyncssh is not done with the request before this returns.
        self._loop.call_soon(self._service.turns.do, self._start)

    def _start(self) -> None:
        if self._state is not State.OPENING:
            return
        try:
            self._service.access.require(self.caller)
            self._request = parse(self._command)
            if self._terminal and not sends_stream(self._request):
                self._heed_keys()
            if self._state is State.OPENING:  # no early Ctrl-C
                self._serve(self._request)
        except PipeError as error:
            self.fail(error)
        except Exception:
            log.exception("session failed", user=self.caller.user)
            self.end(Outcome.FAILED, Outcome.FAILED.text)

    def _serve(self, request: Request) -> None:
        if isinstance(request, (Publish, Subscribe, Pipe)):
            self._state = State.STREAMING
            self._join(request)
        else:
            self._state = State.ANSWERING
            self._do(partial(self._answer, request))

    async def _answer(self, request: Answerable) -> None:
        stdin = await self._collect_input(input_limit(request))
        asker = Asker(self.caller, self.address, self, stdin, self._connection.visit.holders)
        text = await answer(request, self._service, asker)
        if not self._channel.is_closing():
            self._channel.write(text.replace("\n", self._line_end).encode())
        self.end(Outcome.DONE)

    def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        self._task = self._loop.create_task(self._do_in_order(work))

    async def _do_in_order(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except PipeError as error:
            self.fail(error)
        except Exception:
            log.exception("session failed", user=self.caller.user)
            self.end(Outcome.FAILED, Outcome.FAILED.text)

    async def _collect_input(self, limit: int) -> bytes:
        """Read the client's input to its end, for a command that wants any."""
        if not limit:
            self._discard_input()
            return b""
        collector = Collector(limit)
        self._intake.collect(collector)
        return await collector.wait_collected()

    def _discard_input(self) -> None:
        """Let the client send what it likes; nobody wants it."""
        self._intake.discard()
        self.port.resume_reading()

    # -- joining a topic --------------------------------------------------------------------------

    def _join(self, request: Publish | Subscribe | Pipe) -> None:
        raw = request.topic or random_path()
        parse_name = parse_pattern if isinstance(request, Subscribe) else parse_topic
        name = parse_name(raw, caller=self.caller.user, public=request.public)
        self._topic = str(name)
        self.member = member = make_member(request, self._intake, self.port)
        self._place = place = Place(self._service, self.caller, self._connection.visit.holders)
        if not isinstance(name, TopicName):
            self._do(partial(self._join_pattern, place, member, name, request))
            return
        place.enter(name, request, self._lost)
        self.port.bind(member)
        if isinstance(request, Subscribe):
            self._discard_input()
        else:
            bucket = place.publish(self._loop.time())
            if bucket:
                self._intake.throttle(bucket)
            self._bind_input(member, request, name)
        place.join(member)

    def _bind_input(self, member: Member, request: Publish | Pipe, name: TopicName) -> None:
        """Have what the client sends published, and say how others come to read it."""
        empty = isinstance(request, Publish) and request.empty
        self._intake.bind(member, request.framing, empty=empty)
        for line in invitations(self._service, self.caller, request, name):
            self.announce(line)
        if self._terminal and sends_stream(request):
            self.announce(STREAM_TEXT)

    async def _join_pattern(
        self, place: Place, member: Member, pattern: Pattern, request: Publish | Subscribe | Pipe
    ) -> None:
        """Join all that matches, of one user's readers one in a turn: it looks at every topic."""
        async with self._service.joining.turn(self.caller.user):
            if self._state is not State.STREAMING:
                return
            place.enter_pattern(pattern, request)
            self.port.bind(member)
            self._discard_input()
            place.join(member)

    def _lost(self, loss: Loss) -> None:
        """The right to be here has ended."""
        self.cut(Outcome.DENIED, f"access to {self._topic} has ended: {loss.value}")

    # -- asyncssh: bytes come ---------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Bytes from the client, on asyncssh's data path."""
        self.port.deliver(data)

    def eof_received(self) -> bool:
        """The client has sent everything; keep the channel open for what it has yet to read."""
        self._intake.feed_eof()
        return True

    def _heed_keys(self) -> None:
        """What the client sends are keys of its terminal, also what has come already."""
        self.port.connect(self._typed)
        for chunk in list(self._intake.take_back()):
            self._typed(chunk)

    def _typed(self, chunk: Chunk) -> None:
        """Keys were pressed at the client's terminal."""
        if self._terminal and self._terminal.feed(chunk, self._intake):
            self.cut(Outcome.INTERRUPTED)

    def signal_received(self, signal: str) -> None:
        """The client asks for a signal to what it has started."""
        if signal in ENDING_SIGNALS:
            self.cut(Outcome.INTERRUPTED)

    # -- the intake -------------------------------------------------------------------------------

    def end_of_stream(self) -> None:
        """All that the client sent is published; what follows is the wait for its readers."""
        if self.member and self.member.mode is Mode.PUBLISH:
            self._state = State.DRAINING
        if self._place:
            self._place.write_no_more()

    def waits(self, missing: int) -> None:
        """Say that it waits, and for how long; or that it waits no more."""
        if self._wait_timer:
            self._wait_timer.cancel()
            self._wait_timer = None
        was_missing, self._missing = self._missing, missing
        request = self._request
        if not isinstance(request, Publish):
            return
        if missing:
            patience = format_duration(request.timeout)
            if not was_missing:
                self.announce(f"waiting for {count(missing, 'subscriber')}, up to {patience}")
            self._wait_timer = self._loop.call_later(request.timeout, self._give_up, patience)
        elif was_missing:
            enough = "a subscriber is" if request.min_subscribers == 1 else "enough subscribers are"
            self.announce(f"{enough} here, sending")

    def _give_up(self, patience: str) -> None:
        missing = count(self._missing, "subscriber")
        self.end(Outcome.TIMEOUT, f"gave up: {missing} still missing after {patience}")

    def finish(self, receipt: Receipt) -> None:
        """All that was published has arrived: give the receipt."""
        early = f", {receipt.left_early} of them left early" if receipt.left_early else ""
        self.announce(
            f"sent {count(receipt.sent_bytes, 'byte')} "
            f"to {count(receipt.subscribers, 'subscriber')}{early}"
        )
        outcome = Outcome.UNDELIVERED if receipt.undelivered else Outcome.DONE
        self.end(outcome, outcome.text)

    def fail(self, error: PipeError) -> None:
        """End with an error's own outcome and sentence."""
        self.end(error.outcome, error.message)

    # -- the port: the sink -----------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The channel's buffer is not empty; the port judges by itself when it is full."""

    def resume_writing(self) -> None:
        """The channel's buffer has become empty."""
        self.port.emptied()

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The stream is over for this reader."""
        text = outcome.text
        if outcome is Outcome.DROPPED and self.member:
            text = f"dropped {count(self.member.dropped_bytes, 'byte')}: this reader fell behind"
        self._ends_stream = self._outcome is None
        self.end(outcome, text, exit_status=exit_status or outcome.status)

    def waited_for(self, others: bool) -> None:
        """Start the clock of law 4 when others begin to wait, stop it when they do no more."""
        if others and self._state is not State.CLOSED:
            self._stall_clock = self._stall_clock or StallClock(
                self._service.settings.stall_timeout,
                progress=lambda: self.member.written_bytes if self.member else 0,
                stalled=lambda: self.cut(Outcome.STALLED),
            )
            self._stall_clock.start()
        elif self._stall_clock:
            self._stall_clock.stop()

    # -- the end ----------------------------------------------------------------------------------

    def announce(self, text: str) -> None:
        """Say something on stderr, unless the client wants it clean."""
        if not getattr(self._request, "clean", False):
            self._write_stderr(text)

    def _write_stderr(self, text: str) -> None:
        if self._state is not State.CLOSED and not self._channel.is_closing():
            self._channel.write_stderr(f"pipe: {text}{self._line_end}".encode())

    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:
        """End in good order: the last bytes, the line, end of file, the exit status."""
        if not self._begin_end(outcome, exit_status):
            return
        if text:
            self._write_stderr(text)
        self._leave_unless_read()
        self.emptied()
        if self._orphaned:
            self._close()

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now: what is queued is lost, and the client gets its status at once.

        One that has been sent everything, its status too, may still confirm it, for a moment.
        """
        if self._state is State.CLOSED:
            return
        if not self._channel.end_sent:
            self._cut(outcome, text)
        if self._orphaned:
            self._close()
        elif self._close_timer is None:
            self._close_timer = self._loop.call_later(
                CLOSE_TIMEOUT_SECONDS, self._connection.cut_off, Ending.STUCK
            )

    def _cut(self, outcome: Outcome, text: str) -> None:
        if not self._begin_end(outcome, None) and not self._channel.is_closing():
            self._outcome, self._exit_status = outcome, outcome.status
            self._ends_stream = False
        queued = self.port.queued
        if not self._channel.is_closing():
            if (line := text or outcome.text) and not queued:
                self._write_stderr(line)
            self._channel.cut(self._exit_status)
        self._leave()

    def _begin_end(self, outcome: Outcome, exit_status: int | None) -> bool:
        if self._state in {State.ENDING, State.CLOSED}:
            return False
        self._state = State.ENDING
        self._outcome = outcome
        self._exit_status = outcome.status if exit_status is None else exit_status
        self._intake.discard()
        return True

    def _leave_unless_read(self) -> None:
        """Leave the topic now, unless publishers are to know when this reader has everything."""
        if self.member and not (self.member.finishing and self.member.joined):
            self._leave()

    def emptied(self) -> None:
        """Nothing is pending any more: if this is the end, say so to the client."""
        if self._state is not State.ENDING or self.port.queued:
            return
        if self._channel.get_write_buffer_size() or self._channel.is_closing():
            return
        if self._connection.exchanges_keys:
            return  # it would be put aside, and is sent only once the client can have it
        self._channel.send_end(self._exit_status)

    def _leave(self) -> None:
        self.waited_for(others=False)
        if self._wait_timer:
            self._wait_timer.cancel()
            self._wait_timer = None
        if self._place and self.member:
            self._place.leave(self.member, self._loop.time())

    @property
    def paused_seconds(self) -> float:
        """How long clogged readers have held this publisher back."""
        return self._intake.held_seconds

    # -- asyncssh: the channel is gone ------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """The client closed the channel or the connection: confirmation, or an end without one."""
        if self._state is State.CLOSED or self._orphaned:
            return
        if self._intake.complete_but_waiting and self._service.orphans < MAX_ORPHANS:
            # The client sent its whole stream and hung up; slow readers are to get it all the same.
            self._orphaned = True
            self._service.orphans += 1
            return
        self._close(exc)

    def _close(self, exc: Exception | None = None) -> None:
        if self._orphaned:
            self._service.orphans -= 1
        outcome, confirmed = self._outcome, self._channel.confirmed
        if outcome is None or (self._ends_stream and not confirmed):
            outcome = self._connection.why_ended(exc).outcome
        if self.member:
            self.member.confirmed = confirmed
        self._state = State.CLOSED
        if self._close_timer:
            self._close_timer.cancel()
        if self._task:
            self._task.cancel()
        self._leave()
        self._intake.discard()
        self.port.close()
        if self in self._service.sessions:
            del self._service.sessions[self]
            self._service.paused_seconds += self.paused_seconds
        self._connection.session_closed()
        self._service.turns.do(partial(self._conclude, outcome, exc))

    def _conclude(self, outcome: Outcome, exc: Exception | None) -> None:
        """Say how it ended, and let go of everything; this is most of what an end costs."""
        self._report(outcome, exc)
        self._forget()

    def _forget(self) -> None:
        """Cut the cycles of references that this session is in.

        So its memory comes free at once, and not when Python next looks for garbage: with many
        objects that is seldom, and takes long.
        """
        self._intake.close()
        self._place = None
        self.member = None
        self._stall_clock = None
        del self.port, self._intake

    def _report(self, outcome: Outcome, exc: Exception | None) -> None:
        seconds = self._loop.time() - self._opened_at
        traffic = self._traffic()
        self._connection.visit.traffic.add(traffic)
        mode = _MODES.get(type(self._request), COMMAND_MODE)
        self._service.metrics.sessions_ended.labels(mode, outcome.label).inc()
        self._service.metrics.session_duration.labels(mode).observe(seconds)
        log.info(
            "session ended",
            user=self.caller.user,
            address=self.address,
            **self._connection.log_fields(),
            mode=mode,
            **self._subject(mode),
            outcome=outcome.label,
            **traffic.log_fields(),
            seconds=round(seconds, 3),
            **({"error": str(exc)} if exc else {}),
        )

    def _subject(self, mode: str) -> dict[str, str]:
        """Which command it was, or on which topic if that may be told."""
        if mode == COMMAND_MODE and self._request:
            return {"command": NAMES[type(self._request)]}
        if self._topic and self._service.settings.log_topics:
            return {"topic": self._topic}
        return {}

    def _traffic(self) -> Traffic:
        member = self.member
        if member is None:
            return Traffic()
        return Traffic(
            member.received_bytes,
            member.received_chunks,
            member.written_bytes,
            member.accepted_chunks,
            self.paused_seconds,
            self._intake.waited_seconds,
        )
