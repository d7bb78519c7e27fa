"""The two ports by which anything takes part in a topic: a `Source` writes, a `Sink` reads.

They are all that the router asks of a participant.  An SSH channel is one; nothing here or in
`pipe.stream.router` knows of SSH.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pipe.errors import Outcome
    from pipe.stream.chunks import Chunk


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
        pending, so that it never counts as delivered.  So does what is still taken after that,
        until the member has left.
        """

    def write(self, chunk: Chunk) -> None:
        """Take a chunk.  Never refuses: a clogged sink is not written to.

        May call the router back from inside, once `pending` and `clogged` account for the chunk.
        """

    def flush(self) -> None:
        """Call `Router.flushed` as soon as `pending` is 0, which may be at once."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """After the last byte, end the session; then `Router.leave` once the client has gone.

        If it has confirmed that it has everything, `Member.confirmed` is set before that.
        """

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
    before the end of the stream, did not confirm it, or, if they stay, were gone before their last
    byte was written to the connection.
    """

    sent_bytes: int
    subscribers: int
    left_early: int

    @property
    def undelivered(self) -> bool:
        """Whether nobody has everything, of readers that there were."""
        return 0 < self.subscribers == self.left_early
