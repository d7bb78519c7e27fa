"""What a session asks of the front that its client came through: SSH today."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipe.session.intake import Valve
from pipe.stream.ports import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member
    from pipe.stream.traffic import Traffic


class Owner(Protocol):
    """What a port tells the session that it belongs to."""

    def end_reading(self, outcome: Outcome, exit_status: int) -> None:
        """The stream is over for this reader; the last byte may still be pending."""

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End now, whatever is pending."""

    def waited_for(self, others: bool) -> None:
        """While clogged: whether other readers wait for this one."""

    def emptied(self) -> None:
        """Nothing is pending any more."""


class Port(Sink, Valve, Protocol):
    """A session's data path: what its client reads goes in, what it sends comes out."""

    @property
    def queued(self) -> int:
        """Bytes taken and not yet handed to the connection.

        `pending` also counts those that the connection has yet to write.
        """

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Give what the client sends to ``feed``, chunk by chunk."""

    def bind(self, member: Member) -> None:
        """From now on, tell the router what happens to this member's sink."""

    def close(self) -> None:
        """The client is gone: let go of everything."""


class Front(Protocol):
    """One client's way in and out.  No call may raise; after `closed` none comes."""

    def make_port(self, owner: Owner) -> Port:
        """Make the data path; called once, first of all."""

    def tell(self, text: str) -> None:
        """Tell the user something, beside the stream: one line without its end."""

    def answer(self, text: str) -> None:
        """Give the answer of a command."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """End in good order, as nothing is queued; may come again until the client is gone."""

    def abort(self, outcome: Outcome, text: str) -> bool:
        """End now: what is queued is lost.

        Returns:
            False where the client has been told of another end already.  It has a moment to
            confirm that.
        """

    def closed(self, traffic: Traffic) -> None:
        """The session is over, and has moved this."""

    def log_fields(self) -> dict[str, str]:
        """What the log says of the client's software, and of how it is talked to."""
