"""A chunk: the bytes of one SSH data packet on their way through the router; and records in chunks.

A chunk is made once, when its packet has been decrypted, and the same object goes to every
subscriber.  It is never split into lines and never joined, unless the publisher asks for
``--frame``: then a `Framer` re-cuts the stream at the ends of records.
"""

from __future__ import annotations

from array import array
from collections import deque
from itertools import takewhile

from pipe.errors import UsageError

MAX_RECORD_BYTES = 1 << 20
"""The longest record, with its separator, that ``--frame`` keeps whole: it must be held in memory
until its end is seen.  1 MiB is what NATS allows a message by default, and the size of a
subscriber's own buffer."""


class Chunk:
    """Some bytes of a stream.

    ``data`` is bytes-like and never changes, ``size`` is its length in bytes.  ``frame`` belongs to
    the lane, which keeps there what it can reuse from one subscriber to the next; everybody else
    leaves it alone.
    """

    __slots__ = ("data", "frame", "size")

    def __init__(self, data: bytes | memoryview, frame: bytes | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.frame = frame

    def __len__(self) -> int:
        return self.size


class RecordTooLong(UsageError):
    """A record did not end within `MAX_RECORD_BYTES`; ``records`` came whole before it."""

    def __init__(self, records: list[bytes]) -> None:
        super().__init__(
            f"a record is longer than {MAX_RECORD_BYTES} bytes, the most that --frame keeps whole; "
            "send without --frame, or cut the records shorter"
        )
        self.records = records


class Framer:
    """Cuts a byte stream into whole records that end with ``separator`` (one byte).

    It holds the beginning of the one record that has not ended yet, at most `MAX_RECORD_BYTES`.
    How the stream was cut before does not matter: the records are the same.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._rest = bytearray()

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take more of the stream; return the records that are complete now, separators included.

        Raises:
            RecordTooLong: a record goes on past the bound.  The framer is of no use afterwards.
        """
        *pieces, rest = bytes(data).split(self._separator)
        if pieces and self._rest:
            pieces[0] = bytes(self._rest) + pieces[0]
            self._rest.clear()
        records = [piece + self._separator for piece in pieces]
        if max(map(len, records), default=0) > MAX_RECORD_BYTES:
            raise RecordTooLong(list(takewhile(_is_allowed, records)))
        self._rest += rest
        if not _is_allowed(self._rest):
            raise RecordTooLong(records)
        return records

    def close(self) -> bytes:
        """Return what came after the last separator: the last record, which needs none."""
        last = bytes(self._rest)
        self._rest.clear()
        return last


def _is_allowed(record: bytes | bytearray) -> bool:
    return len(record) <= MAX_RECORD_BYTES


SMALL_BYTES = 256
"""A chunk up to this size is packed while it waits: as an object of its own it would take some
300 bytes beside its data, so that a window full of one-byte packets would hold hundreds of
times its size."""

PACK_BYTES = 64 * 1024
"""A pack that has had so many bytes or chunks is closed, as its memory comes free only once all of
it has been taken: a backlog that is never quite empty would otherwise keep a whole stream."""


class Backlog:
    """Chunks that wait, first in, first out, in about the memory of their bytes.

    Runs of small chunks are packed into one buffer with a list of their sizes (2 bytes each), and
    come out as the same chunks again.
    """

    def __init__(self) -> None:
        self._items: deque[Chunk | _Pack] | None = None  # most streams never wait

    def __bool__(self) -> bool:
        return bool(self._items)

    def append(self, chunk: Chunk) -> None:
        """Add a chunk at the end."""
        if self._items is None:
            self._items = deque()
        if chunk.size > SMALL_BYTES:
            self._items.append(chunk)
            return
        last = self._items[-1] if self._items else None
        if not isinstance(last, _Pack) or last.is_full:
            last = _Pack()
            self._items.append(last)
        last.append(chunk)

    def popleft(self) -> Chunk:
        """Take the first chunk.

        Raises:
            IndexError: there is none.
        """
        if not self._items:
            raise IndexError
        first = self._items[0]
        if isinstance(first, Chunk):
            self._items.popleft()
            return first
        chunk = first.popleft()
        if not first:
            self._items.popleft()
        return chunk

    def clear(self) -> None:
        """Forget them all."""
        self._items = None


class _Pack:
    """A run of small chunks: their bytes, their sizes, and how far it has been read."""

    __slots__ = ("_data", "_index", "_offset", "_sizes")

    def __init__(self) -> None:
        self._data = bytearray()
        self._sizes = array("H")
        self._offset = 0
        self._index = 0

    def __bool__(self) -> bool:
        return self._index < len(self._sizes)

    @property
    def is_full(self) -> bool:
        return max(len(self._data), len(self._sizes)) >= PACK_BYTES

    def append(self, chunk: Chunk) -> None:
        self._data += chunk.data
        self._sizes.append(chunk.size)

    def popleft(self) -> Chunk:
        start, stop = self._offset, self._offset + self._sizes[self._index]
        self._offset = stop
        self._index += 1
        return Chunk(bytes(self._data[start:stop]))
