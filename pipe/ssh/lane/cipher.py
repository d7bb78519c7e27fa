"""AES-GCM as SSH uses it (RFC 5647, section 7), with its state kept from packet to packet.

The nonce is 4 fixed bytes and an 8-byte invocation counter, both derived at the key exchange.  The
counter goes up by one with each packet.  The packet's length is authenticated but not encrypted.
asyncssh makes a new key schedule for every packet; here it is made once for each key.

`Sealer` and `Opener` are also asyncssh encryption objects, so that packets of the lane and of
asyncssh share one counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from typing import Self

TAG_BYTES = 16
LENGTH_BYTES = 4
FRAME_BYTES = LENGTH_BYTES + TAG_BYTES
_FIXED_BYTES = 4
_COUNTER_MODULUS = 1 << 64


class _State(Encryption):
    """The key, and the nonce of the next packet."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._aead = AESGCM(key)
        self._fixed = nonce[:_FIXED_BYTES]
        self._counter = int.from_bytes(nonce[_FIXED_BYTES:], "big")

    @classmethod
    def adopt(cls, encryption: GCMEncryption) -> Self:
        """Continue from the state of one of asyncssh's own objects."""
        cipher = encryption._cipher
        return cls(cipher._key, cipher._iv)

    def secrets(self, *, back: int = 0) -> tuple[bytes, bytes]:
        """Return what it was made of, as it would have to be made now: the key and the nonce.

        Args:
            back: how many of the last packets are to be opened again.
        """
        counter = (self._counter - back) % _COUNTER_MODULUS
        return self._key, self._fixed + counter.to_bytes(8, "big")

    def _next_nonce(self) -> bytes:
        counter = self._counter
        self._counter = (counter + 1) % _COUNTER_MODULUS
        return self._fixed + counter.to_bytes(8, "big")


class Sealer(_State):
    """Encrypts what is sent."""

    def seal_into(self, packet: bytes, target: memoryview, start: int) -> int:
        """Write the frame of a packet: its length, ciphertext and tag.

        Args:
            packet: padding length, payload and padding (RFC 4253, section 6, without its length).
            target: where to write, with room for `FRAME_BYTES` more than the packet.
            start: the offset of the frame.

        Returns:
            Where the frame ends.
        """
        size = len(packet)
        body = start + LENGTH_BYTES
        stop = body + size + TAG_BYTES
        target[start:body] = length = size.to_bytes(LENGTH_BYTES, "big")
        self._aead.encrypt_into(self._next_nonce(), packet, length, target[body:stop])
        return stop

    def seal(self, packet: bytes) -> bytes:
        """Return the frame of a packet."""
        length = len(packet).to_bytes(LENGTH_BYTES, "big")
        return length + self._aead.encrypt(self._next_nonce(), packet, length)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:  # noqa: ARG002
        """Seal for asyncssh: the frame without its tag, and the tag."""
        sealed = self._aead.encrypt(self._next_nonce(), packet, header)
        return header + sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]


class Opener(_State):
    """Decrypts what is received."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        super().__init__(key, nonce)
        self._opened: bytes | None = None

    def open(self, length: bytes | memoryview, sealed: bytes | memoryview) -> bytes | None:
        """Return the packet: padding length, payload and padding; None if the tag is wrong.

        Args:
            length: the 4 bytes of packet_length.
            sealed: ciphertext and tag.
        """
        try:
            return self._aead.decrypt(self._next_nonce(), sealed, length)
        except InvalidTag:
            return None

    def hand_over(self, packet: bytes) -> None:
        """Keep this plaintext for asyncssh, which parses the packet next and need not open it."""
        self._opened = packet

    def decrypt_header(
        self,
        seq: int,  # noqa: ARG002
        first_block: bytes,
        header_len: int,
    ) -> tuple[bytes, bytes]:
        """The length is not encrypted."""
        return first_block, first_block[:header_len]

    def decrypt_packet(
        self,
        seq: int,  # noqa: ARG002
        first: bytes,
        rest: bytes,
        header_len: int,
        mac: bytes,
    ) -> bytes | None:
        """Return the packet that was handed over, or open one for asyncssh."""
        packet, self._opened = self._opened, None
        if packet is None:
            packet = self.open(first[:header_len], first[header_len:] + rest + mac)
        return packet


def sealed_size(packets: list[bytes]) -> int:
    """The size in bytes of these packets' frames."""
    return sum(map(len, packets)) + FRAME_BYTES * len(packets)
