"""Chunks, which are the bytes of one SSH data packet on their way through the router, and records.

A chunk is made once, after its packet is decrypted, and the same object goes to every subscriber.
It is never split or joined unless the publisher asks for ``--frame``: then a `Framer` re-cuts the
stream at the ends of records.
"""

from __future__ import annotations

from array import array
from collections import deque

from pipe.errors import UsageError

MAX_RECORD_BYTES = 1 << 20
"""The longest record, with its separator, that ``--frame`` keeps whole: it stays in memory until
its end arrives.  NATS allows a message 1 MiB by default, and a subscriber's own buffer is that
size."""

CHUNK_COST = 512
"""Bytes that a chunk takes in memory however little is in it, so N / 512 chunks clog a port with N
bytes of buffer too.  Without this a stalled reader of one-byte chunks held 400 MB."""


class Chunk:
    """Some bytes of a stream.

    ``data`` is bytes-like and never changes, ``size`` is its length in bytes.  ``frame`` belongs to
    the lane, which keeps there what it reuses from one subscriber to the next; nothing else touches
    it.
    """

    __slots__ = ("data", "frame", "size")

    def __init__(self, data: bytes | memoryview, frame: bytes | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.frame = frame

    def __len__(self) -> int:
        return self.size


class RecordTooLong(UsageError):
    """A record is longer than `MAX_RECORD_BYTES`; ``records`` holds the whole ones before it."""

    def __init__(self, records: Chunk) -> None:
        super().__init__(
            f"a record is longer than {MAX_RECORD_BYTES} bytes, the most that --frame keeps whole; "
            "send without --frame, or cut the records shorter"
        )
        self.records = records


class Framer:
    """Re-cuts a byte stream at the ends of records, marked by the one byte ``separator``.

    It holds the beginning of the record that has not ended yet, at most `MAX_RECORD_BYTES`.  The
    records are the same however the stream was cut before.  It looks only for the last separator,
    so that a stream of nothing but separators costs no more than any other.
    """

    def __init__(self, separator: bytes) -> None:
        self._separator = separator
        self._rest = bytearray()

    def feed(self, chunk: Chunk) -> Chunk:
        """Take more of the stream; return the records that are now complete, with separators.

        A chunk that begins and ends with a whole record is returned unchanged.

        Raises:
            RecordTooLong: a record exceeds the bound.  The framer cannot be used afterwards.
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
        """Check each record, as one of them may be too long."""
        held, start = len(self._rest), 0
        while start < stop:
            end = data.find(self._separator, start) + 1
            if held + end - start > MAX_RECORD_BYTES:
                whole = bytes(self._rest) + data[:start] if start else b""
                raise RecordTooLong(Chunk(whole))
            held, start = 0, end

    def close(self) -> bytes:
        """Return what came after the last separator: the last record needs none."""
        last = bytes(self._rest)
        self._rest.clear()
        return last


def deal_out(records: Chunk, separator: bytes, hands: int) -> tuple[list[Chunk], int]:
    """Deal whole records out in turn, record i to hand i mod n, and join what each hand gets.

    Each reader sees the same stream as with one chunk per record, in a fraction of the packets.

    Returns:
        One chunk for each hand that gets any, and the number of records.
    """
    pieces = bytes(records.data[:-1]).split(separator)
    chunks = [
        Chunk(separator.join(pieces[first::hands]) + separator)
        for first in range(min(hands, len(pieces)))
    ]
    return chunks, len(pieces)


SMALL_BYTES = 256
"""Chunks up to this size are packed while they wait.  Each object takes some 300 bytes beside its
data, so a window full of one-byte packets would otherwise hold hundreds of times its size."""

PACK_BYTES = 64 * 1024
"""A pack takes no more after this many bytes or chunks.  Its memory is freed only once all of it
has been taken, so a backlog that is never quite empty would otherwise keep a whole stream."""


class Backlog:
    """A first-in, first-out queue of chunks that takes little more memory than their bytes.

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
        """Drop all chunks."""
        self._items = None


class _Pack:
    """A run of small chunks: their bytes, their sizes, and how far they have been read."""

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
