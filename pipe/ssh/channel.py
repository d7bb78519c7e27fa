"""One SSH channel: asyncssh's callbacks on one side, a session on the other.

It is a `pipe.session.front.Front`: stdout carries the stream, stderr carries lines for the user,
and the end is an exit status (RFC 4254, section 6.10) between end of file and close.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncssh

from pipe.commands.screen import Screen
from pipe.errors import Ending, Outcome
from pipe.language.requests import parse, sends_stream
from pipe.session.session import Session
from pipe.ssh.login.restrictions import NO_RESTRICTIONS
from pipe.ssh.openssh import BROKEN_PIPE
from pipe.ssh.terminal import (
    ENDING_SIGNALS,
    LINE_END,
    MAX_TYPE_LENGTH,
    STREAM_TEXTS,
    Terminal,
)
from pipe.ssh.windows import MAX_PACKET_BYTES
from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.language.requests import Request
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Owner
    from pipe.ssh.confirmation import ConfirmedChannel
    from pipe.ssh.connection import Connection
    from pipe.ssh.login.restrictions import Restrictions
    from pipe.ssh.port import Port
    from pipe.stream.traffic import Traffic

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long the client of a cut session may take to close its channel before we drop it."""


class Channel(asyncssh.SSHServerSession[bytes]):
    """A channel's session, as asyncssh calls it.

    Args:
        service: what all sessions share.
        connection: the connection that carries it.
        caller: who has logged in.
        restrictions: the limits that the login sets.
    """

    def __init__(
        self,
        service: Service,
        connection: Connection,
        caller: Caller,
        restrictions: Restrictions = NO_RESTRICTIONS,
    ) -> None:
        self._service = service
        self._connection = connection
        self._caller = caller
        self._restrictions = restrictions
        self._command = ""
        self._terminal: Terminal | None = None
        self._screen: Screen | None = None
        self._resized: Callable[[int], None] = _ignore
        self._drawn = 0  # columns of the line that the next one replaces
        self._close_timer: asyncio.TimerHandle | None = None

    # -- asyncssh: the channel opens --------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = cast("ConfirmedChannel", chan)  # made by our own connection
        connection = self._connection
        self.session = Session(
            self._service, self, self._caller, connection.address, connection.visit.holders
        )

    def make_port(self, owner: Owner) -> Port:
        """Make the data path: the lane's if the connection is on it."""
        self._port = self._connection.make_port(owner, self._channel)
        return self._port

    def pty_requested(
        self,
        term_type: str,
        term_size: tuple[int, int, int, int],
        term_modes: Mapping[int, int],
    ) -> bool:
        """Say yes, as ``ssh -t`` insists on it; a stream's bytes still pass unchanged."""
        if len(term_type) > MAX_TYPE_LENGTH or not self._restrictions.pty:
            return False
        self._terminal = Terminal(term_modes)
        if term_type != "dumb":
            self._screen = Screen(*term_size[:2])
        return True

    def terminal_size_changed(
        self,
        width: int,
        height: int,
        pixwidth: int,  # noqa: ARG002
        pixheight: int,  # noqa: ARG002
    ) -> None:
        """Draw in the new size from now on."""
        if self._screen:
            self._screen = Screen(width, height)
            self._resized(width)

    @property
    def _line_end(self) -> str:
        return LINE_END if self._terminal else "\n"

    @property
    def line_end(self) -> bytes:
        """What ends a line: a terminal that we control is raw."""
        return self._line_end.encode()

    def shell_requested(self) -> bool:
        """Answer ``ssh HOST`` without a command with help, or run the login's only command."""
        return self.exec_requested("")

    def exec_requested(self, command: str) -> bool:
        """Keep the command, and parse it once the client knows that it was accepted."""
        forced = self._restrictions.command
        self._command = command if forced is None else forced
        return True

    def subsystem_requested(self, subsystem: str) -> bool:  # noqa: ARG002
        """Refuse: there are no subsystems."""
        return False

    def session_started(self) -> None:
        """The request was accepted."""
        self.session.start(self._read_request, STREAM_TEXTS if self._terminal else ())

    def _read_request(self) -> Request:
        request = parse(self._command)
        if self._terminal and not sends_stream(request):
            self._heed_keys()
        return request

    # -- another process --------------------------------------------------------------------------

    @property
    def channel(self) -> ConfirmedChannel:
        """What asyncssh knows of it."""
        return self._channel

    @property
    def connection(self) -> Connection:
        """What carries it."""
        return self._connection

    @property
    def command(self) -> str:
        """What it was asked to do, or its login says that it does."""
        return self._command

    @property
    def has_terminal(self) -> bool:
        """Whether the client has a pseudo-terminal."""
        return self._terminal is not None

    def resume(self, command: str, early: bytes, *, ended: bool) -> None:
        """Go on with a session that was begun in another process, where its request was accepted.

        Args:
            command: what it was asked to do.
            early: what the client has sent so far, of which nothing was used.
            ended: whether that was all.
        """
        self.exec_requested(command)
        for start in range(0, len(early), MAX_PACKET_BYTES):  # a chunk is no larger than a packet
            self.session.feed(Chunk(early[start : start + MAX_PACKET_BYTES]))
        if ended:
            self.session.feed_eof()
        self.session_started()

    # -- asyncssh: bytes come ---------------------------------------------------------------------

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Bytes from the client, on asyncssh's data path."""
        self._port.deliver(data)

    def eof_received(self) -> bool:
        """The client has sent everything; keep the channel open for what it has yet to read."""
        self.session.feed_eof()
        return True

    def _heed_keys(self) -> None:
        """Treat what the client sends, and has sent so far, as keys of its terminal."""
        self._port.connect(self._typed)
        for chunk in list(self.session.take_back()):
            self._typed(chunk)

    def _typed(self, chunk: Chunk) -> None:
        """Keys were pressed at the client's terminal."""
        if self._terminal and self._terminal.feed(chunk, self.session):
            self.session.cut(Outcome.INTERRUPTED)

    def signal_received(self, signal: str) -> None:
        """The client sends a signal to its command, or its stdout is gone."""
        if signal in ENDING_SIGNALS:
            self.session.cut(Outcome.INTERRUPTED)
        elif signal == BROKEN_PIPE:
            self.session.stop_reading()

    def pause_writing(self) -> None:
        """The channel's buffer is not empty; the port decides by itself when it is full."""

    def resume_writing(self) -> None:
        """The channel's buffer has become empty."""
        self._port.emptied()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client closed the channel or the connection, which may confirm the end."""
        ending, confirmed = self._connection.why_ended(exc), self._channel.confirmed
        lost = ending in {Ending.LOST, Ending.DEAD}
        self.session.client_gone(ending.outcome, exc, confirmed=confirmed, lost=lost)

    # -- the session ------------------------------------------------------------------------------

    def tell(self, text: str) -> None:
        """Write a line to stderr."""
        if not self._channel.is_closing():
            start = self._line_end if self._drawn else ""
            self._drawn = 0
            self._channel.write_stderr(f"{start}pipe: {text}{self._line_end}".encode())

    def draw(self, line: str, *, last: bool) -> None:
        """Write a line to stderr over the one before, unless that has yet to be sent."""
        channel, connection = self._channel, self._connection
        busy = channel.get_write_buffer_size() or connection.blocked or connection.exchanges_keys
        if channel.is_closing() or (busy and not last):
            return
        end = self._line_end if last else ""
        channel.write_stderr(f"\r{line:{self._drawn}}{end}".encode())
        self._drawn = 0 if last else len(line)

    def answer(self, text: str) -> None:
        """Write a command's answer to stdout."""
        if not self._channel.is_closing():
            self._channel.write(text.replace("\n", self._line_end).encode())

    def screen(self) -> Screen | None:
        """Return the client's terminal: what its variables say has come before its command."""
        if self._screen and self._channel.no_colour:
            return self._screen._replace(colours=False)
        return self._screen

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """Call it from now on."""
        self._resized = resized

    def follow(self) -> None:
        """There is nothing to do: stdout carries lines as it carries a stream."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:  # noqa: ARG002
        """Send end of file and the exit status, once stderr is written too."""
        if self._channel.get_write_buffer_size() or self._channel.is_closing():
            return
        if not self._connection.exchanges_keys:  # otherwise asyncssh would defer it
            self._channel.send_end(exit_status)

    def abort(self, outcome: Outcome, text: str) -> bool:
        """Send the exit status at once and close; a client that does not answer is cut off."""
        told = not (self._channel.end_sent or self._channel.is_closing())
        if told:
            if text and not self._port.queued:
                self.tell(text)
            self._channel.cut(outcome.status)
        if self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(
                CLOSE_TIMEOUT_SECONDS, self._connection.cut_off, Ending.STUCK
            )
        return told

    def closed(self, traffic: Traffic) -> None:
        """Give back the session's place on the connection."""
        if self._close_timer:
            self._close_timer.cancel()
        self._connection.visit.traffic.add(traffic)
        self._connection.session_closed()
        self._resized = _ignore
        del self.session, self._port

    def log_fields(self) -> dict[str, str]:
        """What the log says about the client's software and its data path."""
        return self._connection.log_fields()


def _ignore(_columns: int) -> None:
    """Nobody draws again by itself."""
