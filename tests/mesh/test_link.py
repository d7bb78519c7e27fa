"""A link without sessions: greetings, numbers, silence, and one frame for many readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pipe.mesh.directory import WorkerId
from pipe.mesh.frames import BadFrame, Frame, Kind, decode, encode, unpack_readers
from pipe.mesh.hello import PROTOCOL, Hello, write_hello
from pipe.mesh.home import HomeEnd
from pipe.mesh.link import MISSED_TICKS, PIECE_BYTES, QUIET_TICKS, Link
from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipe.mesh.wire import Pieces


class Line:
    """A link's wire."""

    def __init__(self) -> None:
        self.sends: list[list[bytes]] = []
        self.closed = False
        self.blocked = False
        self.unsent = 0
        self.rtt = None

    def send(self, frames: Sequence[Pieces]) -> None:
        """Keep what is sent."""
        self.sends.append([b"".join(frame) for frame in frames])

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Here:
    """A link's user, with its wire."""

    def __init__(self, number: int = 1, protocol: int = PROTOCOL, *, attached: bool = True) -> None:
        self.hello: Hello | None = None
        self.frames: list[tuple[Kind, int, bytes]] = []
        self.lost_for = ""
        self.blocked_now: list[bool] = []
        self.turns = 0
        self.line = Line()
        self.link = Link(Hello(protocol, "1", WorkerId("", number, 1)), self, self._later)
        if attached:
            self.link.attach(self.line)

    def _later(self) -> None:
        self.turns += 1

    def greeted(self, hello: Hello) -> None:
        """Note it."""
        self.hello = hello

    def taken(self, frame: Frame) -> None:
        """Keep it; one kind makes no sense."""
        if frame.kind is Kind.SIZE:
            raise BadFrame("nonsense")
        self.frames.append((frame.kind, frame.session, bytes(frame.body)))

    def blocked(self, blocked: bool) -> None:
        """Note it."""
        self.blocked_now.append(blocked)

    def lost(self, reason: str) -> None:
        """Note it."""
        assert not self.lost_for
        self.lost_for = reason

    @property
    def out(self) -> list[Frame]:
        """All that was sent."""
        return [decode(memoryview(frame)) for frames in self.line.sends for frame in frames]

    def hear(self, *frames: bytes) -> None:
        """Let frames come."""
        for frame in frames:
            self.link.received(memoryview(frame))


def written(number: int, kind: Kind, session: int, body: bytes = b"") -> bytes:
    """A frame as it comes."""
    return b"".join(encode(number, kind, session, body))


def greeting(number: int = 2, protocol: int = PROTOCOL, node: str = "") -> bytes:
    """Another worker's first frame."""
    return written(0, Kind.HELLO, 0, write_hello(Hello(protocol, "1", WorkerId(node, number, 1))))


def test_greets_first() -> None:
    """The first frame says who this is, and the other side's is heard."""
    here = Here()
    assert [frame.kind for frame in here.out] == [Kind.HELLO]
    here.hear(greeting())
    assert here.hello
    assert here.hello.worker == WorkerId("", 2, 1)
    assert here.link.open


def test_greets_first_whatever_the_time_is() -> None:
    """A tick between the connection that is accepted and its wire sends nothing."""
    here = Here(attached=False)
    here.link.tick()
    here.link.flush()
    here.link.attach(here.line)
    assert [(frame.number, frame.kind) for frame in here.out] == [(0, Kind.HELLO)]


def test_refuses_another_protocol() -> None:
    """Who speaks another version is told why, and that is the end."""
    here = Here()
    here.hear(greeting(protocol=PROTOCOL + 1))
    assert here.out[-1].kind is Kind.REFUSE
    assert "run the same version" in bytes(here.out[-1].body).decode()
    assert here.line.closed
    assert "speaks protocol" in here.lost_for


@pytest.mark.parametrize("name", [WorkerId("n1", 1, 1), WorkerId("n2", 2, 1)])
def test_another_name_than_its_wires(name: WorkerId) -> None:
    """Who has shown on its wire who it is cannot be somebody else on its link."""
    never: Any = None
    reasons: list[str] = []
    end = HomeEnd(never, never, never, lambda _, reason: reasons.append(reason), sender=name)
    end.link = Link(Hello(PROTOCOL, "1", WorkerId("n1", 7, 1)), end, lambda: None)
    line = Line()
    end.link.attach(line)
    end.link.received(memoryview(greeting(2, node="n2")))
    assert line.closed is (name.node == "n1")
    assert reasons == (["it calls itself n2/2"] if line.closed else [])


def test_is_refused() -> None:
    """A refusal ends a link with its reason."""
    here = Here()
    here.hear(written(0, Kind.REFUSE, 0, b"too old"))
    assert here.lost_for == "it refuses: too old"


