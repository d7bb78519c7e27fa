"""One tunnel: asyncssh's callbacks on one side, asyncio's transport on the other.

Its data path is a port of the connection, the lane's where that is in use, so what holds for
sessions holds here: the client's window is opened only as what it sent is taken, nothing is written
to a connection that is blocked, and what waits is bounded.

What the client sends while nothing is read waits in a backlog, which the window bounds.  What is
written waits in the port, or here while the connection is blocked; whoever writes is told to pause
above a mark, as by every transport.  A client's end of file is seen at once, even while nothing is
read, which a socket does not tell (`pipe.web.hangup`): `Tunnel.watch` passes it on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import asyncssh

from pipe.stream.chunks import Backlog, Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncssh.channel import SSHChannel

    from pipe.errors import Outcome
    from pipe.service import Login, TunnelServer
    from pipe.ssh.port import Port

HIGH_WATER_BYTES = 1 << 16
"""What may wait before whoever writes is told to pause, unless they say otherwise: as asyncio's."""

LINGER_SECONDS = 30.0
"""A tunnel that is closing is cut off after so long in which its client took nothing."""


class Carrier(Protocol):
    """The connection under a tunnel."""

    blocked: bool
    """Whether it takes nothing for now."""

    def make_port(self, owner: Tunnel, channel: SSHChannel[bytes]) -> Port:
        """Make the data path of a channel."""


