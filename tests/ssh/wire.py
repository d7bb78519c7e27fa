"""An SSH connection without a network: the server's end as it is, and a client led by hand.

Both ends do a real handshake over two transports in memory.  The client is asyncssh's, so what the
server seals is opened by another implementation than the lane's; but it has no channels: it sends
what a test says, well formed or not, and keeps all that comes back.  Nothing moves between the
two ends but what the test delivers, cut where it likes.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_EXT_INFO,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_UNIMPLEMENTED,
)
from asyncssh.packet import Boolean, Byte, NameList, SSHPacket, SSHPacketHandler, String, UInt32

from pipe.router import Router
from pipe.settings import Lane, Settings
from pipe.ssh.lane import LaneConnection, Outbox
from pipe.ssh.plain import PlainConnection
from pipe.ssh.server import make_options
from pipe.ssh.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from asyncssh.packet import SSHPacketLogger

    from pipe.chunks import Chunk
    from pipe.errors import Outcome
    from pipe.service import Service
    from pipe.ssh.auth import Peer
    from pipe.ssh.channel.port import Port
    from pipe.ssh.channel.session import Session
    from pipe.ssh.connection import Connection

LANES = tuple(Lane)

GCM = ("aes128-gcm@openssh.com",)

QUIET_TURNS = 8
"""Turns of the loop without a byte after which nothing more comes: asyncssh needs 4 for one
packet of a key exchange."""

READ_BYTES = 1 << 18
"""The most that a transport delivers at once, as uvloop's do."""

MAX_TURNS = 20_000
"""Turns after which a wait has failed; none needs a tenth of them."""

MSG_UNKNOWN = 191
"""A type that nobody has given a meaning, RFC 4251 section 7 leaves it to private use."""

DATA_OVERHEAD = 9
"""Bytes of a CHANNEL_DATA payload beside the data."""

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")


class MemoryTransport(asyncio.Transport):
    """One end of a connection.  What its protocol writes waits in `written`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closed = False
        self._protocol: asyncio.BaseProtocol | None = None

    def deliver(self, data: bytes) -> int:
        """Let the protocol have as much of what the other end wrote as a read brings.

        Returns:
            How many bytes that was.
        """
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = memoryview(protocol.get_buffer(-1))
            size = min(len(data), len(buffer), READ_BYTES)
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            return size
        size = min(len(data), READ_BYTES)
        cast("asyncio.Protocol", protocol).data_received(data[:size])
        return size

    def break_off(self, error: Exception | None = None) -> None:
        """Lose the connection."""
        self.closed = True
        cast("asyncio.Protocol", self._protocol).connection_lost(error)

    def take(self) -> bytes:
        """What has been written since the last time."""
        data = bytes(self.written)
        self.written.clear()
        return data

    # -- what a protocol calls --------------------------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Invent addresses."""
        invented = {"peername": ("127.0.0.1", 50022), "sockname": ("127.0.0.1", 2222)}
        return invented.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to this one from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom it delivers to."""
        assert self._protocol
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a copy: the writer may use its memory again."""
        if not self.closed:
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep them all."""
        for data in list_of_data:
            self.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It takes whatever comes."""

    def get_write_buffer_size(self) -> int:
        """All is always sent."""
        return 0

    def pause_reading(self) -> None:
        """Deliver no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Deliver."""
        self.reading = True

    def is_reading(self) -> bool:
        """Whether it delivers."""
        return self.reading

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self.closed

    def abort(self) -> None:
        """It is over."""
        self.closed = True

    def close(self) -> None:
        """It is over."""
        self.closed = True


class Received(NamedTuple):
    """A packet that reached the client: its type, and its payload after that."""

    kind: int
    body: bytes


class Disconnect(NamedTuple):
    """The reason that a server gave."""

    code: int
    reason: str


