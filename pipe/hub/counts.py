"""What all processes count together, as the hub keeps it: sums, and offences of other machines."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from pipe.hub.sums import TELL_SECONDS, Sums
from pipe.limits.penalties import Offence

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pipe.hub.crew import Crew, Worker
    from pipe.hub.exchange import Exchange
    from pipe.hub.reception import Reception

HUB = "hub"
"""By which the hub is told apart from workers, where all count."""

MAX_CHARGES = 1000
"""Offences of one kind that are told of a source at once: more would change no penalty."""


class Counts:
    """Those of all processes of this machine, and of other machines if there are any.

    Args:
        crew: the workers, which are told.

    Attributes:
        reception: has the hub's own counts.
        exchange: tells other machines, and hears of them.
    """

    reception: Reception

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._sums = Sums()
        self._offences: Counter[tuple[str, str, Worker | None]] = Counter()  # with who knows it
        self._timer: asyncio.TimerHandle | None = None
        self.exchange: Exchange | None = None

    # -- this machine -----------------------------------------------------------------------------

    def count(self, key: str, count: int) -> None:
        """The hub itself counts otherwise than before."""
        self.report(HUB, {key: count})

    def report(self, process: str, counts: Mapping[str, int]) -> None:
        """A process counts otherwise than before: the others hear of it soon."""
        self._sums.report(process, counts)
        if self.exchange:
            self.exchange.report(process, counts)
        self._tell_later()

    def came(self, worker: Worker) -> None:
        """A worker is ready: tell it what the others have, and which addresses are refused."""
        worker.channel.send({"type": "others", "counts": self._sums.others(name_of(worker))})
        penalties = self.reception.list_penalties()
        if penalties:
            worker.channel.send({"type": "penalties", "penalties": penalties})

    def went(self, worker: Worker) -> None:
        """A worker is gone."""
        self._sums.forget(name_of(worker))
        if self.exchange:
            self.exchange.forget(name_of(worker))
        self._tell_later()

    def charged(self, source: str, offence: Offence, teller: Worker | None) -> None:
        """A source has offended here: other machines and the workers hear of it.

        Args:
            source: which.
            offence: what it did.
            teller: the worker that has charged it already; None if none has.
        """
        if self.exchange:
            self.exchange.charge(source, offence.name)
        self._offences[source, offence.name, teller] += 1
        self._tell_later()

    # -- other machines ---------------------------------------------------------------------------

    def hear(self, node: str, counts: Mapping[str, int], *, whole: bool) -> None:
        """A node counts otherwise than before, or has just these."""
        if whole:
            self._sums.replace(node, counts)
        else:
            self._sums.report(node, counts)
        self._tell_later()

    def lose(self, node: str) -> None:
        """A node is gone, and what it had with it."""
        self._sums.forget(node)
        self._tell_later()

    def hear_charges(self, charges: Collection[tuple[str, str, int]]) -> None:
        """Sources have offended elsewhere; what this version does not know costs nothing."""
        known = [
            (source, offence, min(times, MAX_CHARGES))
            for source, offence, times in charges
            if offence in Offence.__members__
        ]
        for source, offence, times in known:
            self.reception.hear_of(source, Offence[offence], times)
        if known:
            for worker in self._ready:
                worker.channel.send({"type": "offences", "charges": known})

    def hear_penalties(self, penalties: Collection[tuple[str, float, bool]]) -> None:
        """Another machine tells which sources it refuses."""
        self.reception.merge_penalties(penalties)
        for worker in self._ready:
            worker.channel.send({"type": "penalties", "penalties": list(penalties)})

    # -- inside -----------------------------------------------------------------------------------

    @property
    def _ready(self) -> Iterable[Worker]:
        return (worker for worker in self._crew.workers.values() if worker.is_ready)

    def _tell_later(self) -> None:
        if self._timer is None and (self._sums.pending or self._offences):
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        changed = self._sums.take_changed()
        offences, self._offences = self._offences, Counter()
        self.reception.hear_of_others(self._sums.others(HUB, changed))
        for worker in self._ready:
            if changed:
                others = self._sums.others(name_of(worker), changed)
                worker.channel.send({"type": "others", "counts": others})
            charges = [
                (source, offence, min(times, MAX_CHARGES))
                for (source, offence, teller), times in offences.items()
                if teller is not worker
            ]
            if charges:
                worker.channel.send({"type": "offences", "charges": charges})


def name_of(worker: Worker) -> str:
    """By which its counts are told apart: a number may be used again."""
    return f"{worker.ident.number}.{worker.ident.epoch}"
