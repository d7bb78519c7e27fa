"""A chunk: the bytes of one SSH data packet on their way through the router; and records in chunks.

A chunk is made once, when its packet has been decrypted, and the same object goes to every
subscriber.  It is never split into lines and never joined, unless the publisher asks for
``--frame``: then a `Framer` re-cuts the stream at the ends of records.
"""

from __future__ import annotations

from array import array
from collections import deque

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

    def __init__(self, records: Chunk) -> None:
        super().__init__(
            f"a record is longer than {MAX_RECORD_BYTES} bytes, the most that --frame keeps whole; "
            "send without --frame, or cut the records shorter"
        )
        self.records = records


class Framer:
    """Re-cuts a byte stream at the ends of records, which are ``separator`` (one byte).

    It holds the beginning of the one record that has not ended yet, at most `MAX_RECORD_BYTES`.
    How the stream was cut before does not matter: the records are the same.  It looks for the last
    end alone, so that a stream of nothing but separators costs no more than any other.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._rest = bytearray()

    def feed(self, chunk: Chunk) -> Chunk:
        """Take more of the stream; return the records that are complete now, separators included.

        What comes in is returned as it is where it begins and ends with a whole record.

        Raises:
            RecordTooLong: a record goes on past the bound.  The framer is of no use afterwards.
        """
        data = bytes(chunk.data)
        stop = data.rfind(self._separator) + 1
        if not stop:
            self._keep(data, Chunk(b""))
            return Chunk(b"")
        if len(self._rest) + len(data) > MAX_RECORD_BYTES:
            self._check(data, stop)
        if stop == len(data) and not self._rest:
            return chunk
        records = Chunk(b"".join((self._rest, data[:stop])))
        self._rest.clear()
        self._keep(data[stop:], records)
        return records

    def _keep(self, rest: bytes, records: Chunk) -> None:
        if len(self._rest) + len(rest) > MAX_RECORD_BYTES:
            raise RecordTooLong(records)
        self._rest += rest

    def _check(self, data: bytes, stop: int) -> None:
        """Look at each record where one of them may be too long."""
        held, start = len(self._rest), 0
        while start < stop:
            end = data.find(self._separator, start) + 1
            if held + end - start > MAX_RECORD_BYTES:
                whole = bytes(self._rest) + data[:start] if start else b""
                raise RecordTooLong(Chunk(whole))
            held, start = 0, end

    def close(self) -> bytes:
        """Return what came after the last separator: the last record, which needs none."""
        last = bytes(self._rest)
        self._rest.clear()
        return last


def deal_out(records: Chunk, separator: bytes, hands: int) -> tuple[list[Chunk], int]:
    """Deal whole records out in turn, record i to hand i mod n, and join what each hand gets.

    For whoever reads it that is the same stream as one chunk per record, for a fraction of the
    packets.

    Returns:
        What each hand gets, if anything, and how many records there were.
    """
    pieces = bytes(records.data[:-1]).split(separator)
    chunks = [
        Chunk(separator.join(pieces[first::hands]) + separator)
        for first in range(min(hands, len(pieces)))
    ]
    return chunks, len(pieces)


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
