"""What the router knows of a session: two ports, its wishes, its counters.

A `Source` and a `Sink` are all that the router asks of whatever takes part in a topic.  An SSH
channel is one such thing; nothing here or in `pipe.stream.router` knows of SSH.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow, Pipe, Publish, Subscribe

if TYPE_CHECKING:
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Topic


class Source(Protocol):
    """A publisher's writing side, as the router sees it: paused at first.  No call may raise."""

    def pause(self) -> None:
        """Publish nothing more until `resume`, and stop reading the client.

        May come from inside `Router.publish`, and holds from there: what has been read and not been
        published stays with the source.
        """

    def resume(self) -> None:
        """Go on.  May publish at once, from inside this call."""

    def waits(self, missing: int) -> None:
        """The publisher waits for ``missing`` more subscribers; 0: it waits no more."""

    def finish(self, receipt: Receipt) -> None:
        """The publisher has ended and all that it sent has arrived; then `Router.leave`."""


class Sink(Protocol):
    """The reading side of a subscriber, as the router sees it.  No call may raise."""

    @property
    def clogged(self) -> bool:
        """Whether it has taken all that it may buffer; changes are told with `Router.update`."""

    @property
    def pending(self) -> int:
        """Bytes taken by `write` and not written to the connection.

        What is thrown away because the connection broke or was cut has never been written: it stays
        pending, so that it never counts as delivered.
        """

    def write(self, chunk: Chunk) -> None:
        """Take a chunk.  Never refuses: a clogged sink is not written to.

        May call the router back from inside, once `pending` and `clogged` account for the chunk.
        """

    def flush(self) -> None:
        """Call `Router.flushed` as soon as `pending` is 0, which may be at once."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """After the last byte, end the session; then `Router.leave` once the client confirmed."""

    def cut(self, outcome: Outcome) -> None:
        """End the session now, whatever is pending; then `Router.leave`."""

    def waited_for(self, others: bool) -> None:
        """Other sinks now wait for this one, which is clogged (law 4), or no longer do.

        Told at each change and only then; no longer also when it is clogged no more or is finished.
        """


class Mode(enum.Enum):
    """What a member does; the ``mode`` label of the metrics."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    PIPE = "pipe"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a publisher's stream.

    ``subscribers`` counts all readers that it reached, ``left_early`` those of them that were gone
    before the end of the stream, or before their last byte was written.
    """

    sent_bytes: int
    subscribers: int
    left_early: int


class Member:
    """One session as the router sees it: its ports, its wishes and its counters.

    Args:
        mode: what it does.
        source: the writing side, for a publisher or pipe.
        sink: the reading side, for a subscriber or pipe.
        wants: how many subscribers it waits for before it starts; 0: it never waits.
        whole: whether nobody may begin to read it in mid-stream.
        dispatch: how its chunks are dealt out.
        replay: whether its own chunks come back to it.
        keep_alive: whether it stays when the last publisher has ended.
        on_slow: what happens when it falls behind.
        exit_status: what its subscribers exit with when it ends.
    """

    __slots__ = (
        "accepted_bytes",
        "accepted_chunks",
        "awaited_by",
        "awaits",
        "broken",
        "clogged",
        "clogged_since",
        "deaf",
        "dispatch",
        "dropped_bytes",
        "end_held",
        "ended",
        "exit_status",
        "finishing",
        "inherited_status",
        "joined",
        "keep_alive",
        "left_early",
        "mode",
        "on_slow",
        "paused",
        "reached",
        "received_bytes",
        "received_chunks",
        "replay",
        "served",
        "sink",
        "source",
        "started",
        "topic",
        "topics",
        "waited_in",
        "waiting",
        "wants",
        "whole",
    )

    def __init__(
        self,
        mode: Mode,
        *,
        source: Source | None = None,
        sink: Sink | None = None,
        wants: int = 0,
        whole: bool = False,
        dispatch: Dispatch = Dispatch.MULTICAST,
        replay: bool = False,
        keep_alive: bool = False,
        on_slow: OnSlow = OnSlow.BLOCK,
        exit_status: int = 0,
    ) -> None:
        self.mode = mode
        self.source = source
        self.sink = sink
        self.wants = wants
        self.whole = whole
        self.dispatch = dispatch
        self.replay = replay
        self.keep_alive = keep_alive
        self.on_slow = on_slow
        self.exit_status = exit_status

        self.joined = False
        self.topic: Topic | None = None  # that it joined by name
        self.topics: dict[Topic, None] = {}  # where it reads now: as many as its pattern matches

        # As a publisher.
        self.started = False
        self.end_held = False  # its end of file came before it started
        self.ended = False
        self.paused = True  # a source starts paused
        self.waiting = 0
        self.reached = 0
        self.left_early = 0
        self.received_bytes = 0
        self.received_chunks = 0
        self.awaits: dict[Member, int] = {}  # after its end: reader -> bytes it must have written

        # As a reader.
        self.clogged = False
        self.clogged_since: float | None = None  # by the router's clock
        self.deaf = False  # its client has thrown away what it was sent
        self.served = False
        self.broken = False
        self.finishing = False
        self.inherited_status = 0
        self.accepted_bytes = 0
        self.accepted_chunks = 0
        self.dropped_bytes = 0
        self.awaited_by: dict[Member, None] = {}
        self.waited_in: dict[Topic, None] = {}  # while clogged: where other sinks wait for it

    @property
    def written_bytes(self) -> int:
        """Bytes that its sink has written to the connection."""
        return self.accepted_bytes - (self.sink.pending if self.sink else 0)

    @property
    def stays(self) -> bool:
        """Whether it goes on when the topic's last publisher is gone."""
        return self.keep_alive or (self.source is not None and not self.ended)

    @property
    def outcome(self) -> Outcome:
        """How its reading ends, if it ends now."""
        if self.broken:
            return Outcome.BROKEN
        return Outcome.DROPPED if self.dropped_bytes else Outcome.DONE


def make_member(request: Publish | Subscribe | Pipe, source: Source, sink: Sink) -> Member:
    """The member that a request asks for, with those of the two ports that it uses."""
    match request:
        case Publish():
            return Member(
                Mode.PUBLISH,
                source=source,
                wants=request.min_subscribers if request.block else 0,
                whole=request.whole,
                dispatch=request.dispatch,
                exit_status=request.exit_status,
            )
        case Subscribe():
            return Member(
                Mode.SUBSCRIBE,
                sink=sink,
                keep_alive=request.keep_alive,
                on_slow=request.on_slow,
            )
        case Pipe():
            return Member(
                Mode.PIPE,
                source=source,
                sink=sink,
                dispatch=request.dispatch,
                replay=request.replay,
                on_slow=request.on_slow,
            )