def test_reason_is_for_people() -> None:
    """What another worker says of its refusal is shown escaped, and not for ever."""
    here = Here()
    here.hear(written(0, Kind.REFUSE, 0, b"\x1b[2J" + b"x" * 100_000))
    assert here.lost_for.isprintable()
    assert len(here.lost_for) < 2000


@pytest.mark.parametrize(
    "frame",
    [
        written(2, Kind.TELL, 1, b"the one before is missing"),
        written(0, Kind.TELL, 1, b"again"),
        written(1, Kind.SIZE, 1),
        b"short",
        b"\0\0\0\1\xff\0\0\0\0",
    ],
    ids=["gap", "repeated", "nonsense", "short", "unknown kind"],
)
def test_ends_with_what_makes_no_sense(frame: bytes) -> None:
    """A gap, a repetition, a frame that cannot be: nothing is heard or sent afterwards."""
    here = Here()
    here.hear(greeting(), frame)
    assert here.lost_for
    assert here.line.closed
    here.hear(written(1, Kind.TELL, 1, b"late"))
    here.link.send(Kind.TELL, 1, b"late")
    here.link.flush()
    assert here.frames == []
    assert len(here.out) == 1


def test_nothing_before_the_greeting() -> None:
    """Who does not greet is not heard."""
    here = Here()
    here.hear(written(0, Kind.TELL, 1, b"hello?"))
    assert here.lost_for
    assert here.frames == []


def test_a_turn_is_one_send() -> None:
    """All frames of a turn go out together, with numbers without a gap."""
    here = Here()
    here.hear(greeting())
    before = here.turns
    for number in range(5):
        here.link.send(Kind.TELL, number, b"x")
    assert here.turns == before + 1
    here.link.flush()
    assert len(here.line.sends[1]) == 5
    assert [frame.number for frame in here.out] == list(range(6))


def test_a_chunk_goes_once() -> None:
    """A chunk for several readers in a row goes once; what is said in between keeps its place."""
    here = Here()
    first, second = Chunk(b"first"), Chunk(b"second")
    for reader in (1, 2, 3):
        here.link.write(reader, first)
    here.link.write(1, second)
    here.link.send(Kind.FINISH, 1)
    here.link.write(2, second)
    here.link.flush()
    kinds = [(frame.kind, frame.session) for frame in here.out[1:]]
    assert kinds == [(Kind.DOWN_MANY, 0), (Kind.DOWN, 1), (Kind.FINISH, 1), (Kind.DOWN, 2)]
    readers, data = unpack_readers(here.out[1].body)
    assert (list(readers), bytes(data)) == ([1, 2, 3], b"first")


def test_long_chunks_are_cut() -> None:
    """No frame is longer than every wire takes."""
    here = Here()
    data = bytes(range(256)) * (PIECE_BYTES // 100)
    here.link.write(1, Chunk(data))
    here.link.flush()
    pieces = [bytes(frame.body) for frame in here.out[1:]]
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) == PIECE_BYTES


def test_silence_ends_it() -> None:
    """Without a frame for so many ticks it is over; any frame begins that anew."""
    here = Here()
    here.hear(greeting())
    for number in range(20):
        here.link.tick()
        here.hear(written(number + 1, Kind.PING, 0))
    for _ in range(1 + MISSED_TICKS):
        here.link.tick()
        assert not here.lost_for
    here.link.tick()
    assert "nothing was heard" in here.lost_for


def test_is_quiet_before_it_ends() -> None:
    """After one tick without a frame it is not quiet, after some it is, until one comes."""
    here = Here()
    here.hear(greeting())
    quiet = []
    for _ in range(QUIET_TICKS + 1):
        here.link.tick()
        quiet.append(here.link.quiet)
    here.hear(written(1, Kind.PING, 0))
    quiet.append(here.link.quiet)
    here.link.tick()
    quiet.append(here.link.quiet)
    assert quiet == [*[False] * QUIET_TICKS, True, False, False]


def test_pings_when_it_has_nothing_to_say() -> None:
    """A side that has spoken since the last tick does not ping."""
    here = Here()
    here.hear(greeting())
    here.link.tick()
    here.link.tick()
    assert [frame.kind for frame in here.out] == [Kind.HELLO, Kind.PING]
    here.link.send(Kind.TELL, 1, b"x")
    here.link.flush()
    here.link.tick()
    assert [frame.kind for frame in here.out[2:]] == [Kind.TELL]


def test_tells_when_it_is_blocked() -> None:
    """A full wire is told once, and once when it is free again."""
    here = Here()
    for blocked in (True, True, False):
        here.link.wire_blocked(blocked)
    assert here.blocked_now == [True, False]