class _Channels(dict[int, Any], SSHPacketHandler):
    """All channels of the client at once."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def __missing__(self, number: int) -> _Channels:
        return self

    @property
    def logger(self) -> Any:  # noqa: ANN401 - as in asyncssh
        """Where asyncssh notes it."""
        return self._client.logger

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool:  # noqa: ARG002
        """Keep it."""
        self._client.keep(pkttype, packet)
        return True


class Client(asyncssh.SSHClientConnection):
    """A client that is led by hand."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, options: asyncssh.SSHClientConnectionOptions
    ) -> None:
        options.waiter = None
        super().__init__(loop, options, wait="auth")
        self._channels = _Channels(self)
        self.received: list[Received] = []
        self.on_packet: Callable[[Received], None] = lambda _: None
        self._directions: list[list[bytes]] = []

    @property
    def ready(self) -> bool:
        """Whether it has logged in."""
        return self._auth_complete

    @property
    def rekeying(self) -> bool:
        """Whether keys are being exchanged."""
        return not self._kex_complete or bool(self._kex)

    def keep(self, kind: int, packet: SSHPacket) -> None:
        """Note a packet."""
        received = Received(kind, packet.get_full_payload()[1:])
        self.received.append(received)
        self.on_packet(received)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:  # noqa: ANN401
        """Leave key exchanges and the login to asyncssh, and keep the rest."""
        if self._auth_complete and pkttype not in {MSG_KEXINIT, MSG_NEWKEYS, MSG_EXT_INFO}:
            self.keep(pkttype, packet)
            return True
        return super().process_packet(pkttype, pktid, packet)

    def of_kind(self, kind: int) -> list[bytes]:
        """The payloads of one type."""
        return [received.body for received in self.received if received.kind == kind]

    def data(self, channel: int = 0) -> bytes:
        """The bytes that came on a channel."""
        return b"".join(self.chunks(channel))

    def chunks(self, channel: int = 0) -> list[bytes]:
        """The same, packet by packet."""
        return self._strings(MSG_CHANNEL_DATA, 4, channel)

    def stderr(self, channel: int = 0) -> bytes:
        """What came on a channel's stderr."""
        return b"".join(self._strings(MSG_CHANNEL_EXTENDED_DATA, 8, channel))

    def _strings(self, kind: int, offset: int, channel: int) -> list[bytes]:
        found = []
        for body in self.of_kind(kind):
            if int.from_bytes(body[:4], "big") == channel:
                packet = SSHPacket(body[offset:])
                found.append(packet.get_string())
                packet.check_end()
        return found

    def adjustments(self, channel: int = 0) -> list[int]:
        """By how much the server has opened its window, each time."""
        numbers = (SSHPacket(body) for body in self.of_kind(MSG_CHANNEL_WINDOW_ADJUST))
        return [number.get_uint32() for number in numbers if number.get_uint32() == channel]

    @property
    def goodbye(self) -> Disconnect | None:
        """Why the server has ended the connection, if it said so."""
        for body in self.of_kind(MSG_DISCONNECT):
            packet = SSHPacket(body)
            return Disconnect(packet.get_uint32(), packet.get_string().decode())
        return None

    # -- sending ----------------------------------------------------------------------------------

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send a packet, without the IGNORE that asyncssh puts before each."""
        if pkttype == MSG_KEXINIT and self._directions:
            self._client_kexinit = Byte(MSG_KEXINIT) + self._with_directions(args[0])
            args = (self._client_kexinit[1:],)
        if pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    def send(self, payload: bytes) -> None:
        """Send a payload as asyncssh does."""
        self.send_packet(payload[0], payload[1:])

    def send_ignore(self, data: bytes) -> None:
        """Send an IGNORE all the same."""
        super().send_packet(MSG_IGNORE, String(data))

    def frame(self, packet: bytes, length: int | None = None) -> bytes:
        """Seal a packet as it stands: padding length, payload and padding, right or wrong.

        Args:
            packet: what is encrypted.
            length: what the frame says of it, which is authenticated too.
        """
        assert self._send_encryption
        size = UInt32(len(packet) if length is None else length)
        sealed, tag = self._send_encryption.encrypt_packet(self._send_seq, size, packet)
        self._send_seq += 1
        return sealed + tag

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._send(data)

    def rekey(self, ciphers: Sequence[str] = ()) -> None:
        """Begin a key exchange, perhaps with other ciphers on offer."""
        if ciphers:
            self._enc_algs = [name.encode() for name in ciphers]
        self._send_kexinit()
        self._kexinit_sent = True

    def offer(self, to_server: Sequence[str], to_client: Sequence[str]) -> None:
        """Offer different ciphers for the two directions from now on."""
        self._directions = [
            [name.encode() for name in to_server],
            [name.encode() for name in to_client],
        ]

    def _with_directions(self, kexinit: bytes) -> bytes:
        """The same KEXINIT with other lists of ciphers (RFC 4253, section 7.1)."""
        packet = SSHPacket(kexinit)
        packet.get_bytes(16)
        packet.get_namelist()
        packet.get_namelist()
        head = packet.get_consumed_payload()
        packet.get_namelist()
        packet.get_namelist()
        return head + b"".join(map(NameList, self._directions)) + packet.get_remaining_payload()

    def _choose_alg(
        self, alg_type: str, local_algs: Sequence[bytes], remote_algs: Sequence[bytes]
    ) -> bytes:
        """Choose what was offered for the direction: asyncssh asks for the server's first."""
        if self._directions and alg_type == "encryption":
            local_algs = self._directions[0]
            self._directions.reverse()
        return super()._choose_alg(alg_type, local_algs, remote_algs)


