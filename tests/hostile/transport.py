"""A minimal SSH transport of our own, in blocking calls, that can also do everything wrong.

It is as much of RFC 4253 as it takes to get in: one key exchange (curve25519), two ciphers, no
check of the host key, as there is nobody to impersonate.  All that is sent can be built by hand:
payloads, packets with a wrong padding, frames with a wrong length or tag, bytes.  Nothing is done
by itself but what a test cannot do without: an answer to the server's rekeys and keepalives, and
even that can be left out.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from asyncssh.constants import (
    MSG_DEBUG,
    MSG_DISCONNECT,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
)
from asyncssh.packet import Boolean, Byte, MPInt, NameList, SSHPacket, String, UInt32
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.e2e.processes import DEADLINE

from .ciphers import LANE, LENGTH_BYTES, Clear, cookie, padded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .ciphers import Opener, Sealer, Suite

PATIENCE: Final = DEADLINE
"""Seconds until a wait for the server fails: far more than any answer takes."""

READ_SIZE: Final = 1 << 18
BATCH: Final = 1 << 16
"""Bytes of frames that a flood hands to the kernel at once."""

MAX_FRAME: Final = 1 << 20

MSG_KEX_ECDH_INIT: Final = 30
MSG_KEX_ECDH_REPLY: Final = 31
"""RFC 5656, section 7.1."""

VERSION: Final = b"SSH-2.0-hostile"
MAX_SEQUENCE: Final = 0xFFFFFFFF
STRICT: Final = b"kex-strict-c-v00@openssh.com"


def readable(sockets: Iterable[socket.socket], timeout: float) -> list[socket.socket]:
    """Those that have something to read within so many seconds, of however many."""
    by_number = {sock.fileno(): sock for sock in sockets}
    poll = select.poll()  # select() has no place for numbers above 1023
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout * 1000)]


class CutOffError(Exception):
    """The server has ended the connection: with a reason, or (code 0) without a word."""

    def __init__(self, code: int = 0, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if code else "without a word")
        self.code = code
        self.reason = reason


class Transport:
    """One connection, up to and including its key exchanges.

    Args:
        address: of the server.
        suite: the one cipher to offer.
        source: the address to come from, one of 127.0.0.0/8.
        receive_buffer: bytes that the kernel may hold for us, 0 for its default.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        suite: Suite = LANE,
        source: str = "",
        receive_buffer: int = 0,
    ) -> None:
        self.suite = suite
        self.compression = b"none"
        self.strict = False
        self.unknown_names: list[bytes] = []
        self.answers_rekeys = True
        self.session_id = b""
        self.host_key = b""
        self._sealer: Sealer = Clear()
        self._opener: Opener = Clear()
        self._sent = 0
        self._received = 0
        self._input = bytearray()
        self._inbox: deque[bytes] = deque()
        self._client_kexinit = b""
        self._server_version = b""
        self._cut: CutOffError | None = None
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(PATIENCE)
        if source:
            self.socket.bind((source, 0))
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Close the socket, without a word."""
        self.socket.close()

    def reset(self) -> None:
        """Close it so that the server gets a reset instead of an end of file."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    # -- sending ----------------------------------------------------------------------------------

    def send_bytes(self, data: bytes | bytearray) -> None:
        """Send bytes as they are.

        Raises:
            CutOffError: the server has gone.
            TimeoutError: it has not read for `PATIENCE` seconds.
        """
        try:
            self.socket.sendall(data)
        except ConnectionError:
            raise self.farewell() from None

    def frame(self, payload: bytes) -> bytes:
        """Seal a message as it should be."""
        return self.frame_packet(padded(payload, self._sealer.block, self._sealer.covered))

    @staticmethod
    def frame_clear(payload: bytes) -> bytes:
        """A message as it is before there are keys."""
        return Clear().seal(padded(payload, Clear.block, Clear.covered), 0)

    def frame_packet(self, packet: bytes, length: int | None = None) -> bytes:
        """Seal a packet whose padding may be wrong; ``length`` is what the frame says of it."""
        frame = self._sealer.seal(packet, self._sent, length)
        self._sent = (self._sent + 1) & MAX_SEQUENCE
        return frame

    def send(self, *payloads: bytes) -> None:
        """Send messages."""
        self.send_bytes(b"".join([self.frame(payload) for payload in payloads]))

    def flood(self, payloads: Iterable[bytes]) -> int:
        """Send as many messages as the server takes, in large writes; returns how many it took.

        Ends early where the server cuts us off or has stopped reading for `PATIENCE` seconds.
        """
        count = taken = 0
        batch = bytearray()
        try:
            for payload in payloads:
                batch += self.frame(payload)
                count += 1
                if len(batch) >= BATCH:
                    self.send_bytes(batch)
                    batch.clear()
                    taken = count
            self.send_bytes(batch)
        except (CutOffError, TimeoutError):
            return taken
        return count

    # -- receiving --------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """The next message, but for those that say nothing.

        Raises:
            CutOffError: the server has ended the connection.
            TimeoutError: nothing has come for `PATIENCE` seconds.
        """
        while True:
            payload = self._inbox.popleft() if self._inbox else self._read_packet()
            if payload[0] == MSG_DISCONNECT:
                packet = SSHPacket(payload[1:])
                self._cut = CutOffError(packet.get_uint32(), packet.get_string().decode())
                raise self._cut
            if payload[0] == MSG_KEXINIT and self.answers_rekeys and self.session_id:
                self._exchange_keys(payload)
            elif payload[0] not in (MSG_IGNORE, MSG_DEBUG):
                return payload

    def is_ready(self, timeout: float = 0.0) -> bool:
        """Whether there is something to receive, or comes within so many seconds."""
        if self._inbox or self._frame_end():
            return True
        return bool(readable([self.socket], timeout))

    def farewell(self) -> CutOffError:
        """Read what the server said last, after its end has shown; the reason, if it gave one."""
        try:
            while True:
                self.receive()
        except CutOffError as cut:
            return cut
        except (OSError, ValueError):
            return CutOffError()

    def wait_cut(self, patience: float = PATIENCE) -> CutOffError:
        """Wait until the server ends the connection, taking all that comes before.

        Raises:
            TimeoutError: it has not within ``patience`` seconds without a byte.
        """
        self.socket.settimeout(patience)
        try:
            while True:
                self.receive()
        except CutOffError as cut:
            return self._cut or cut
        finally:
            self.socket.settimeout(PATIENCE)

    def provoke(self, *payloads: bytes) -> CutOffError:
        """Send messages that the server ends the connection for, and return what it says then."""
        self.flood(payloads)
        return self.wait_cut()

    def read_to_end(self) -> bytes:
        """All bytes that come, as they are, until the server ends the connection.

        Raises:
            TimeoutError: it has not within `PATIENCE` seconds without a byte.
        """
        try:
            while True:
                self._fill()
        except CutOffError:
            return bytes(self._input)

    def _fill(self) -> None:
        try:
            data = self.socket.recv(READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            raise CutOffError
        self._input += data

    def _frame_end(self) -> int:
        """Where the frame at the beginning of the input ends, if all of it is there."""
        if len(self._input) < LENGTH_BYTES:
            return 0
        length = int.from_bytes(self._input[:LENGTH_BYTES], "big")
        assert length <= MAX_FRAME, "no packet of the server is so long"
        end = LENGTH_BYTES + length + self._opener.overhead
        return end if len(self._input) >= end else 0

    def _read_packet(self) -> bytes:
        while not (end := self._frame_end()):
            self._fill()
        frame = bytes(self._input[:end])
        del self._input[:end]
        packet = self._opener.open(frame, self._received)
        self._received = (self._received + 1) & MAX_SEQUENCE
        return packet[1 : len(packet) - packet[0]]

    # -- the beginning ----------------------------------------------------------------------------

    def exchange_versions(self) -> None:
        """Say who we are, and read who the server is."""
        self.send_bytes(VERSION + b"\r\n")
        while b"\n" not in self._input:
            self._fill()
        line, _, rest = bytes(self._input).partition(b"\n")
        self._server_version = line.rstrip(b"\r")
        self._input = bytearray(rest)

    def kexinit(self) -> bytes:
        """Our KEXINIT; `unknown_names` follow what we can do in every list but the languages'."""

        def names(*known: bytes) -> bytes:
            return NameList([*known, *self.unknown_names])

        exchanges = (b"curve25519-sha256", *([STRICT] if self.strict else []))
        ciphers, macs = names(self.suite.name), names(self.suite.mac or b"none")
        return b"".join(
            (
                *(Byte(MSG_KEXINIT), cookie(), names(*exchanges), names(b"ssh-ed25519")),
                *(ciphers, ciphers, macs, macs),
                *(names(self.compression), names(self.compression)),
                *(NameList([]), NameList([]), Boolean(False), UInt32(0)),
            )
        )

    def begin_kex(self) -> None:
        """Send our KEXINIT, and nothing more."""
        self._client_kexinit = self.kexinit()
        self.send(self._client_kexinit)

    def finish_kex(self) -> None:
        """Do the rest of the exchange that `begin_kex` has begun; what comes before, keep."""
        while (payload := self._read_packet())[0] != MSG_KEXINIT:
            self._inbox.append(payload)
            if payload[0] == MSG_DISCONNECT:
                self.receive()
        self._exchange_keys(payload)

    def rekey(self) -> None:
        """Exchange keys once more."""
        self.begin_kex()
        self.finish_kex()

    def connect(self) -> None:
        """Get as far as new keys."""
        self.exchange_versions()
        self.rekey()

    def _exchange_keys(self, server_kexinit: bytes) -> None:
        if not self._client_kexinit:
            self.begin_kex()
        private = X25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        self.send(Byte(MSG_KEX_ECDH_INIT) + String(public))
        reply = SSHPacket(self._expect_in_kex(MSG_KEX_ECDH_REPLY)[1:])
        self.host_key, server_public = reply.get_string(), reply.get_string()
        shared = private.exchange(X25519PublicKey.from_public_bytes(server_public))
        secret = MPInt(int.from_bytes(shared, "big"))
        parts = (VERSION, self._server_version, self._client_kexinit, server_kexinit, self.host_key)
        digest = sha256(b"".join(map(String, (*parts, public, server_public))) + secret).digest()
        self.session_id = self.session_id or digest
        self._client_kexinit = b""
        self._expect_in_kex(MSG_NEWKEYS)
        self.send(Byte(MSG_NEWKEYS))
        self._use_keys(secret, digest)

    def _expect_in_kex(self, kind: int) -> bytes:
        payload = self._read_packet()
        if payload[0] == MSG_DISCONNECT:
            self._inbox.append(payload)
            self.receive()
        assert payload[0] == kind, f"{payload[0]} instead of {kind}"
        return payload

    def _use_keys(self, secret: bytes, digest: bytes) -> None:
        def derive(letter: bytes, size: int) -> bytes:
            key = sha256(secret + digest + letter + self.session_id).digest()
            while len(key) < size:
                key += sha256(secret + digest + key).digest()
            return key[:size]

        suite = self.suite
        self._sealer, self._opener = (
            suite(
                derive(key, suite.key_bytes),
                derive(nonce, suite.nonce_bytes),
                derive(mac, suite.mac_bytes),
            )
            for nonce, key, mac in ((b"A", b"C", b"E"), (b"B", b"D", b"F"))
        )
        if self.strict:
            self._sent = self._received = 0