class Tunnel(asyncssh.SSHTCPSession[bytes], asyncio.Transport):
    """One tunnel, from when its channel is open.

    Args:
        connection: carries it.
        tunnels: serves it.
        login: whose it is.
        closed: called once, when its channel is gone.
    """

    def __init__(
        self,
        connection: Carrier,
        tunnels: TunnelServer,
        login: Login,
        closed: Callable[[], None],
    ) -> None:
        asyncio.Transport.__init__(self, {"peername": (login.address, 0), "login": login})
        self._connection = connection
        self._tunnels = tunnels
        self._login = login
        self._closed: Callable[[], None] | None = closed  # until it is called
        self._loop = asyncio.get_running_loop()
        self._protocol: asyncio.Protocol | None = None  # until it is told of the end
        self._backlog = Backlog()
        self._delivers = False  # the backlog, soon
        self._reading = True
        self._ended = False  # whether the client sends no more
        self._watcher: Callable[[], None] | None = None
        self._queue: deque[bytes | memoryview] = deque()  # while the connection is blocked
        self._queued = 0
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._paused = False  # whether the protocol was told to write no more
        self._closing = False
        self._finished = False  # whether the channel is being closed
        self._linger: asyncio.TimerHandle | None = None

    # -- asyncssh ---------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan
        self._port = self._connection.make_port(self, chan)
        self._port.connect(self._take)
        self._protocol = self._tunnels.carry(self, self._login)

    def session_started(self) -> None:
        """The client knows that it is open."""
        if self._reading and not self._closing:
            self._port.resume_reading()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Bytes from the client, on asyncssh's data path."""
        self._port.deliver(data)

    def eof_received(self) -> bool:
        """The client sends no more."""
        self._ended = True
        self._look()
        if not self._delivers:
            self._deliver()
        return True

    def pause_writing(self) -> None:
        """The channel's buffer is not empty; what counts is what waits in all."""

    def resume_writing(self) -> None:
        """The channel's buffer has become empty."""
        self._port.emptied()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is gone, or the connection."""
        self._closing = self._finished = self._ended = True
        self._stop()
        self._tell_end()
        self._port.close()
        closed, self._closed = self._closed, None
        del self._port, self._channel  # which refer to it
        if closed:
            closed()

    # -- the port's owner -------------------------------------------------------------------------

    def emptied(self) -> None:
        """Nothing waits in the port, and the connection takes more."""
        while self._queue and not self._connection.blocked:
            data = self._queue.popleft()
            self._queued -= len(data)
            self._port.write(Chunk(data))
            if self._port.queued:
                return
        self._heed_marks()
        if self._closing and not self._finished and not self.get_write_buffer_size():
            self._finish()

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """Nobody publishes to a tunnel."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """No router knows a tunnel."""

    def waited_for(self, others: bool) -> None:
        """No router knows a tunnel."""

    # -- asyncio: reading -------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - asyncio's own
        """What is known of it: ``hangups`` notices that its client is gone."""
        return self if name == "hangups" else super().get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Refuse: it keeps the one that it was welcomed with."""
        raise NotImplementedError

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What it is served by."""
        if self._protocol is None:
            raise RuntimeError("the tunnel is closed")
        return self._protocol

    def is_reading(self) -> bool:
        """Whether what the client sends is taken."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Take nothing more than the window allows already."""
        if not self._closing:
            self._reading = False
            self._port.pause_reading()

    def resume_reading(self) -> None:
        """Go on, with what waits first."""
        if self._reading or self._closing:
            return
        self._reading = True
        if not (self._backlog or self._ended):
            self._port.resume_reading()
        elif not self._delivers:
            self._delivers = True
            self._loop.call_soon(self._deliver)

    def _take(self, chunk: Chunk) -> None:
        """The client has sent something."""
        if self._closing:
            return
        if self._reading and not self._backlog and not self._delivers and self._protocol:
            self._protocol.data_received(bytes(chunk.data))
        else:
            self._backlog.append(chunk)

    def _deliver(self) -> None:
        """Hand on what waits, as far as it is wanted, then the client's end."""
        self._delivers = True  # what comes meanwhile comes after it
        while self._backlog and self.is_reading() and self._protocol:
            self._protocol.data_received(bytes(self._backlog.popleft().data))
        self._delivers = False
        if not self.is_reading() or self._backlog:
            return
        if not self._ended:
            self._port.resume_reading()
        elif self._protocol and not self._protocol.eof_received():
            self.close()

    def watch(self, _descriptor: int, gone: Callable[[], None]) -> None:
        """Call ``gone``, once, when the client sends no more, until `forget`."""
        self._watcher = gone
        if self._ended:
            self._loop.call_soon(self._look)

    def forget(self, _descriptor: int, gone: Callable[[], None]) -> None:
        """Watch no more for this one; harmless where it was not."""
        if self._watcher == gone:
            self._watcher = None

    def _look(self) -> None:
        if self._watcher:
            gone, self._watcher = self._watcher, None
            gone()

    # -- asyncio: writing -------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send something; after the end it goes nowhere."""
        if self._closing or not data:
            return
        if isinstance(data, bytearray):
            data = bytes(data)  # its owner may change it
        if self._connection.blocked or self._queue:
            self._queue.append(data)
            self._queued += len(data)
        else:
            self._port.write(Chunk(data))
        self._heed_marks()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send pieces together: each packet costs the same."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """Bytes that have not been handed to the connection."""
        return self._queued + self._port.queued if self._closed else 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks below and above which the protocol is told to go on and to pause."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, with asyncio's defaults."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        self._heed_marks()

    def _heed_marks(self) -> None:
        """Tell the protocol to pause, or to go on."""
        size = self.get_write_buffer_size()
        if self._protocol is None:
            return
        if not self._paused and size > self._high:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and size <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    def can_write_eof(self) -> bool:
        """No: HTTP has no use for half a connection."""
        return False

    # -- asyncio: the end -------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closing

    def close(self) -> None:
        """Close it once all is written."""
        if self._closing:
            return
        self._closing = True
        self._port.pause_reading()
        self._backlog.clear()
        if self.get_write_buffer_size():
            self._wait_for_client()
        else:
            self._finish()

    def abort(self) -> None:
        """Close it now; what waits is lost."""
        if self._finished:
            return
        self._closing = self._finished = True
        self._stop()
        self._channel.abort()
        self._loop.call_soon(self._tell_end)

    def _finish(self) -> None:
        """Close it: all is written."""
        self._finished = True
        self._stop()
        if not self._channel.is_closing():
            self._channel.write_eof()
        self._channel.close()
        self._loop.call_soon(self._tell_end)

    def _wait_for_client(self) -> None:
        """Cut it off later, if its client has taken nothing by then."""
        size = self.get_write_buffer_size()
        self._linger = self._loop.call_later(LINGER_SECONDS, self._look_at_client, size)

    def _look_at_client(self, size: int) -> None:
        if self.get_write_buffer_size() == size:
            self.abort()
        else:
            self._wait_for_client()

    def _stop(self) -> None:
        """Drop what waits, and the timer."""
        self._backlog.clear()
        self._queue.clear()
        self._queued = 0
        if self._linger:
            self._linger.cancel()

    def _tell_end(self) -> None:
        protocol, self._protocol = self._protocol, None
        self._watcher = None
        if protocol:
            protocol.connection_lost(None)