def padded(payload: bytes, padding: int | None = None) -> bytes:
    """A packet before it is sealed, with as much padding as needed or as told."""
    if padding is None:
        padding = -(1 + len(payload)) % 16
        padding += 16 if padding < 4 else 0
    return Byte(padding % 256) + payload + bytes(padding)


def data(channel: int, content: bytes) -> bytes:
    """A CHANNEL_DATA payload."""
    return Byte(MSG_CHANNEL_DATA) + UInt32(channel) + String(content)


def adjust(channel: int, size: int) -> bytes:
    """A CHANNEL_WINDOW_ADJUST payload."""
    return Byte(MSG_CHANNEL_WINDOW_ADJUST) + UInt32(channel) + UInt32(size)


def eof(channel: int) -> bytes:
    """A CHANNEL_EOF payload."""
    return Byte(MSG_CHANNEL_EOF) + UInt32(channel)


def close(channel: int) -> bytes:
    """A CHANNEL_CLOSE payload."""
    return Byte(MSG_CHANNEL_CLOSE) + UInt32(channel)


def request(channel: int, name: str, body: bytes = b"", *, reply: bool = True) -> bytes:
    """A CHANNEL_REQUEST payload."""
    return Byte(MSG_CHANNEL_REQUEST) + UInt32(channel) + String(name) + Boolean(reply) + body


def execute(channel: int, command: str) -> bytes:
    """The request that runs a command."""
    return request(channel, "exec", String(command))


def debug(text: str) -> bytes:
    """A DEBUG payload."""
    return Byte(MSG_DEBUG) + Boolean(True) + String(text) + String("")


def open_session(number: int, window: int = 1 << 21, most: int = 1 << 15) -> bytes:
    """A CHANNEL_OPEN payload: the client's number for it, its window and its largest packet."""
    numbers = UInt32(number) + UInt32(window) + UInt32(most)
    return Byte(MSG_CHANNEL_OPEN) + String("session") + numbers


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
        self.port = self._wire.server.make_port(cast("Session", self), chan)
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
            outbox = outbox or Outbox(loop)
            self.server = LaneConnection(loop, self.options, self.service, outbox)
        else:
            self.server = PlainConnection(loop, self.options, self.service, Turns(loop))
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
    shared = SimpleNamespace(settings=Settings(lane=lane, **settings), router=Router())
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
