"""The comparisons of the soak accept what is right and nothing else."""

from __future__ import annotations

import pytest

from loadtest.soak.checks import (
    BLOCK,
    MismatchError,
    check_dealt,
    check_dropped,
    check_part,
    check_prefix,
    check_suffix,
    check_whole,
)
from tests.e2e.payloads import noise

SENT = noise(10 * BLOCK)
CHANGED = SENT[:5000] + b"\0\0" + SENT[5002:]
RECORDS = [b"%d" % number for number in range(6)]


def test_what_is_right_is_accepted() -> None:
    """A whole stream, its beginning, its end, a part, and one that lacks whole blocks."""
    check_whole(SENT, bytearray(SENT))
    check_prefix(SENT, SENT[:1234])
    check_prefix(SENT, b"")
    check_suffix(SENT, SENT[1234:])
    check_part(SENT, SENT[99:1234])
    check_dropped(SENT, SENT[: 2 * BLOCK] + SENT[3 * BLOCK :], BLOCK)
    check_dealt(RECORDS, [RECORDS[::2], RECORDS[1::2], []])


@pytest.mark.parametrize("received", [CHANGED, SENT[:-1], SENT[1:], SENT + b"x", b""])
def test_whole_stream_has_every_byte(received: bytes) -> None:
    """A byte that is changed, missing or added is seen, at either end."""
    with pytest.raises(MismatchError, match="expected"):
        check_whole(SENT, received)


@pytest.mark.parametrize("received", [CHANGED, SENT[1:], SENT + b"x"])
def test_beginning_has_no_hole(received: bytes) -> None:
    """What is no beginning is refused."""
    with pytest.raises(MismatchError):
        check_prefix(SENT, received)


@pytest.mark.parametrize("received", [CHANGED, SENT[:-1], b"x" + SENT, b""])
def test_end_reaches_the_last_byte(received: bytes) -> None:
    """What is no end is refused, and nothing at all is none."""
    with pytest.raises(MismatchError):
        check_suffix(SENT, received)


def test_part_has_no_hole() -> None:
    """Two parts are none."""
    with pytest.raises(MismatchError):
        check_part(SENT, SENT[:10] + SENT[20:30])


@pytest.mark.parametrize(
    ("received", "dropped"),
    [
        (SENT[BLOCK:], 0),
        (SENT, BLOCK),
        (SENT[BLOCK : 2 * BLOCK] + SENT[:BLOCK], 8 * BLOCK),
        (SENT[:BLOCK] * 2, 8 * BLOCK),
        (SENT[10:], 10),
        (CHANGED, 0),
    ],
)
def test_dropped_chunks_are_whole_and_counted(received: bytes, dropped: int) -> None:
    """A wrong count, a wrong order, a block twice, a cut one and a changed one are seen."""
    with pytest.raises(MismatchError):
        check_dropped(SENT, received, dropped)


@pytest.mark.parametrize(
    "hands",
    [
        [RECORDS[:5]],
        [RECORDS, RECORDS[:1]],
        [RECORDS[::-1]],
        [[b"0", b"1"], [b"2", b"3"], [b"4", b"55"]],
    ],
)
def test_records_are_dealt_once(hands: list[list[bytes]]) -> None:
    """A record that is missing, doubled, out of order or changed is seen."""
    with pytest.raises(MismatchError):
        check_dealt(RECORDS, hands)
