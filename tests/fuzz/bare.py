"""A server's connection that is logged in without a handshake, and a client that only has its keys.

A handshake takes longer than hundreds of packets.  So one is done, for a connection that serves as
the model; another begins with the model's state, a key of its own, and no packet sent.  What the
lane does with packets from there on is what it always does.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from asyncssh.encryption import get_encryption
from asyncssh.packet import PacketDecodeError
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipe.settings import Lane
from pipe.ssh.lane import LaneConnection, Outbox
from tests.ssh.led_client import Received
from tests.ssh.memory_transport import MemoryTransport
from tests.ssh.messages import execute, open_session, padded
from tests.ssh.wire import GCM, Doorman, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.service import Service

LENGTH_BYTES: Final = 4
TAG_BYTES: Final = 16
NONCE: Final = bytes(12)
TO_SERVER, TO_CLIENT = b"to the server...", b"to the client..."
PLAIN: Final = (bool, int, float, str, bytes, tuple, frozenset, type(None))
"""What a state is made of; the rest of a connection is the objects that it has made itself."""

OPENING_TURNS: Final = 6
"""Turns of the loop within which channels that were asked for are open; it is checked."""


class BareClient(asyncio.Protocol):
    """The client's end: seals what it is told to send, and keeps what comes."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._transport: MemoryTransport
        self._sealing, self._sealed = AESGCM(TO_SERVER), 0
        self._opening, self._opened = AESGCM(TO_CLIENT), 0
        self._input = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Where it writes to."""
        self._transport = cast("MemoryTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Open all packets that are whole."""
        content = self._input + data
        start = 0
        while len(content) - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            stop = body + int.from_bytes(content[start:body], "big") + TAG_BYTES
            if stop > len(content):
                break
            nonce = self._opened.to_bytes(len(NONCE), "big")
            packet = self._opening.decrypt(nonce, content[body:stop], content[start:body])
            self._opened += 1
            self.received.append(Received(packet[1], packet[2 : len(packet) - packet[0]]))
            start = stop
        self._input = content[start:]

    def frame(self, packet: bytes) -> bytes:
        """Seal a packet as it stands: padding length, payload and padding, right or wrong."""
        size = len(packet).to_bytes(LENGTH_BYTES, "big")
        nonce = self._sealed.to_bytes(len(NONCE), "big")
        self._sealed += 1
        return size + self._sealing.encrypt(nonce, packet, size)

    def send(self, payload: bytes) -> None:
        """Send a payload in a packet that is right."""
        self._transport.write(self.frame(padded(payload)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._transport.write(data)

    def data(self, channel: int) -> bytes:
        """The bytes that came on a channel."""
        found = (body for kind, body in self.received if kind == 94)
        return b"".join(body[8:] for body in found if int.from_bytes(body[:4], "big") == channel)


class Model:
    """The state of a connection that has just logged in, before it has a channel."""

    def __init__(self, wire: Wire) -> None:
        self.options = wire.options
        self.state: dict[str, object] = {
            name: value for name, value in vars(wire.server).items() if isinstance(value, PLAIN)
        }


class WatchedConnection(LaneConnection):
    """Tells of faults of ours, those after its end too."""

    def __init__(self, faults: list[BaseException], *arguments: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments)
        self._faults = faults

    def internal_error(self, exc_info: Any = None, error_logger: object = None) -> None:  # noqa: ANN401
        """Note what is none of the peer's doing."""
        error = (exc_info or sys.exc_info())[1]
        if error and not isinstance(error, PacketDecodeError | UnicodeDecodeError):
            self._faults.append(error)
        super().internal_error(exc_info, error_logger)


class BareWire(Wire):
    """The two ends, as `Wire` has them, with the bare client for a client."""

    def __init__(self, model: Model, service: Service, outbox: Outbox) -> None:
        self.lane = Lane.FAST
        self.events = []
        self.lost = []
        self.sessions = []
        self.on_chunk = lambda _session, _chunk: None
        self.make_session = self._record
        self.service = service
        self.debug_messages = 0
        self.carried = 0
        self._cuts = []
        options = copy.copy(model.options)
        options.protocol_factory = cast("Any", lambda: Doorman(self))
        self.faults: list[BaseException] = []
        loop = asyncio.get_running_loop()
        self.server = WatchedConnection(self.faults, loop, options, service, outbox)
        self.bare = BareClient()
        self.server_side, self.client_side = MemoryTransport(), MemoryTransport()
        self._begin(model.state)

    def _begin(self, state: dict[str, object]) -> None:
        """Connect, and go on where the model stood when it had logged in."""
        server: Any = self.server
        self.server_side.set_protocol(server)
        self.client_side.set_protocol(self.bare)
        server.connection_made(self.server_side)
        self.bare.connection_made(self.client_side)
        server._outbox.flush()
        assert self.server_side.take().startswith(b"SSH-2.0-")
        server._cancel_login_timer()
        vars(server).update(state)
        server._recv_handler = server._recv_pkthdr
        server._recv_encryption = _encryption(TO_SERVER)
        server._send_encryption = _encryption(TO_CLIENT)
        server._inpbuf = b""

    async def open_channels(self, count: int, most: int) -> None:
        """Open sessions that run a command, all at once."""
        for number in range(count):
            self.bare.send(open_session(number, most=most))
        await self._turn(lambda: len(self.bare.received) == count)
        for number in range(count):
            self.bare.send(execute(number, "any"))
        await self._turn(lambda: len(self.bare.received) == 2 * count)
        assert len(self.bare.received) >= 2 * count, self.lost
        assert [event for _, event in self.events] == ["exec any"] * count, self.events

    async def _turn(self, answered: Callable[[], bool]) -> None:
        for _ in range(OPENING_TURNS):
            self.exchange()
            if answered():
                break
            await asyncio.sleep(0)


def _encryption(key: bytes) -> Any:  # noqa: ANN401 - asyncssh's
    return get_encryption(GCM[0].encode(), key, NONCE, b"", b"", False)
