"""A peer that has logged in, and its channels: obedient until a test has it otherwise."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_SUCCESS,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_EXT_INFO,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_REQUEST_FAILURE,
    MSG_SERVICE_ACCEPT,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_REQUEST,
    MSG_USERAUTH_SUCCESS,
)
from asyncssh.packet import Boolean, Byte, SSHPacket, String, UInt32
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from .ciphers import LANE
from .transport import PATIENCE, CutOffError, Transport

if TYPE_CHECKING:
    from pathlib import Path

    from .ciphers import Suite

KEY_TYPE: Final = b"ssh-ed25519"
WINDOW: Final = 1 << 21
"""Bytes, what OpenSSH gives a channel."""

MAX_PACKET: Final = 1 << 15
MAX_WINDOW: Final = (1 << 32) - 1
NOTHING: Final = hashlib.sha256().hexdigest()


class Target(NamedTuple):
    """A server, and a key that gets in there under any free name or its own."""

    host: str
    port: int
    user: str
    key: Path

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def message(kind: int, *parts: bytes) -> bytes:
    """A payload."""
    return b"".join((Byte(kind), *parts))


def ignore(data: bytes = b"") -> bytes:
    """A message that means nothing."""
    return message(MSG_IGNORE, String(data))


def global_request(name: str, body: bytes = b"", *, reply: bool = True) -> bytes:
    """A request about the connection."""
    return message(MSG_GLOBAL_REQUEST, String(name), Boolean(reply), body)


def open_channel(kind: str, number: int, window: int, most: int, body: bytes = b"") -> bytes:
    """A CHANNEL_OPEN of any kind."""
    return message(
        MSG_CHANNEL_OPEN, String(kind), UInt32(number), UInt32(window), UInt32(most), body
    )


class Peer(Transport):
    """A connection that gets as far as a login.

    Args:
        target: the server, the user and the key.
        suite: the one cipher to offer.
        source: the address to come from, one of 127.0.0.0/8.
        receive_buffer: bytes that the kernel may hold for us, 0 for its default.
    """

    def __init__(
        self, target: Target, *, suite: Suite = LANE, source: str = "", receive_buffer: int = 0
    ) -> None:
        super().__init__(
            (target.host, target.port), suite=suite, source=source, receive_buffer=receive_buffer
        )
        self.target = target
        self.answers_keepalives = True
        self.keepalives = 0
        self.channels: dict[int, Channel] = {}
        self.banner = ""

    # -- the login --------------------------------------------------------------------------------

    def log_in(self) -> None:
        """Do all of it: version, keys, login."""
        self.connect()
        self.send(message(MSG_SERVICE_REQUEST, String("ssh-userauth")))
        self.expect(MSG_SERVICE_ACCEPT)
        self.authenticate()

    def authenticate(self) -> None:
        """Sign in with the key.

        Raises:
            PermissionError: it was refused; the server's banner is the text.
        """
        key = load_ssh_private_key(self.target.key.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        public = String(KEY_TYPE) + String(key.public_key().public_bytes_raw())
        request = message(
            MSG_USERAUTH_REQUEST,
            *(String(self.target.user), String("ssh-connection"), String("publickey")),
            *(Boolean(True), String(KEY_TYPE), String(public)),
        )
        signature = String(KEY_TYPE) + String(key.sign(String(self.session_id) + request))
        self.send(request + String(signature))
        if self.expect(MSG_USERAUTH_SUCCESS, MSG_USERAUTH_FAILURE)[0] != MSG_USERAUTH_SUCCESS:
            raise PermissionError(self.banner)

    # -- messages ---------------------------------------------------------------------------------

    def expect(self, *kinds: int) -> bytes:
        """The next message of one of these kinds; what comes before goes to its channel."""
        while (payload := self.receive())[0] not in kinds:
            self.handle(payload)
        return payload

    def handle(self, payload: bytes) -> None:
        """Do with a message what a client would."""
        kind = payload[0]
        if kind == MSG_GLOBAL_REQUEST:
            self.keepalives += 1
            if self.answers_keepalives:
                self.send(message(MSG_REQUEST_FAILURE))
        elif kind == MSG_USERAUTH_BANNER:
            self.banner += SSHPacket(payload[1:]).get_string().decode()
        elif kind != MSG_EXT_INFO and len(payload) > 4:
            channel = self.channels.get(int.from_bytes(payload[1:5], "big"))
            if channel:
                channel.handle(payload)

    def take(self, timeout: float = 0.0) -> bool:
        """Handle all that is there; waits at most ``timeout`` seconds for the first message."""
        if not self.is_ready(timeout):
            return False
        while self.is_ready():
            self.handle(self.receive())
        return True

    def wait_cut_handling(self) -> CutOffError:
        """As `wait_cut`, but do with each message what a client would."""
        try:
            while True:
                self.handle(self.receive())
        except CutOffError as cut:
            return cut

    def open(self, *, window: int = WINDOW, most: int = MAX_PACKET) -> Channel:
        """Open a session.

        Raises:
            ConnectionRefusedError: the server does not want it; the text is its reason.
        """
        number = len(self.channels)
        self.send(open_channel("session", number, window, most))
        answer = self.expect(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)
        packet = SSHPacket(answer[5:])
        if answer[0] == MSG_CHANNEL_OPEN_FAILURE:
            packet.get_uint32()
            raise ConnectionRefusedError(packet.get_string().decode())
        channel = Channel(self, number, packet.get_uint32(), packet.get_uint32())
        channel.granted = window
        self.channels[number] = channel
        return channel

    def run(self, command: str | bytes, *, window: int = WINDOW, most: int = MAX_PACKET) -> Channel:
        """Open a session and have a command accepted in it."""
        channel = self.open(window=window, most=most)
        channel.execute(command)
        return channel


class Channel:
    """One session's channel, from our side."""

    def __init__(self, peer: Peer, number: int, remote: int, window: int) -> None:
        self.peer = peer
        self.number = number
        self.remote = remote
        self.window = window  # what we may still send
        self.granted = 0  # what the server may still send
        self.size = 0
        self.stderr = b""
        self.exit_status: int | None = None
        self.ended = False
        self.closed = False  # by the server
        self.answers_close = True
        self._close_sent = False
        self.answers: list[bool] = []
        self._hash = hashlib.sha256()
        self.keep = False
        self.data = bytearray()

    @property
    def sha256(self) -> str:
        """Of all that came."""
        return self._hash.hexdigest()

    # -- what we send -----------------------------------------------------------------------------

    def request(self, name: str, body: bytes = b"", *, reply: bool = True) -> bytes:
        """The payload of a CHANNEL_REQUEST."""
        return message(MSG_CHANNEL_REQUEST, UInt32(self.remote), String(name), Boolean(reply), body)

    def ask(self, name: str, body: bytes = b"") -> bool:
        """Send a request and wait for the answer."""
        self.peer.send(self.request(name, body))
        return self.peer.expect(MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE)[0] == MSG_CHANNEL_SUCCESS

    def execute(self, command: str | bytes) -> None:
        """Have the server accept a command."""
        assert self.ask("exec", String(command)), "the command was not accepted"

    def packet(self, data: bytes) -> bytes:
        """The payload of a CHANNEL_DATA, window or no window."""
        return message(MSG_CHANNEL_DATA, UInt32(self.remote), String(data))

    def adjust(self, size: int) -> None:
        """Open our window by so much."""
        self.peer.send(self.adjustment(size))
        self.granted += size

    def adjustment(self, size: int) -> bytes:
        """The payload of a CHANNEL_WINDOW_ADJUST."""
        return message(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self.remote), UInt32(size))

    def send(self, data: bytes, patience: float = PATIENCE) -> int:
        """Send data as the window allows; how much of it went before that stayed shut too long."""
        view, sent = memoryview(data), 0
        while sent < len(data):
            while not self.window:
                if not self.peer.take(patience):
                    return sent
                if self.closed:
                    return sent
            size = min(self.window, MAX_PACKET, len(data) - sent)
            self.peer.send(self.packet(bytes(view[sent : sent + size])))
            self.window -= size
            sent += size
            self.peer.take()
        return sent

    def end(self) -> None:
        """Send the end of file."""
        self.peer.send(message(MSG_CHANNEL_EOF, UInt32(self.remote)))

    def close(self) -> None:
        """Send a CLOSE, once."""
        if not self._close_sent:
            self._close_sent = True
            self.peer.send(message(MSG_CHANNEL_CLOSE, UInt32(self.remote)))

    # -- what comes -------------------------------------------------------------------------------

    def handle(self, payload: bytes) -> None:
        """Take a message for this channel, open its window again, and close it when asked to."""
        packet = SSHPacket(payload[5:])
        kind = payload[0]
        if kind == MSG_CHANNEL_DATA:
            data = packet.get_string()
            self._hash.update(data)
            self.size += len(data)
            if self.keep:
                self.data += data
            self._reopen(len(data))
        elif kind == MSG_CHANNEL_EXTENDED_DATA:
            packet.get_uint32()
            text = packet.get_string()
            self.stderr += text
            self._reopen(len(text))
        elif kind == MSG_CHANNEL_WINDOW_ADJUST:
            self.window += packet.get_uint32()
        elif kind == MSG_CHANNEL_EOF:
            self.ended = True
        elif kind == MSG_CHANNEL_CLOSE:
            self.closed = True
            if self.answers_close:
                self.close()
        elif kind == MSG_CHANNEL_REQUEST:
            if packet.get_string() == b"exit-status":
                packet.get_boolean()
                self.exit_status = packet.get_uint32()
        elif kind in (MSG_CHANNEL_SUCCESS, MSG_CHANNEL_FAILURE):
            self.answers.append(kind == MSG_CHANNEL_SUCCESS)

    def _reopen(self, size: int) -> None:
        self.granted -= size
        if self.granted < WINDOW // 2:
            self.adjust(WINDOW - self.granted)

    def read(self, size: int) -> None:
        """Return once so many bytes have come in all."""
        while self.size < size:
            self.peer.handle(self.peer.receive())

    def wait(self, timeout: float = PATIENCE) -> int | None:
        """Wait for the end of the session; its exit status, None where it gave none."""
        deadline = time.monotonic() + timeout
        try:
            while not self.closed:
                left = deadline - time.monotonic()
                if left <= 0 or not self.peer.take(left):
                    raise TimeoutError(f"the session goes on after {timeout:g} s")
        except CutOffError:
            if self.exit_status is None:
                raise
        return self.exit_status
