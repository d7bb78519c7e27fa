"""A chunk: the bytes of one SSH data packet on their way through the router; and records in chunks.

A chunk is made once, when its packet has been decrypted, and the same object goes to every
subscriber.  It is never split into lines and never joined, unless the publisher asks for
``--frame``: then a `Framer` re-cuts the stream at the ends of records.
"""

from __future__ import annotations

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
