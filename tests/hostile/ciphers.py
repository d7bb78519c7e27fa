"""How a peer's packets are framed: in the clear, under AES-GCM, and under AES-CTR with a MAC.

Two ciphers, as the server has two data paths: AES-GCM runs on its lane, and whoever offers only
something else is served by asyncssh.  A peer that means harm chooses the weaker one.
"""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LENGTH_BYTES: Final = 4
MIN_PADDING_BYTES: Final = 4
TAG_BYTES: Final = 16
COUNTER_MODULUS: Final = 1 << 64


class BadPacketError(Exception):
    """What came cannot be opened."""


def padded(payload: bytes, block: int, covered: int) -> bytes:
    """The packet before it is sealed: padding length, payload and padding (RFC 4253, section 6).

    Args:
        payload: the message.
        block: what the length must be a multiple of.
        covered: bytes before it that count as well: the length, where that is encrypted.
    """
    padding = -(covered + 1 + len(payload)) % block
    if padding < MIN_PADDING_BYTES:
        padding += block
    return bytes((padding,)) + payload + bytes(padding)


class Sealer(Protocol):
    """Seals what is sent."""

    block: int
    covered: int

    def seal(self, packet: bytes, sequence: int, length: int | None = None) -> bytes:
        """The frame of a packet; ``length`` is what it says of itself, if not the truth."""


class Opener(Protocol):
    """Opens what is received."""

    overhead: int

    def open(self, frame: bytes, sequence: int) -> bytes:
        """The packet in a frame that has its length in the clear.

        Raises:
            BadPacketError: its tag is wrong.
        """


class Clear:
    """No cipher yet."""

    block = 8
    covered = LENGTH_BYTES
    overhead = 0

    def seal(self, packet: bytes, sequence: int, length: int | None = None) -> bytes:  # noqa: ARG002
        """Put the length before it."""
        return (len(packet) if length is None else length).to_bytes(LENGTH_BYTES, "big") + packet

    def open(self, frame: bytes, sequence: int) -> bytes:  # noqa: ARG002
        """Take the length off."""
        return frame[LENGTH_BYTES:]


class Gcm:
    """AES-128-GCM (RFC 5647)."""

    name = b"aes128-gcm@openssh.com"
    mac = b""
    key_bytes, nonce_bytes, mac_bytes = 16, 12, 0
    block = 16
    covered = 0
    overhead = TAG_BYTES

    def __init__(self, key: bytes, nonce: bytes, _mac_key: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = nonce[:4]
        self._counter = int.from_bytes(nonce[4:], "big")

    def _nonce(self) -> bytes:
        counter, self._counter = self._counter, (self._counter + 1) % COUNTER_MODULUS
        return self._fixed + counter.to_bytes(8, "big")

    def seal(self, packet: bytes, sequence: int, length: int | None = None) -> bytes:  # noqa: ARG002
        """Encrypt it; the length is authenticated."""
        size = (len(packet) if length is None else length).to_bytes(LENGTH_BYTES, "big")
        return size + self._aead.encrypt(self._nonce(), packet, size)

    def open(self, frame: bytes, sequence: int) -> bytes:  # noqa: ARG002
        """Decrypt it."""
        try:
            return self._aead.decrypt(self._nonce(), frame[LENGTH_BYTES:], frame[:LENGTH_BYTES])
        except InvalidTag:
            raise BadPacketError from None


class CtrEtm:
    """AES-256-CTR with HMAC-SHA-256, encrypt-then-MAC as OpenSSH does it."""

    name = b"aes256-ctr"
    mac = b"hmac-sha2-256-etm@openssh.com"
    key_bytes, nonce_bytes, mac_bytes = 32, 16, 32
    block = 16
    covered = 0
    overhead = 32

    def __init__(self, key: bytes, nonce: bytes, mac_key: bytes) -> None:
        # Encryption and decryption are the same in this mode.
        self._stream = Cipher(algorithms.AES256(key), modes.CTR(nonce)).encryptor()
        self._mac_key = mac_key

    def _tag(self, sequence: int, frame: bytes) -> bytes:
        data = sequence.to_bytes(4, "big") + frame
        return hmac.digest(self._mac_key, data, sha256)

    def seal(self, packet: bytes, sequence: int, length: int | None = None) -> bytes:
        """Encrypt it, and authenticate that with the sequence number."""
        size = (len(packet) if length is None else length).to_bytes(LENGTH_BYTES, "big")
        frame = size + self._stream.update(packet)
        return frame + self._tag(sequence, frame)

    def open(self, frame: bytes, sequence: int) -> bytes:
        """Check and decrypt it."""
        body, tag = frame[: -self.overhead], frame[-self.overhead :]
        if not hmac.compare_digest(tag, self._tag(sequence, body)):
            raise BadPacketError
        return self._stream.update(body[LENGTH_BYTES:])


Suite = type[Gcm] | type[CtrEtm]

LANE: Final[Suite] = Gcm
"""What the server's fast lane serves."""

PLAIN: Final[Suite] = CtrEtm
"""What it leaves to asyncssh."""


def cookie() -> bytes:
    """The random bytes of a KEXINIT."""
    return os.urandom(16)
