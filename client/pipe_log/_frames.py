"""The formats in which Docker hands on what a container wrote, with the times of its lines.

Without a terminal each message is a frame: a byte for the stream, three of nothing, four for the
size, then so many bytes (Docker Engine API, "Attach to a container"). With a terminal there are no
frames. With `timestamps` each message begins with its time. Docker hands on lines above 16 KiB in
several messages, of which only the last has the end of the line.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ._lines import LINE_LIMIT
from ._texts import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER: Final = 8
STREAMS: Final = {1: "stdout", 2: "stderr"}

STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


class Written(NamedTuple):
    """A line that a container wrote; `moment` is when, as Docker says it."""

    stream: str
    moment: str | None
    text: bytes


class Frames:
    """Takes the frames of a container without a terminal apart."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._payload = bytearray()
        self._left = 0
        self._lines = {name: Lines() for name in ("stdout", "stderr")}
        self._moments: dict[str, str | None] = {}

    def feed(self, data: bytes) -> Iterator[Written]:
        """Take what was received, and give the lines that are complete."""
        view = memoryview(data)
        while view:
            if len(self._header) < HEADER:
                wanted = HEADER - len(self._header)
                self._header += view[:wanted]
                view = view[wanted:]
                self._left = int.from_bytes(self._header[4:], "big")
                if len(self._header) < HEADER or self._left:
                    continue
            piece, view = view[: self._left], view[self._left :]
            self._left -= len(piece)
            self._payload += piece[: LINE_LIMIT - len(self._payload)]
            if not self._left:
                yield from self._message()

    def _message(self) -> Iterator[Written]:
        stream = STREAMS.get(self._header[0], "stdout")
        moment, text = _split(bytes(self._payload))
        if len(self._payload) == LINE_LIMIT:
            text += b"\n"  # where it ended was cut off
        self._header.clear()
        self._payload.clear()
        self._moments[stream] = moment
        for line in self._lines[stream].feed(text):
            yield Written(stream, moment, line)

    def end(self) -> Iterator[Written]:
        """Give what has no end of line, as there will be none."""
        for stream, lines in self._lines.items():
            for line in lines.end():
                yield Written(stream, self._moments.get(stream), line)


class Terminal:
    """Takes the lines of a container with a terminal apart."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, data: bytes) -> Iterator[Written]:
        """Take what was received, and give the lines that are complete."""
        return (Written("stdout", *_split(line)) for line in self._lines.feed(data))

    def end(self) -> Iterator[Written]:
        """Give what has no end of line, as there will be none."""
        return (Written("stdout", *_split(line)) for line in self._lines.end())


def _split(message: bytes) -> tuple[str | None, bytes]:
    """Part a message from its time."""
    found = STAMP.match(message)
    if found is None:
        return None, message
    return found.group().decode().rstrip(), message[found.end() :]


def just_after(moment: str) -> str:
    """The nanosecond after a moment, as Docker's `since` wants it: seconds of Unix time."""
    found = STAMP.match(moment.encode())
    assert found  # noqa: S101
    whole, fraction, zone = (group.decode() if group else "" for group in found.groups())
    zone = "+00:00" if zone == "Z" else zone
    seconds = int(datetime.datetime.fromisoformat(whole + zone).timestamp())
    seconds, nanoseconds = divmod(seconds * 10**9 + int(fraction.ljust(9, "0")) + 1, 10**9)
    return f"{seconds}.{nanoseconds:09d}"
