"""An SSH connection without a network: the server's end as it is, and a client led by hand.

Both ends do a real handshake over two transports in memory.  The client is asyncssh's, so what the
server seals is opened by another implementation than the lane's; but it has no channels: it sends
what a test says, well formed or not, and keeps all that comes back.  Nothing moves between the
two ends but what the test delivers, cut where it likes.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_UNIMPLEMENTED,
)
from asyncssh.packet import Byte

from pipe.limits.turns import Turns
from pipe.settings import Lane, Settings
from pipe.ssh.lane import LaneConnection, Outbox
from pipe.ssh.plain import PlainConnection
from pipe.ssh.server import make_options
from pipe.stream.router import Router
from tests.ssh.led_client import Client
from tests.ssh.memory_transport import READ_BYTES, MemoryTransport
from tests.ssh.messages import MSG_UNKNOWN, execute, open_session, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pipe.errors import Outcome
    from pipe.service import Service
    from pipe.session.front import Owner
    from pipe.ssh.auth import Peer
    from pipe.ssh.connection import Connection
    from pipe.ssh.port import Port
    from pipe.stream.chunks import Chunk

LANES = tuple(Lane)

GCM = ("aes128-gcm@openssh.com",)

QUIET_TURNS = 8
"""Turns of the loop without a byte after which nothing more comes: asyncssh needs 4 for one
packet of a key exchange."""

MAX_TURNS = 20_000
"""Turns after which a wait has failed; none needs a tenth of them."""

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


class Recorder(asyncssh.SSHServerSession[bytes]):
    """A session that notes what its port and its channel tell it, and does nothing."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self._number = number
        self.chunks: list[Chunk] = []
        self.port: Port
        self.channel: asyncssh.SSHServerChannel[bytes]

    def _note(self, event: object) -> None:
        self._wire.events.append((self._number, event))

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Make the port."""
        self.channel = chan
        self.port = self._wire.server.make_port(cast("Owner", self), chan)
        self.port.connect(self.feed)

    def exec_requested(self, command: str) -> bool:
        """Note it."""
        self._note(f"exec {command}")
        return True

    def session_started(self) -> None:
        """Read what comes."""
        self.port.resume_reading()

    def feed(self, chunk: Chunk) -> None:
        """Note a chunk."""
        self.chunks.append(chunk)
        self._note(bytes(chunk.data))
        self._wire.on_chunk(self, chunk)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Let the port deliver it."""
        self.port.deliver(data)

    def eof_received(self) -> bool:
        """Note it."""
        self._note("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Note the end."""
        self._note("closed")
        self.port.close()

    def pause_writing(self) -> None:
        """The port judges by itself."""

    def resume_writing(self) -> None:
        """Tell the port."""
        self.port.emptied()

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """Note it."""
        self._note(("end", outcome, exit_status))

    def cut(self, outcome: Outcome) -> None:
        """Note it."""
        self._note(("cut", outcome))

    def waited_for(self, others: bool) -> None:
        """Note it."""
        self._note(("waited for", others))

    def emptied(self) -> None:
        """Nothing is pending."""


class Doorman(asyncssh.SSHServer):
    """Lets everybody in, and gives each channel a session."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._count = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Stand in for `pipe.ssh.auth.Peer`."""
        cast("Connection", conn).peer = cast("Peer", self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note why."""
        self._wire.lost.append(exc)

    def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:  # noqa: ARG002
        """Count it."""
        self._wire.debug_messages += 1

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        """Ask for nothing."""
        return False

    def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
        """Take what the test makes."""
        self._count += 1
        return self._wire.make_session(self._count - 1)

    def session_closed(self) -> None:
        """Nobody counts."""


class Wire:
    """The two ends, and what happened at the server's.

    Attributes:
        events: of all sessions, in order, each with its number: chunks and what else came.
        lost: why the connection ended, once it has.
        debug_messages: how many of them the client has sent.
        carried: how many bytes the client has sent since the last `cut`.
    """

    def __init__(
        self,
        lane: Lane = Lane.FAST,
        *,
        service: Service | None = None,
        outbox: Outbox | None = None,
        ciphers: Sequence[str] = GCM,
        **settings: Any,  # noqa: ANN401 - as `Settings` takes them
    ) -> None:
        loop = asyncio.get_running_loop()
        self.lane = lane
        self.events: list[tuple[int, object]] = []
        self.lost: list[Exception | None] = []
        self.sessions: list[Recorder] = []
        self.on_chunk: Callable[[Recorder, Chunk], None] = lambda _session, _chunk: None
        self.make_session: Callable[[int], asyncssh.SSHServerSession[bytes]] = self._record
        self.service = service or make_service(lane, **settings)
        self.options = make_options(self.service, HOST_KEY, cast("Any", lambda: Doorman(self)))
        self.server: Connection
        if lane is Lane.FAST:
            outbox = outbox or Outbox(loop, self.service.turns)
            self.server = LaneConnection(loop, self.options, self.service, outbox)
        else:
            self.server = PlainConnection(loop, self.options, self.service)
        self.client = Client(loop, client_options(tuple(ciphers)))
        self.server_side, self.client_side = MemoryTransport(), MemoryTransport()
        self.debug_messages = 0
        self.carried = 0
        self._cuts: list[int] = []

    @classmethod
    async def ready(cls, lane: Lane = Lane.FAST, **options: Any) -> Wire:  # noqa: ANN401
        """Connect and log in."""
        wire = cls(lane, **options)
        await wire.log_in()
        return wire

    def connect(self) -> None:
        """Let both ends know of each other, and no more."""
        self.server_side.set_protocol(self.server)
        self.client_side.set_protocol(self.client)
        self.server.connection_made(self.server_side)
        self.client.connection_made(self.client_side)

    async def log_in(self) -> None:
        """Do the handshake."""
        self.connect()
        await self.until(lambda: self.client.ready)
        await self.settle()

    def _record(self, number: int) -> Recorder:
        recorder = Recorder(self, number)
        self.sessions.append(recorder)
        return recorder

    async def open(
        self, count: int = 1, *, window: int = 1 << 21, most: int = 1 << 15, first: int = 0
    ) -> None:
        """Open sessions; the client's numbers for them begin at ``first``, and run a command."""
        for number in range(count):
            confirmed = len(self.client.of_kind(MSG_CHANNEL_OPEN_CONFIRMATION))
            self.client.send(open_session(first + number, window, most))
            await self.settle()
            assert len(self.client.of_kind(MSG_CHANNEL_OPEN_CONFIRMATION)) == confirmed + 1
            self.client.send(execute(confirmed, "any"))
        await self.settle()

    # -- moving bytes -----------------------------------------------------------------------------

    def exchange(self) -> bool:
        """Carry what is written to the other end, both ways; whether there was anything.

        The server gets it in pieces, as `cut` says, one for each call.
        """
        to_client = self.server_side.take()
        start = 0
        while start < len(to_client) and not self.client_side.closed:
            start += self.client_side.deliver(to_client[start:])
        to_server = self.client_side.written
        if not to_server or self.server_side.closed or not self.server_side.reading:
            return bool(to_client)
        end = self.carried + len(to_server)
        stop = min((cut for cut in self._cuts if self.carried < cut < end), default=end)
        piece = bytes(to_server[: min(stop - self.carried, READ_BYTES)])
        taken = self.server_side.deliver(piece)
        del to_server[:taken]
        self.carried += taken
        return True

    def cut(self, positions: Iterable[int]) -> None:
        """Cut what the client sends from now on at these positions, counted from here."""
        self.carried = 0
        self._cuts = sorted(positions)

    async def settle(self) -> None:
        """Carry all, and let the loop turn until nothing comes any more."""
        quiet = 0
        for _ in range(MAX_TURNS):
            quiet = 0 if self.exchange() or not self._at_rest() else quiet + 1
            if quiet > QUIET_TURNS:
                return
            await asyncio.sleep(0)
        raise AssertionError("it never comes to rest")

    def _at_rest(self) -> bool:
        return self.server_side.closed or self.server_side.reading

    async def until(self, condition: Callable[[], object]) -> None:
        """Carry all until something has come about."""
        for _ in range(MAX_TURNS):
            if condition():
                return
            self.exchange()
            await asyncio.sleep(0)
        raise AssertionError(f"it never came about; the connection ended with {self.lost}")

    async def finish(self) -> None:
        """End the connection."""
        await self.settle()
        if not self.server_side.closed:
            self.server_side.break_off()
        if not self.client_side.closed:
            self.client_side.break_off()
        for _ in range(QUIET_TURNS):
            await asyncio.sleep(0)

    # -- what can be seen -------------------------------------------------------------------------

    async def receive_sequence(self) -> int:
        """The server's number of the next packet, as it tells it of one that it does not know."""
        before = len(self.client.of_kind(MSG_UNIMPLEMENTED))
        self.client.send(Byte(MSG_UNKNOWN))
        await self.settle()
        answers = self.client.of_kind(MSG_UNIMPLEMENTED)[before:]
        assert len(answers) == 1
        return int.from_bytes(answers[0], "big")


def make_service(lane: Lane, **settings: Any) -> Service:  # noqa: ANN401
    """What the server's end shares with others, as far as a connection looks at it."""
    turns = Turns()
    router = Router(later=turns.do)
    shared = SimpleNamespace(settings=Settings(lane=lane, **settings), router=router, turns=turns)
    return cast("Service", shared)


def client_options(ciphers: Sequence[str]) -> asyncssh.SSHClientConnectionOptions:
    """A client that trusts everybody and has no keys."""
    return asyncssh.SSHClientConnectionOptions(
        host="localhost",
        port=2222,
        username="alice",
        known_hosts=None,
        config=None,
        agent_path=None,
        client_keys=None,
        kex_algs=["curve25519-sha256"],  # as little as possible, as tests cut between any two bytes
        server_host_key_algs=["ssh-ed25519"],
        compression_algs=None,
        encryption_algs=list(ciphers),
        mac_algs=["hmac-sha2-256-etm@openssh.com"],
    )


def flood(wire: Wire, packet: bytes, count: int) -> bytes:
    """So many packets of one payload, sealed by the client."""
    return b"".join(wire.client.frame(padded(packet)) for _ in range(count))
