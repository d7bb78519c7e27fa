"""Bytes to send: reproducible noise, files of it, and streams that can be told apart when mixed."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

EVERY_BYTE: Final = bytes(range(256))
"""All byte values, among them those that a terminal would take for itself."""

BLOCK: Final = 16 * MIB


def noise(size: int, seed: int = 0) -> bytes:
    """`size` bytes without structure, the same for the same `seed`."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    """By which long streams are compared: a failed test then prints 64 digits, not megabytes."""
    return hashlib.sha256(data).hexdigest()


class Blob(NamedTuple):
    """A file of noise."""

    path: Path
    size: int
    sha256: str


def write_blob(path: Path, size: int) -> Blob:
    """Fill the file `path` with `size` bytes of noise, a block at a time."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            block = noise(min(BLOCK, size - start), seed=start)
            digest.update(block)
            file.write(block)
    return Blob(path, size, digest.hexdigest())


class Alphabet(NamedTuple):
    """A set of byte values of one sender's own, by which its bytes are found again in a mixture."""

    first: int
    length: int

    def noise(self, size: int, seed: int = 0) -> bytes:
        """`size` bytes of noise in this alphabet."""
        table = bytes(self.first + value % self.length for value in range(256))
        return noise(size, seed).translate(table)

    def pick(self, mixture: bytes) -> bytes:
        """The bytes of this alphabet in `mixture`, in their order there."""
        own = range(self.first, self.first + self.length)
        return mixture.translate(None, bytes(value for value in range(256) if value not in own))


def alphabets(count: int) -> list[Alphabet]:
    """`count` alphabets without a value in common."""
    return [Alphabet(index * (256 // count), 256 // count) for index in range(count)]
