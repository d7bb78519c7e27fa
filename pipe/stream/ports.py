"""The two ports through which a session takes part in a topic: a `Source` and a `Sink`.

The router asks nothing else of a participant.  An SSH channel is one, but neither this module nor
`pipe.stream.router` knows about SSH.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipe.errors import Outcome
    from pipe.stream.chunks import Chunk


class Source(Protocol):
    """A publisher's writing side, as the router sees it.  It starts paused.  No call may raise."""

    def pause(self) -> None:
        """Publish nothing more until `resume`, and stop reading from the client.

        This may be called inside `Router.publish`, and holds at once: the source keeps what it has
        read but not published.
        """

    def resume(self) -> None:
        """Go on; the source may publish inside this call."""

    def waits(self, missing: int) -> None:
        """The publisher waits for ``missing`` more subscribers; 0 ends the wait."""

    def finish(self, receipt: Receipt) -> None:
        """The publisher ended and everything it sent has arrived; then call `Router.leave`."""


class Sink(Protocol):
    """The reading side of a subscriber, as the router sees it.  No call may raise."""

    @property
    def clogged(self) -> bool:
        """Whether its buffer is full; it reports changes with `Router.update`."""

    @property
    def pending(self) -> int:
        """Bytes taken by `write` and not yet written to the connection.

        Bytes thrown away because the connection broke or was cut stay pending, so that they never
        count as delivered.  So do bytes taken after that, until the member has left.
        """

    def write(self, chunk: Chunk) -> None:
        """Take a chunk.  A sink never refuses: the router does not write to a clogged one.

        It may call the router from inside, once `pending` and `clogged` include the chunk.
        """

    def flush(self) -> None:
        """Call `Router.flushed` as soon as `pending` is 0, possibly at once."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End the session after the last byte, and call `Router.leave` once the client has gone.

        If the client confirms that it has everything, set `Member.confirmed` first.
        """

    def cut(self, outcome: Outcome) -> None:
        """End the session now, whatever is pending; then call `Router.leave`."""

    def waited_for(self, others: bool) -> None:
        """Other sinks start or stop waiting for this one, which is clogged (law 4).

        Called at each change and only then.  The wait also ends when this sink is no longer
        clogged, or is finished.
        """


class Watcher(Protocol):
    """Sees how a topic is used, and is no reader of it: no publisher starts or waits for it.

    No call may raise.  All come from inside the router, so they only note things.
    """

    def published(self, size: int) -> None:
        """A publisher has sent so many bytes more."""

    def ended(self, status: int, broken: bool) -> None:
        """A publisher that had started is gone.

        Args:
            status: What it leaves to its readers (``-x``).
            broken: Whether it left without an end of file.
        """

    def idle(self) -> None:
        """A pipe that has sent nothing is gone, and no publisher is left.

        That is not the end of anything that was published, but of the stream on the topic.
        """


class Mode(enum.Enum):
    """What a member does; the ``mode`` label of the metrics."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    PIPE = "pipe"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a publisher's stream.

    ``subscribers`` counts all readers that it reached.  ``left_early`` counts those that left
    before the end of the stream, did not confirm it, or, if they stay, left before their last byte
    was written to the connection.
    """

    sent_bytes: int
    subscribers: int
    left_early: int

    @property
    def undelivered(self) -> bool:
        """Whether there were readers, and none of them got everything."""
        return 0 < self.subscribers == self.left_early
