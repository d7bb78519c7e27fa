"""Cuts what a topic gets into the bodies of POSTs, inside the router's fan-out.

Each call takes time in proportion to its bytes and no more: once there is no room for another body,
lines are only counted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY_BYTES = 1 << 20
"""Bytes of a body, as of a record that ``--frame`` keeps whole; more is cut off."""

_LINE = re.compile(rb"[^\n]+")


class Body(NamedTuple):
    """The body of a POST."""

    data: bytes
    size: int
    """Bytes that it would have had if nothing had been cut off."""
    status: int = 0
    """The exit status that the stream's last publisher left to its readers."""


class Cutter(Protocol):
    """Makes bodies of a topic's bytes."""

    @property
    def held(self) -> int:
        """Bytes in memory of a body that is not whole yet."""

    def begin_late(self) -> None:
        """A stream is under way, and what comes next does not follow what came before."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""

    def end(self, status: int, *, broken: bool) -> None:
        """The topic's last publisher has gone; ``broken``: not by its end of file."""


class _Beginning:
    """The beginning of a body, as far as it is kept: what has a gap ends there."""

    __slots__ = ("_data", "_spare", "size")

    def __init__(self, spare: Callable[[], int]) -> None:
        self._spare = spare
        self._data = bytearray()
        self.size = 0

    @property
    def held(self) -> int:
        return len(self._data)

    def add(self, data: bytes | memoryview) -> None:
        if self.size == len(self._data):
            most = min(MAX_BODY_BYTES - self.size, self._spare())
            self._data += data[: max(0, most)]
        self.size += len(data)

    def take(self, status: int = 0) -> Body:
        body = Body(bytes(self._data), self.size, status)
        self.drop()
        return body

    def drop(self) -> None:
        self._data = bytearray()  # a cleared one would keep its memory
        self.size = 0


class Streams:
    """One body for each stream.

    Args:
        emit: takes a body; returns whether there is room for more.
        lost: is told how many bodies there will not be, as there is not all of their streams.
        spare: how many bytes more may be kept.
    """

    def __init__(
        self, emit: Callable[[Body], bool], lost: Callable[[int], None], spare: Callable[[], int]
    ) -> None:
        self._emit = emit
        self._lost = lost
        self._begun = False  # some of the stream under way went by
        self._stream = _Beginning(spare)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._stream.held

    def begin_late(self) -> None:
        """There will not be all of this stream."""
        self._begun = True
        self._stream.drop()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if not self._begun:
            self._stream.add(data)

    def end(self, status: int, *, broken: bool) -> None:
        """Emit the stream, if it is whole."""
        if broken or self._begun:
            self._stream.drop()
            self._lost(1)
        else:
            self._emit(self._stream.take(status))
        self._begun = False


class Lines:
    """One body for each line, without its LF; empty lines have none.

    Args:
        emit: takes a body; returns whether there is room for more.
        lost: is told how many lines there was no room for, or broke off.
        spare: how many bytes more may be kept.
        room: whether there is room for a body now.
    """

    def __init__(
        self,
        emit: Callable[[Body], bool],
        lost: Callable[[int], None],
        spare: Callable[[], int],
        room: Callable[[], bool],
    ) -> None:
        self._emit = emit
        self._lost = lost
        self._room = room
        self._line = _Beginning(spare)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._line.held

    def begin_late(self) -> None:
        """A line that has begun will not go on."""
        if self._line.size:
            self._line.drop()
            self._lost(1)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the topic."""
        start, last = 0, data.rfind(b"\n") + 1
        if self._line.size:
            start = data.find(b"\n") + 1
            if not start:
                self._line.add(data)
                return
            self._line.add(memoryview(data)[: start - 1])
            self._emit(self._line.take())
        room = self._room()
        while room and (found := _LINE.search(data, start, last)):
            room = self._emit(Body(found[0][:MAX_BODY_BYTES], len(found[0])))
            start = found.end() + 1
        if not room and start < last:
            self._lost(data.count(b"\n", start, last))
        if last < len(data):
            self._line.add(memoryview(data)[last:])

    def end(self, status: int, *, broken: bool) -> None:
        """Emit what comes after the last LF, unless it may be the half of a line."""
        if self._line.size and broken:
            self._line.drop()
            self._lost(1)
        elif self._line.size:
            self._emit(self._line.take(status))
