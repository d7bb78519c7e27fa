"""A link from one worker to another: frames in order, or its end.

It has no loop and no clock: its owner calls `flush` when the turn in which `later` was called ends,
and `tick` every `TICK_SECONDS`.  It keeps these rules:

- The first frame of each side is a HELLO.  Who does not speak the same version is refused, and
  told why.
- All frames of a turn go out together.
- A frame whose number is not the next one ends the link, as something between is missing.
- Silence ends it after `PATIENCE_SECONDS`; who has nothing to say pings.  It counts its own ticks,
  not the time: while this process stood still it could not hear, and the other one may be well.
- After the end nothing is sent, and nothing more is heard.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from pipe.language.names import escape
from pipe.mesh.frames import (
    MAX_READERS,
    NUMBERS,
    BadFrame,
    Frame,
    Kind,
    decode,
    encode,
    pack_readers,
    unpack_text,
)
from pipe.mesh.hello import Hello, read_hello, why_not, write_hello
from pipe.mesh.wire import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.mesh.wire import Pieces, Wire
    from pipe.stream.chunks import Chunk

TICK_SECONDS = 0.5
"""How often a link says that it is there, unless it has said something else."""

PATIENCE_SECONDS = 3.0
"""Without a frame for so long the other worker counts as gone.  A loop that is busy for a second is
not, and one that hangs holds up the topics that have readers there no longer than this."""

MISSED_TICKS = round(PATIENCE_SECONDS / TICK_SECONDS)
QUIET_TICKS = 2
"""Ticks without a frame, of which one may be chance: the other worker may be gone."""

GATHERED_BYTES = 256 * 1024
"""So much is not kept until the turn ends: the other side can begin with it."""

PIECE_BYTES = 512 * 1024
"""Longer chunks are sent in pieces: a frame holds a mebibyte, with its readers."""


def pieces_of(size: int) -> int:
    """In how many pieces a chunk is sent."""
    return max(1, -(-size // PIECE_BYTES))


MAX_REASON_BYTES = 1024
"""Why it was refused is shown to people."""


class User(Protocol):
    """Whom a link's frames are for.  No call but `taken` may raise."""

    def greeted(self, hello: Hello) -> None:
        """The other side has said who it is; comes first."""

    def taken(self, frame: Frame) -> None:
        """A frame has come; its body is the wire's again afterwards.

        Raises:
            BadFrame: it makes no sense; the link ends.
        """

    def blocked(self, blocked: bool) -> None:
        """More than 1 MiB is unsent, or no longer."""

    def lost(self, reason: str) -> None:
        """The link has ended."""


class State(enum.Enum):
    """Where a link is in its life."""

    GREETING = enum.auto()
    OPEN = enum.auto()
    LOST = enum.auto()


