"""The last bytes of a topic, kept for readers that come late.

A `Ring` refers to the data that was sent.  Only small pieces are copied, and packed together, as
each object takes some 300 bytes beside its data.  Positions count all bytes that were ever put into
the ring, so they never change and never repeat.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKED_BYTES = 16 * 1024
"""Pieces up to this size are packed: that takes a microsecond, and keeps what objects cost beside
their data below 5 % of it."""

PACK_BYTES = 64 * 1024
"""A pack is closed with this many bytes."""

SLACK = 1024
"""Dropped pieces after which the lists are shortened."""


class Ring:
    """At least the last ``bound`` bytes, and at most one piece more.

    Args:
        bound: how many bytes are kept, unless a reader still needs older ones.
    """

    __slots__ = ("_at_line", "_head", "_pack", "_pieces", "_starts", "bound", "end", "start")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.start = 0  # of the oldest byte
        self.end = 0  # of the next byte to come
        self._pieces: list[bytes | memoryview] = []
        self._starts: list[int] = []  # of each piece
        self._head = 0  # index of the oldest piece
        self._at_line = True  # a line begins with the oldest byte
        self._pack = bytearray()  # what has come after the last piece

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return self.end - self.start

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end; nothing is dropped until `trim`."""
        size = len(data)
        if size > PACKED_BYTES:
            self._close_pack()
            self._starts.append(self.end)
            self._pieces.append(data)
            self.end += size
            return
        self._pack += data
        self.end += size
        if len(self._pack) >= PACK_BYTES:
            self._close_pack()

    def _close_pack(self) -> None:
        if self._pack:
            self._starts.append(self.end - len(self._pack))
            self._pieces.append(bytes(self._pack))
            self._pack = bytearray()

    @property
    def overfull(self) -> bool:
        """Whether the oldest piece can go."""
        return self._head < len(self._pieces) and self.end - self.second >= self.bound

    @property
    def second(self) -> int:
        """Where what follows the oldest piece begins, if there is a piece."""
        return self._starts[self._head] + len(self._pieces[self._head])

    def trim(self, floor: int | None = None) -> None:
        """Drop the oldest pieces as far as the bound allows, but nothing from ``floor`` on."""
        while self.overfull and (floor is None or self.second <= floor):
            self.start = self.second
            self._at_line = bytes(self._pieces[self._head][-1:]) == b"\n"
            self._pieces[self._head] = b""
            self._head += 1
        if self._head > SLACK and self._head * 2 > len(self._pieces):
            del self._pieces[: self._head], self._starts[: self._head]
            self._head = 0

    def read(self, position: int) -> memoryview:
        """Return what begins at a position: a piece, or the rest of one.

        Raises:
            IndexError: it is not kept, or has not come.
        """
        if not self.start <= position < self.end:
            raise IndexError(position)
        packed = self.end - len(self._pack)
        if position >= packed:
            return memoryview(bytes(self._pack[position - packed :]))
        index = bisect_right(self._starts, position, self._head) - 1
        return memoryview(self._pieces[index])[position - self._starts[index] :]

    def find_lines(self, count: int) -> int:
        """Return where the last ``count`` lines begin, or the oldest whole line that is kept.

        The last line counts whether or not a line end follows it.
        """
        if not count:
            return self.end
        sought = count  # line ends before the first line, seen from the end
        if self.size and bytes(self.read(self.end - 1)) == b"\n":
            sought += 1
        end, first = self.end, self.end
        for piece in self._backwards():
            base = end - len(piece)
            ends = piece.count(b"\n")
            if ends < sought:
                sought -= ends
                if ends:
                    first = base + piece.find(b"\n") + 1
                end = base
                continue
            at = len(piece)
            for _ in range(sought):
                at = piece.rfind(b"\n", 0, at)
            return base + at + 1
        return self.start if self._at_line else first

    def _backwards(self) -> Iterator[bytes]:
        yield bytes(self._pack)
        for index in range(len(self._pieces) - 1, self._head - 1, -1):
            yield bytes(self._pieces[index])
