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
        late: Called when a stream is under way of which something went by: before this began, in
            another server, or while it might not be read.  Whoever may read no more is told that
            the stream broke off, and nothing of its end.
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
        self._late = late
        self._reads = False  # whether the topic might be read when that was asked last
        self._under_way = False  # bytes of a stream have gone by
        self._heard = False  # of those, some were taken
        self._status, self._broken = 0, False  # of the publishers that have gone before the last
        self._ends = False  # some have
        self._member = Member(Mode.SUBSCRIBE, sink=self, keep_alive=True, on_slow=OnSlow.DROP)
        self._member.internal = True

    def start(self) -> None:
        """Begin to read."""
        self._reads = self.may_read
        begun = self._router.begun(self._name)
        if begun.stream_bytes + begun.pipe_bytes:
            self.late()
        self._router.watch(self._name, self)
        self._router.follow(self._member, self._name, self._ask)

    def stop(self) -> None:
        """Read no more; a listener starts only once."""
        self._router.unwatch(self._name, self)
        self._router.leave(self._member)

    def late(self) -> None:
        """A stream is under way, and some of it was not heard."""
        self._under_way = True
        if self._reads:
            self._late()

    def _ask(self, name: TopicName) -> bool:
        """Say whether the topic may be read; in mid-stream a change of that leaves a part."""
        before, self._reads = self._reads, self._admits(name)
        if self._under_way and self._reads is not before:
            if self._reads:
                self._late()
            else:
                self._ended(0, True)
        return self._reads

    # -- the router's sink ------------------------------------------------------------------------

    def write(self, chunk: Chunk) -> None:
        """Take a chunk."""
        self._heard = True
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
        """Note it; what it may read comes to `write`."""
        if size and not self._under_way:
            self._ask(self._name)
            self._under_way = True

    def ended(self, status: int, broken: bool) -> None:
        """Pass on what all of them left, if this was the last publisher and it may be read."""
        self._note_end(status, broken)
        if not self._router.has_publishers(self._name):
            self._pass_on()

    def idle(self) -> None:
        """The same, if any had gone before."""
        if self._ends:
            self._pass_on()

    def _note_end(self, status: int, broken: bool) -> None:
        self._ends = True
        self._status = self._status or status
        self._broken |= broken

    def _pass_on(self) -> None:
        if self._ask(self._name):
            self._ended(self._status, self._broken)
        self._status, self._broken, self._ends = 0, False, False
        self._under_way = self._heard = False

    # -- a topic that is in another server of the service -----------------------------------------

    @property
    def may_read(self) -> bool:
        """Whether the topic may be read now."""
        return self._admits(self._name)

    def relay(self, chunk: Chunk) -> None:
        """Take a chunk from there."""
        if self._ask(self._name):
            self.write(chunk)
        self._under_way = True

    def relay_end(self, status: int, *, broken: bool, last: bool) -> None:
        """One of its publishers is gone, and with ``last`` none is left."""
        self._note_end(status, broken)
        if last:
            self._pass_on_from_there()

    def relay_idle(self) -> None:
        """A pipe that has sent nothing is gone, and no publisher is left."""
        if self._ends:
            self._pass_on_from_there()

    def _pass_on_from_there(self) -> None:
        """Pass it on; only sizes come from there as long as nobody here might read the topic."""
        if self._under_way and not self._heard:
            self.late()
        self._pass_on()