class Link:
    """One end of a link: a `pipe.mesh.wire.End`.

    Args:
        hello: who this side is.
        user: whom its frames are for.
        later: has `flush` called when this turn is over; called once for each.

    Attributes:
        sent_bytes: of all frames that have been sent.
        received_bytes: of all that have come.
    """

    def __init__(self, hello: Hello, user: User, later: Callable[[], None]) -> None:
        self._hello = hello
        self._user = user
        self._later = later
        self._wire: Wire | None = None
        self._state = State.GREETING
        self._out: list[Pieces] = []
        self._size = 0
        self._sent = 0  # frames, which number the next one
        self._received = 0
        self._chunk: Chunk | None = None  # the last one written, and for whom
        self._readers: list[int] = []
        self._scheduled = False
        self._spoke = False  # since the last tick
        self._heard = False
        self._missed = 0  # ticks in a row before which nothing was heard
        self._is_blocked = False
        self.sent_bytes = 0
        self.received_bytes = 0

    def attach(self, wire: Wire) -> None:
        """Begin: say hello on this wire."""
        self._wire = wire
        self.send(Kind.HELLO, 0, write_hello(self._hello))
        self.flush()

    @property
    def blocked(self) -> bool:
        """Whether more than 1 MiB is unsent."""
        return self._is_blocked

    @property
    def open(self) -> bool:
        """Whether both sides have said hello, and it has not ended."""
        return self._state is State.OPEN

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._state is State.LOST

    @property
    def quiet(self) -> bool:
        """Whether nothing was heard lately: it may be heard again, or it ends soon."""
        return not self._heard and self._missed >= QUIET_TICKS

    @property
    def unsent(self) -> int:
        """How many bytes are unsent."""
        return self._size + (self._wire.unsent if self._wire and not self.over else 0)

    @property
    def rtt(self) -> float | None:
        """Seconds there and back, where that is known."""
        return self._wire.rtt if self._wire and not self.over else None

    # -- sending ----------------------------------------------------------------------------------

    def send(self, kind: Kind, session: int, *parts: bytes | memoryview) -> None:
        """Send a frame when the turn is over, behind what was sent before."""
        if self._state is State.LOST:
            return
        self._settle()
        self._put(kind, session, *parts)

    def write(self, session: int, chunk: Chunk) -> None:
        """Send a chunk to a session; to several in a row it goes once, with all their numbers."""
        if self._state is State.LOST:
            return
        if chunk is not self._chunk or len(self._readers) == MAX_READERS:
            self._settle()
            self._chunk = chunk
            self._schedule()
        self._readers.append(session)

    def _settle(self) -> None:
        """Put the last chunk written among the frames."""
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return
        readers = self._readers
        data = memoryview(chunk.data)
        for start in range(0, max(chunk.size, 1), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            if len(readers) == 1:
                self._put(Kind.DOWN, readers[0], piece)
            else:
                self._put(Kind.DOWN_MANY, 0, pack_readers(readers), piece)
        readers.clear()

    def _put(self, kind: Kind, session: int, *parts: bytes | memoryview) -> None:
        frame = encode(self._sent, kind, session, *parts)
        self._sent = (self._sent + 1) % NUMBERS
        self._out.append(frame)
        self._size += size_of(frame)
        if self._size >= GATHERED_BYTES:
            self._send_out()
        else:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later()

    def flush(self) -> None:
        """The turn is over: send everything."""
        self._scheduled = False
        self._settle()
        self._send_out()

    def _send_out(self) -> None:
        if self._out and self._wire and self._state is not State.LOST:
            self.sent_bytes += self._size
            out, self._out, self._size = self._out, [], 0
            self._spoke = True
            self._wire.send(out)

    # -- the wire ---------------------------------------------------------------------------------

    def received(self, frame: memoryview) -> None:
        """A frame has come."""
        if self._state is State.LOST:
            return
        self._heard = True
        self.received_bytes += len(frame)
        try:
            self._take(decode(frame))
        except BadFrame as error:
            self.fail(f"it sent what makes no sense: {error}")

    def _take(self, frame: Frame) -> None:
        if frame.number != self._received:
            raise BadFrame(f"frame {self._received} is missing")
        self._received = (self._received + 1) % NUMBERS
        if frame.kind is Kind.REFUSE:
            self.fail(f"it refuses: {escape(unpack_text(frame.body[:MAX_REASON_BYTES]))}")
        elif self._state is State.GREETING:
            self._greet(frame)
        elif frame.kind is not Kind.PING:
            self._user.taken(frame)

    def _greet(self, frame: Frame) -> None:
        if frame.kind is not Kind.HELLO:
            raise BadFrame("no greeting")
        hello = read_hello(frame.body)
        if reason := why_not(self._hello, hello):
            self.send(Kind.REFUSE, 0, reason.encode())
            self.flush()
            self.fail(reason)
            return
        self._state = State.OPEN
        self._user.greeted(hello)

    def wire_blocked(self, blocked: bool) -> None:
        """The wire is blocked, or no longer is."""
        if self._state is not State.LOST and blocked is not self._is_blocked:
            self._is_blocked = blocked
            self._user.blocked(blocked)

    def lost(self, reason: str) -> None:
        """The wire is gone."""
        if self._state is State.LOST:
            return
        self._state = State.LOST
        self._out.clear()
        self._chunk = None
        self._readers.clear()
        self._user.lost(reason)

    def fail(self, reason: str) -> None:
        """End it from this side."""
        if self._wire and self._state is not State.LOST:
            self._wire.close()
        self.lost(reason)

    def tick(self) -> None:
        """Say that this side is there, and see whether the other one is."""
        if self._state is State.LOST:
            return
        self._missed = 0 if self._heard else self._missed + 1
        self._heard = False
        if self._missed > MISSED_TICKS:
            self.fail(f"nothing was heard of it for {PATIENCE_SECONDS:g} s")
            return
        if self._wire and not self._spoke:  # it greets first
            self.send(Kind.PING, 0)
            self.flush()
        self._spoke = False
