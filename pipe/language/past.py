"""Flags about a topic's past: what is kept of it, and where a reader begins."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from pipe.errors import UsageError
from pipe.language.durations import SECONDS_PER_DAY, format_duration, parse_duration
from pipe.language.flags import Argument, Command, Flag
from pipe.language.sizes import parse_size

MAX_LAST_LINES = 10_000
"""Past lines that a reader may ask for: finding them takes some milliseconds."""

MAX_LINGER = SECONDS_PER_DAY
"""Seconds for which a topic's past may outlive its last publisher: it takes memory."""

MAX_OFFSET = 1 << 62
"""Bytes: beyond every stream."""

MAX_ID_LENGTH = 32
"""Characters of a stream's identifier that are looked at."""


@dataclass(frozen=True, slots=True)
class Offset:
    """``offset``: how many bytes of the caller's stream on a topic were taken."""

    topic: str


@dataclass(frozen=True, slots=True)
class Last:
    """How much of the past a reader wants: so many bytes, or so many lines."""

    amount: int
    lines: bool = False


def parse_last(text: str) -> Last:
    """Read a size such as ``64KiB``, or a number of lines such as ``100l``."""
    number = text.removesuffix("l")
    if number == text:
        with contextlib.suppress(UsageError):
            return Last(parse_size(text))
    elif number.isascii() and number.isdigit() and int(number) <= MAX_LAST_LINES:
        return Last(int(number), lines=True)
    raise UsageError(f"it takes a size such as 64KiB, or lines: 0l to {MAX_LAST_LINES}l")


def parse_offset(text: str) -> int:
    """Read the number of a byte, counted from 0."""
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_OFFSET:
        return int(text)
    raise UsageError("it takes the number of a byte, counted from 0")


def parse_id(text: str) -> str:
    """Read a stream's identifier."""
    if 0 < len(text) <= MAX_ID_LENGTH and text.isascii() and text.isalnum():
        return text
    raise UsageError("this is not a stream's identifier: 'explain TOPIC' shows it")


def parse_linger(text: str) -> float:
    """Read how long the past outlives the last publisher."""
    seconds = parse_duration(text)
    if seconds > MAX_LINGER:
        raise UsageError(f"at most {format_duration(MAX_LINGER)}")
    return seconds


KEEPING = (
    Flag("keep", "--keep", parse_size, "keep the topic's last bytes for late readers", "SIZE"),
    Flag("linger", "--linger", parse_linger, "keep them so long after the last publisher", "DUR"),
)
RESUMING = (
    Flag("hold", "--hold", parse_linger, "let the stream stand if the connection is lost", "DUR"),
    Flag("at", "--at", parse_offset, "go on with a held stream, at this byte", "OFFSET"),
)
HOLDING = Flag("hold", "--hold", parse_linger, "let a lost reader go on with --from", "DUR")
LOOKING_BACK = (
    Flag("last", "--last", parse_last, "begin with so much of what is kept: 64KiB, 100l", "SIZE"),
    Flag("offset", "--from", parse_offset, "begin with this byte of the stream, or fail", "OFFSET"),
    Flag("stream", "--stream", parse_id, "only of the stream with this identifier", "ID"),
)
"""For `pipe.language.requests.COMMANDS`."""


PAST_COMMANDS = (
    Command(
        "offset",
        Offset,
        "print how many bytes of your stream were taken",
        "A pub that comes back with --at goes on there.",
        (Argument("topic", "TOPIC", required=True),),
    ),
)
"""For the same."""


def check_keeping(keep: int, linger: float, *, whole: bool, dealt_out: bool) -> None:
    """Refuse flags that contradict each other, or mean nothing without each other."""
    if linger and not keep:
        raise UsageError("--linger needs something to keep: add --keep SIZE")
    if keep and whole:
        raise UsageError("--keep is for late readers, and --whole refuses them: choose one")
    if keep and dealt_out:
        raise UsageError(
            "with --dispatch round_robin there is nothing that all have read: leave out --keep"
        )


def check_looking_back(
    last: Last | None, offset: int | None, stream: str | None, *, whole: bool
) -> None:
    """Refuse flags that contradict each other."""
    if last and offset is not None:
        raise UsageError("--last and --from both say where to begin: choose one")
    if whole and (last or offset is not None):
        raise UsageError("--whole begins with the first byte: choose that, --last or --from")
    if stream and offset is None:
        raise UsageError("--stream says whose byte is meant: add --from OFFSET")
