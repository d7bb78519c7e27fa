"""A reader within the server: a log drain, a webhook.

It counts as a subscriber like any other, so a publisher need not wait for one; but it keeps no
topic open, and reads its own whenever that exists.  It takes each chunk at once, so it is never
clogged and holds nobody up: what it does with the chunks is bounded by whoever listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.language.requests import OnSlow
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.language.names import TopicName
    from pipe.stream.chunks import Chunk
    from pipe.stream.router import Router


class Listener:
    """Reads one topic from `start` to `stop`.

    Args:
        router: Where the topic is.
        name: The topic.
        take: Called with each chunk, inside the router's fan-out: it has to be quick, and may not
            raise.
        ended: Called as the topic's last publisher goes, with the first status other than 0 that
            one of them left, and whether one broke off.
        admits: Says whether the topic may be read.  The router asks as the topic opens, and again
            when its rules change.
        late: Called when a stream is under way whose beginning went by in another server.
    """

    clogged = False
    pending = 0

    def __init__(
        self,
        router: Router,
        name: TopicName,
        take: Callable[[Chunk], None],
        ended: Callable[[int, bool], None] = lambda _status, _broken: None,
        admits: Callable[[TopicName], bool] = lambda _: True,
        late: Callable[[], None] = lambda: None,
    ) -> None:
        self._router = router
        self._name = name
        self._take = take
        self._ended = ended
        self._admits = admits
        self.late = late
        self._status, self._broken = 0, False  # of the publishers that have gone before the last
        self._ends = False  # some have
        self._member = Member(Mode.SUBSCRIBE, sink=self, keep_alive=True, on_slow=OnSlow.DROP)
        self._member.internal = True

    def start(self) -> None:
        """Begin to read."""
        self._router.watch(self._name, self)
        self._router.follow(self._member, self._name, self._admits)

    def stop(self) -> None:
        """Read no more; a listener starts only once."""
        self._router.unwatch(self._name, self)
        self._router.leave(self._member)

    # -- the router's sink ------------------------------------------------------------------------

    def write(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self._take(chunk)

    def flush(self) -> None:
        """Nothing is ever pending."""
        self._router.flushed(self._member)

    def finish(self, outcome: Outcome, exit_status: int) -> None:  # noqa: ARG002 - none is told
        """It stays, so this comes only if the router gives it up."""
        self._router.leave(self._member)

    def cut(self, outcome: Outcome) -> None:  # noqa: ARG002 - likewise
        """Likewise."""
        self._router.leave(self._member)

    def waited_for(self, others: bool) -> None:
        """Nobody waits for it, as it is never clogged."""

    # -- the router's watcher ---------------------------------------------------------------------

    def published(self, size: int) -> None:
        """What it may read comes to `write`."""

    def ended(self, status: int, broken: bool) -> None:
        """Pass on what all of them left, if this was the last publisher and it could be read."""
        self._note_end(status, broken)
        if not self._router.has_publishers(self._name):
            self._pass_on(bool(self._member.topics))

    def idle(self) -> None:
        """The same, if any had gone before."""
        if self._ends:
            self._pass_on(bool(self._member.topics))

    def _note_end(self, status: int, broken: bool) -> None:
        self._ends = True
        self._status = self._status or status
        self._broken |= broken

    def _pass_on(self, could_read: bool) -> None:
        status, broken = self._status, self._broken
        self._status, self._broken, self._ends = 0, False, False
        if could_read:
            self._ended(status, broken)

    # -- a topic that is in another server of the service -----------------------------------------

    @property
    def may_read(self) -> bool:
        """Whether the topic may be read now."""
        return self._admits(self._name)

    def relay(self, chunk: Chunk) -> None:
        """Take a chunk from there."""
        if self.may_read:
            self._take(chunk)

    def relay_end(self, status: int, *, broken: bool, last: bool) -> None:
        """One of its publishers is gone, and with ``last`` none is left."""
        self._note_end(status, broken)
        if last:
            self._pass_on(self.may_read)

    def relay_idle(self) -> None:
        """A pipe that has sent nothing is gone, and no publisher is left."""
        if self._ends:
            self._pass_on(self.may_read)
