"""A client that is led by hand: asyncssh's, without channels of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DISCONNECT,
    MSG_EXT_INFO,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
)
from asyncssh.packet import Byte, NameList, SSHPacket, SSHPacketHandler, String, UInt32

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from asyncssh.packet import SSHPacketLogger


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
