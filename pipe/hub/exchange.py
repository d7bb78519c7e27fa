"""What this machine's hub and those of the others tell each other of what they count.

A node tells changes at most every `NEWS_SECONDS`, and every `BEAT_SECONDS` that it is there.  No
login waits for it: each hub judges by its own counts and by what it was told last.  A node that is
not seen any more takes its counts along.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from pipe.hub.sums import Sums
from pipe.language.names import escape
from pipe.mesh.frames import BadFrame
from pipe.mesh.ledger import Ledger, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.ledger import About, Message

log = structlog.get_logger()

NEWS_SECONDS = 0.1
"""How long changes are gathered before other machines are told."""

BEAT_SECONDS = 1.0
"""How soon a message that was lost is noticed, if nothing follows it."""

LOST_SECONDS = 86_400.0
"""How long a node is missed that has gone without a word: whoever wants to know knows by then."""


class Herald(Protocol):
    """What carries it; `pipe.mesh.hubs.Hubs`."""

    def tell(self, data: bytes) -> None:
        """Tell all others; it may be lost, or come twice."""


class Counter(Protocol):
    """Who adds up; `pipe.hub.counts.Counts`."""

    def hear(self, node: str, counts: Mapping[str, int], *, whole: bool) -> None:
        """A node counts otherwise than before, or has just these."""

    def lose(self, node: str) -> None:
        """A node is gone, and what it had with it."""

    def hear_charges(self, charges: Collection[tuple[str, str, int]]) -> None:
        """Sources have offended elsewhere."""

    def hear_penalties(self, penalties: Collection[tuple[str, float, bool]]) -> None:
        """Take which sources another node refuses."""


class Door(Protocol):
    """Who lets in; `pipe.hub.reception.Reception`."""

    def list_penalties(self) -> Sequence[tuple[str, float, bool]]:
        """Those that others should know: source, seconds, whether it is enforced."""

    def forget_old(self) -> None:
        """Tell of claims that count no longer."""


class Neighbour:
    """Another node.

    Attributes:
        hub: which start of it.
        since: when it was seen first, in seconds of the monotonic clock.
        heard: when it was heard last; 0 if never.
        about: what it says of itself.
    """

    def __init__(self, hub: WorkerId) -> None:
        self.hub = hub
        self.since = time.monotonic()
        self.heard = 0.0
        self.about: About | None = None


class Exchange:
    """One node's part.

    Args:
        me: its hub.
        herald: carries messages.
        counter: adds up what comes.
        door: knows of penalties and claims.
        about: returns what this node says of itself.

    Attributes:
        neighbours: the other nodes that are there.
        lost: those that have gone without a word, and when.
    """

    def __init__(
        self,
        me: WorkerId,
        herald: Herald,
        counter: Counter,
        door: Door,
        about: Callable[[], About],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._herald = herald
        self._counter = counter
        self._door = door
        self._about = about
        self._ledger: Ledger[WorkerId] = Ledger(name_of(me))
        self._own = Sums()
        self.neighbours: dict[WorkerId, Neighbour] = {}
        self.lost: dict[str, float] = {}
        self._left: set[WorkerId] = set()  # have said so, and may be seen for a moment yet
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._beat = self._loop.call_later(BEAT_SECONDS, self._tell)

    # -- this node --------------------------------------------------------------------------------

    def report(self, process: str, counts: Mapping[str, int]) -> None:
        """A process of this machine counts otherwise than before."""
        self._own.report(process, counts)
        self._count()

    def forget(self, process: str) -> None:
        """A process of this machine is gone."""
        self._own.forget(process)
        self._count()

    def charge(self, source: str, offence: str) -> None:
        """A source has offended here."""
        self._ledger.charge(source, offence)
        self._tell_later()

    def close(self) -> None:
        """Say that this node leaves, and neither tell nor hear any more."""
        if self._closed:
            return
        self._closed = True
        self.neighbours.clear()
        self._beat.cancel()
        if self._timer:
            self._timer.cancel()
        self._send(self._ledger.leave())

    def _count(self) -> None:
        self._ledger.count(self._own.others("", self._own.take_changed()))
        self._tell_later()

    def _tell_later(self) -> None:
        if self._timer is None and self._ledger.pending and not self._closed:
            self._timer = self._loop.call_later(NEWS_SECONDS, self._tell)

    def _tell(self) -> None:
        self._door.forget_old()
        self._beat.cancel()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._beat = self._loop.call_later(BEAT_SECONDS, self._tell)
        penalties = self._door.list_penalties() if self._ledger.asked else ()
        self._send(self._ledger.next(penalties, self._about()))
        self._forget_lost()

    def _send(self, message: Message) -> None:
        self._herald.tell(encode(message))

    # -- the others -------------------------------------------------------------------------------

    def appeared(self, hub: WorkerId) -> None:
        """Another node is there."""
        if hub not in self.neighbours and hub not in self._left:
            self.neighbours[hub] = Neighbour(hub)
            self.lost.pop(hub.node, None)
            self._ledger.greet(hub, name_of(hub))
            self._tell_later()

    def vanished(self, hub: WorkerId) -> None:
        """Another node is not seen any more, unless it has said that it leaves."""
        self._left.discard(hub)
        if self._drop(hub) and all(one.node != hub.node for one in self.neighbours):
            self.lost[hub.node] = time.monotonic()

    def heard(self, hub: WorkerId, data: bytes) -> None:
        """Another node tells something; of one that is not there nothing counts."""
        neighbour = self.neighbours.get(hub)
        if neighbour is None:
            return
        try:
            message = decode(data)
        except BadFrame as error:
            log.warning("message not read", node=escape(hub.node), reason=str(error))
            return
        neighbour.heard = time.monotonic()
        neighbour.about = message.about or neighbour.about
        if message.leaves:
            self._left.add(hub)
            self._drop(hub)
            return
        heard = self._ledger.hear(hub, name_of(hub), message)
        if heard.counts and (message.counts or message.whole):
            self._counter.hear(name_of(hub), message.counts, whole=message.whole)
        if heard.charges and message.charges:
            self._counter.hear_charges(message.charges)
        if heard.counts and message.penalties:
            self._counter.hear_penalties(message.penalties)
        self._tell_later()

    def _drop(self, hub: WorkerId) -> bool:
        """Return whether it was there."""
        if self.neighbours.pop(hub, None) is None:
            return False
        self._ledger.forget(hub)
        self._counter.lose(name_of(hub))
        return True

    def _forget_lost(self) -> None:
        past = time.monotonic() - LOST_SECONDS
        for node in [node for node, since in self.lost.items() if since < past]:
            del self.lost[node]


def name_of(hub: WorkerId) -> str:
    """By which a start of a node is known to all."""
    return f"{hub.node}/{hub.epoch}"
