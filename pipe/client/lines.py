"""What a server says on a session's stderr, and what it means for the stream's end.

Exit statuses are few and ends are many: 74 is a broken stream, a reader that was cut off or a
receipt that none has given.  The line that comes with it tells them apart.
"""

from __future__ import annotations

import re

from pipe.errors import Outcome
from pipe.library.ends import End
from pipe.stream.ports import Receipt

PREFIX = "pipe: "

NOTHING_KEPT = "nothing is kept of "

MAX_LINE_BYTES = 16 * 1024
"""A server's lines are short: what is longer is cut."""

_STATUS = re.compile(
    r"waiting for |a subscriber is here|enough subscribers are here"
    r"|(others )?(subscribe|join) with:"
    r"|no subscriber left after .*; waiting for another|joined in mid-stream:|sent \d+ bytes? "
    r"|nothing is kept of \S+$|begins (before|in|with) |stream \w+: its last "
)
"""Lines about a stream that goes on.  All others say why it ended."""

_SENT = re.compile(r"sent (\d+) bytes?(?: from byte \d+ on)? to (\d+) subscribers?(?:, (\d+) of)?")

_BEGINS = re.compile(r"begins with byte (\d+) of stream (\w+)")

_BY_STATUS: dict[int, Outcome] = {
    64: Outcome.USAGE,
    69: Outcome.UNAVAILABLE,
    70: Outcome.FAILED,
    74: Outcome.BROKEN,
    75: Outcome.LIMITED,
    77: Outcome.DENIED,
    130: Outcome.INTERRUPTED,
    141: Outcome.LEFT,
}
"""What a status means by itself."""

_BY_TEXT: tuple[tuple[str, Outcome], ...] = (
    *((one.text, one) for one in Outcome if one.text),
    ("gave up:", Outcome.TIMEOUT),
    ("dropped ", Outcome.DROPPED),
    ("too late for ", Outcome.LATE),
    (NOTHING_KEPT, Outcome.LATE),
    ("stream ", Outcome.LATE),
    ("byte ", Outcome.LATE),
    ("the bytes of stream ", Outcome.LATE),
    ("no stream of yours", Outcome.LATE),
    ("the stream on ", Outcome.LATE),
    ("you have no stream on ", Outcome.LATE),
    ("no subscriber left after", Outcome.BROKEN),
)


class Lines:
    """The lines of one session."""

    def __init__(self) -> None:
        self._rest = b""
        self._error = ""
        self.receipt: Receipt | None = None
        self.begins: tuple[int, str] | None = None
        """Which byte of which stream a reader begins with, if the server has said so."""
        self.started = False
        """Whether a publisher has been told that its readers are there."""

    def feed(self, data: bytes) -> list[str]:
        """Take what came, and return the lines that are complete, without their prefix."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-MAX_LINE_BYTES:]
        return [self._read(line[:MAX_LINE_BYTES]) for line in lines]

    def _read(self, raw: bytes) -> str:
        line = raw.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        line = line.removeprefix(PREFIX)
        if sent := _SENT.match(line):
            size, readers, early = sent.groups(default="0")
            self.receipt = Receipt(int(size), int(readers), int(early))
        elif begins := _BEGINS.match(line):
            self.begins = int(begins[1]), begins[2]
        elif line.endswith(", sending"):
            self.started = True
        if line and not _STATUS.match(line):
            self._error = line
        return line

    def end(self, status: int | None, *, cut: bool = False) -> End:
        """Return how the session ended.

        Args:
            status: its exit status, if there was one.
            cut: whether it was not the end of what the server sends.  Who is cut off without
                reading is told no line.
        """
        if status is None:
            return End(
                Outcome.CUT, Outcome.CUT.status, "the connection to the server is lost", lost=True
            )
        if not status or not (self._error or cut):
            return End(Outcome.DONE, status, receipt=self.receipt)
        outcome = _BY_STATUS.get(status, Outcome.DONE)
        if cut and outcome is Outcome.BROKEN:
            outcome = Outcome.CUT
        for text, found in _BY_TEXT:
            if self._error.startswith(text) and found.status == status:
                outcome = found
                break
        return End(outcome, status, self._error, self.receipt)
