"""What two workers send each other: frames, each with a number, a kind, a session and a body.

A frame's number counts the frames of its direction, so that one that is missing is noticed,
whatever the wire below promised.  Sessions are numbered by the worker that opens them; 0 is the
link itself.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = struct.Struct(">IBI")
"""Number, kind, session."""

NUMBERS = 1 << 32

MAX_READERS = 4096
"""Readers that one frame with bytes is for."""

_COUNT = struct.Struct(">H")
_OFFSET = struct.Struct(">Q")
_MARK = struct.Struct(">QQ")

OUTCOMES = {outcome.label: outcome for outcome in Outcome}
"""By their labels, which are how they travel."""


class Kind(enum.IntEnum):
    """What a frame says.  Numbers are never used again."""

    # The link, both ways.
    HELLO = 1
    REFUSE = 2
    PING = 3

    # From the worker that has the client.
    OPEN = 10
    UP = 12
    END_OF_FILE = 13
    MARK = 14
    CLOGGED = 15
    DEAF = 16
    SIZE = 17
    ABORT = 18
    GONE = 19
    ASK = 20
    WATCH = 21

    # From the topic's home.
    CREDIT = 40
    JOINED = 41
    DOWN = 42
    DOWN_MANY = 43
    TELL = 44
    DRAW = 45
    ANSWER = 46
    FOLLOW = 47
    WAITED = 48
    FINISH = 49
    CUT = 50
    CLOSED = 51
    ANSWERED = 52
    FACTS = 53


class BadFrame(ValueError):
    """Bytes that are no frame, or a body that does not fit its kind."""


class Frame(NamedTuple):
    """One frame; ``body`` may be a view of memory that is used again."""

    number: int
    kind: Kind
    session: int
    body: memoryview


def encode(
    number: int, kind: Kind, session: int, *parts: bytes | memoryview
) -> tuple[bytes | memoryview, ...]:
    """Write a frame, in pieces: bytes of a stream are not copied for it."""
    return HEAD.pack(number, kind, session), *parts


def decode(data: memoryview) -> Frame:
    """Read a frame.

    Raises:
        BadFrame: it is none.
    """
    try:
        number, kind, session = HEAD.unpack_from(data)
        return Frame(number, Kind(kind), session, data[HEAD.size :])
    except (struct.error, ValueError) as error:
        raise BadFrame(str(error)) from None


def pack_readers(readers: Sequence[int]) -> bytes:
    """Write whom bytes are for, before the bytes themselves."""
    return struct.pack(f">H{len(readers)}I", len(readers), *readers)


def unpack_readers(body: memoryview) -> tuple[Sequence[int], memoryview]:
    """Read whom bytes are for, and return the rest.

    Raises:
        BadFrame: it is too short.
    """
    try:
        (count,) = _COUNT.unpack_from(body)
        readers = struct.unpack_from(f">{count}I", body, _COUNT.size)
    except struct.error as error:
        raise BadFrame(str(error)) from None
    return readers, body[_COUNT.size + 4 * count :]


def pack_offset(value: int) -> bytes:
    """Write how many bytes may be sent."""
    return _OFFSET.pack(value)


def unpack_offset(body: memoryview) -> int:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        (value,) = _OFFSET.unpack(body)
    except struct.error as error:
        raise BadFrame(str(error)) from None
    return int(value)


def pack_mark(size: int, chunks: int) -> bytes:
    """Write how many bytes and chunks of those given to a reader are written."""
    return _MARK.pack(size, chunks)


def unpack_mark(body: memoryview) -> tuple[int, int]:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        size, chunks = _MARK.unpack(body)
    except struct.error as error:
        raise BadFrame(str(error)) from None
    return size, chunks


def pack_flag(flag: bool, text: str = "") -> bytes:
    """Write yes or no, and some text."""
    return bytes((flag,)) + text.encode()


def unpack_flag(body: memoryview) -> tuple[bool, str]:
    """Read it.

    Raises:
        BadFrame: it is neither.
    """
    if not body or body[0] > 1:
        raise BadFrame("neither yes nor no")
    return bool(body[0]), unpack_text(body[1:])


def unpack_text(body: memoryview) -> str:
    """Read text.

    Raises:
        BadFrame: it is not UTF-8.
    """
    try:
        return bytes(body).decode()
    except UnicodeDecodeError as error:
        raise BadFrame(str(error)) from None


def pack_end(outcome: Outcome, status: int, text: str = "") -> bytes:
    """Write how a session ends: the outcome by its label, an exit status, a line."""
    label = outcome.label.encode()
    return bytes((status, len(label))) + label + text.encode()


def unpack_end(body: memoryview) -> tuple[Outcome, int, str]:
    """Read it.

    Raises:
        BadFrame: there is no such outcome.
    """
    if len(body) < 2:
        raise BadFrame("an end without a status")
    stop = 2 + body[1]
    outcome = OUTCOMES.get(unpack_text(body[2:stop]))
    if outcome is None:
        raise BadFrame("an end with an unknown outcome")
    return outcome, body[0], unpack_text(body[stop:])
