"""What a reader must have received, by when it came and how it left.

A stream is noise, so a piece of it stands in one place only.  Whole streams are compared by their
SHA-256, parts with the same part of what was sent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK: Final = 1024
"""Bytes.  Streams of which chunks may be dropped are written, and so cut, in multiples of it."""


class MismatchError(AssertionError):
    """A reader has not received what it should have; the message says how they differ."""


def sha256(data: bytes | bytearray | memoryview) -> str:
    """By which whole streams are compared."""
    return hashlib.sha256(data).hexdigest()


def check_whole(sent: bytes | bytearray, received: bytes | bytearray) -> None:
    """A reader that was there from the start to the end.

    Raises:
        MismatchError: it received something else.
    """
    if sha256(received) != sha256(sent):
        raise MismatchError(_describe(sent, received))


def check_suffix(sent: bytes | bytearray, received: bytes | bytearray) -> None:
    """A reader that came in mid-stream has every byte from there.

    Raises:
        MismatchError: it received something else, or nothing.
    """
    if not received or len(received) > len(sent):
        raise MismatchError(f"the end of {len(sent)} bytes, but {len(received)} bytes arrived")
    tail = memoryview(sent)[len(sent) - len(received) :]
    if sha256(received) != sha256(tail):
        raise MismatchError(_describe(bytes(tail), received))


def check_prefix(sent: bytes | bytearray, received: bytes | bytearray) -> None:
    """A reader that left in mid-stream has every byte up to there.

    Raises:
        MismatchError: it received something else.
    """
    if not sent.startswith(received):
        raise MismatchError(_describe(sent[: len(received)], received))


def check_part(sent: bytes | bytearray, received: bytes | bytearray) -> None:
    """A reader that came and left in mid-stream has every byte in between.

    Raises:
        MismatchError: it received something else.
    """
    if received not in sent:
        raise MismatchError(f"{len(received)} bytes that are no part of the {len(sent)} sent")


def check_dropped(sent: bytes | bytearray, received: bytes | bytearray, dropped: int) -> None:
    """A reader that some chunks were dropped for has the others in order, and knows the count.

    Args:
        sent: whole blocks of `BLOCK` bytes, all different.
        received: what arrived.
        dropped: how many bytes the reader was told that it lacks.

    Raises:
        MismatchError: a block is cut, out of order, or neither here nor counted.
    """
    if len(received) + dropped != len(sent):
        raise MismatchError(f"{len(received)} received and {dropped} dropped of {len(sent)}")
    places = {bytes(sent[at : at + BLOCK]): at for at in range(0, len(sent), BLOCK)}
    last = -1
    for at in range(0, len(received), BLOCK):
        place = places.get(bytes(received[at : at + BLOCK]), -1)
        if place <= last:
            raise MismatchError(f"the block at {at} of those received is not the next one")
        last = place


def check_dealt(records: Sequence[bytes], hands: Sequence[Sequence[bytes]]) -> None:
    """Records dealt out in turn: each to one reader, in order at each of them.

    Args:
        records: all that were sent, all different.
        hands: those that each reader received.

    Raises:
        MismatchError: one is missing, changed, doubled or out of order.
    """
    places = {record: place for place, record in enumerate(records)}
    for hand in hands:
        found = [places.get(record, -1) for record in hand]
        if -1 in found or sorted(set(found)) != found:
            raise MismatchError("a record that is changed, doubled or out of order")
    if sum(map(len, hands)) != len(records):
        raise MismatchError(f"{sum(map(len, hands))} of {len(records)} records")


def _describe(expected: bytes | bytearray, received: bytes | bytearray) -> str:
    pairs = enumerate(zip(expected, received, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), None)
    where = "one is the beginning of the other" if at is None else f"they differ from byte {at}"
    return f"{len(expected)} bytes expected, {len(received)} received; {where}"
