"""Accepts connections for the workers, counts them, and chooses who serves.

A worker tells who has logged in, and waits to be told whether that is one too many; and it tells
why a connection has ended.  So the gate's counts, penalties and quotas have one owner, as where
there is one process.
"""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from pipe.errors import QuotaExceeded
from pipe.limits.bounds import parse_networks
from pipe.limits.descriptors import most_connections
from pipe.limits.gate import Refusal, costs_of, make_gate
from pipe.limits.penalties import Offence
from pipe.limits.quotas import most_of
from pipe.limits.shares import SharedClaims, SharedPenalties, SharedQuotas
from pipe.limits.sources import OwnClaims, TrustedSources, source_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pipe.hub.channel import Message
    from pipe.hub.crew import Worker
    from pipe.limits.gate import Visit
    from pipe.settings import Settings

log = structlog.get_logger()

SSH, WEB = "ssh", "web"
"""The kinds of connections, as messages name them."""

MAX_TOLD = 4096
"""Penalties that are told at once: the newest, as the others are about to run down."""


class Reception:
    """All connections of all workers.

    Args:
        settings: the limits.
        find: returns the workers that can be given connections of a kind.
        refused: counts a refusal, by its label.
        changed: is told each change of what is counted here.
        charged: is told each offence here, and by which worker it is charged for already.
    """

    def __init__(
        self,
        settings: Settings,
        find: Callable[[str], list[Worker]],
        refused: Callable[[str], None],
        changed: Callable[[str, int], None],
        charged: Callable[[str, Offence, Worker | None], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._find = find
        self._refused = refused
        self._most_of_one = most_connections()
        self._quotas = SharedQuotas(most_of(settings), changed)
        self._penalties = SharedPenalties(
            costs_of(settings),
            settings.penalty_min,
            settings.penalty_max,
            lambda source, offence: charged(source, offence, None),
        )
        self._charged = charged
        most = self._most_of_one * settings.workers
        self.gate = make_gate(settings, self._quotas, most, self._penalties)
        self._claimed = SharedClaims(settings.claims_per_day, changed)
        self._claims = OwnClaims(self._claimed, loop.time)
        self._proxies = TrustedSources(parse_networks(settings.web_proxies))
        self._numbers = itertools.count(1)
        self._early: list[tuple[str, socket.socket, Visit]] = []  # nobody can serve them yet

    def welcome(self, kind: str, connection: socket.socket, address: str) -> None:
        """Hand a connection to a worker, or close it."""
        exempt = kind == WEB and address in self._proxies
        visit = self.gate.enter(address, self._clock(), exempt=exempt)
        if isinstance(visit, Refusal):
            self._refused(visit.value)
            log.info("connection refused", address=address, reason=visit.value)
            connection.close()
            return
        self._place(kind, connection, visit)

    def _place(self, kind: str, connection: socket.socket, visit: Visit) -> None:
        workers = [one for one in self._find(kind) if len(one.guests) < self._most_of_one]
        if not workers:
            # The gate bounds those who have not logged in, and these are some of them.
            entry = kind, connection, visit
            self._early.append(entry)
            visit.cut = partial(self._turn_away, entry)
            return
        worker = min(workers, key=_business)
        number = next(self._numbers)
        worker.guests[number] = visit
        worker.logging_in += 1
        visit.cut = partial(worker.channel.send, {"type": "cut", "guest": number})
        worker.channel.send(
            {"type": kind, "guest": number, "source": visit.source, "trusted": visit.trusted},
            connection,
        )

    def place_early(self) -> None:
        """Somebody can serve: hand over who had to wait for that."""
        early, self._early = self._early, []
        for kind, connection, visit in early:
            self._place(kind, connection, visit)

    def close(self) -> None:
        """Turn away who waits for a worker."""
        for entry in list(self._early):
            self._turn_away(entry)

    def _turn_away(self, entry: tuple[str, socket.socket, Visit]) -> None:
        self._early.remove(entry)
        _, connection, visit = entry
        connection.close()
        visit.leave(None, self._clock())

    # -- what workers tell ------------------------------------------------------------------------

    def admit(self, worker: Worker, number: int, user: str) -> dict[str, Any]:
        """Count a login, and say what is wrong with it."""
        visit = worker.guests.get(number)
        if visit is None:
            return {}  # it has left
        try:
            visit.admit(user)
        except QuotaExceeded as error:
            return {"text": error.message, "resource": error.resource}
        finally:
            self._count(worker, visit)
        return {}

    def left(self, worker: Worker, number: int, offence: str | None) -> None:
        """A connection has ended."""
        visit = worker.guests.pop(number, None)
        if visit:
            self._count(worker, visit)
            visit.leave(Offence[offence] if offence else None, self._clock())

    def move(self, worker: Worker, number: int, home: Worker | None) -> Worker:
        """Count a connection that goes to another worker, and return who gets it.

        Args:
            worker: who has it.
            number: of the guest.
            home: where it should go, unless that is gone; if there is no room, it goes back.
        """
        if home is None or not home.serves or len(home.guests) >= self._most_of_one:
            return worker
        visit = worker.guests.pop(number, None)
        if visit:
            self._count(worker, visit)
            home.guests[number] = visit
        return home

    # -- what other processes tell ----------------------------------------------------------------

    def hear_of_others(self, counts: Mapping[str, int]) -> None:
        """Take what all others count."""
        for key, count in counts.items():
            self._quotas.tell_others(key, count)
            self._claimed.tell_others(key, count)

    def hear_of(self, source: str, offence: Offence, times: int) -> None:
        """Charge a source with what it has done on another machine."""
        for _ in range(times):
            self._penalties.hear_of(source, offence, self._clock())

    def list_penalties(self) -> Sequence[tuple[str, float, bool]]:
        """The penalties that another machine should know which has missed something."""
        return tuple(self._penalties.list_newest(MAX_TOLD, self._clock()))

    def merge_penalties(self, penalties: Collection[tuple[str, float, bool]]) -> None:
        """Take the penalties that another machine knows."""
        for source, seconds, enforced in penalties:
            self._penalties.merge(source, seconds, enforced, self._clock())

    def forget_old(self) -> None:
        """Tell of claims that count no longer."""
        self._claimed.forget_old(self._clock())

    def _count(self, worker: Worker, visit: Visit) -> None:
        if visit.cut is not _known:
            visit.cut = _known
            worker.logging_in -= 1

    def went(self, worker: Worker) -> None:
        """A worker is gone with all its connections."""
        for visit in worker.guests.values():
            visit.leave(None, self._clock())
        worker.guests.clear()

    def charge(self, worker: Worker, address: str, offence: str) -> None:
        """A request to a worker has offended, which has charged its address there."""
        if not self.gate.trusts(address):
            source, kind = source_of(address), Offence[offence]
            self._penalties.hear_of(source, kind, self._clock())
            self._charged(source, kind, worker)

    async def answer_claim(self, question: Message) -> bool:
        """Say whether an address may claim a name; count it if it does."""
        address = question["address"]
        if question["what"] == "may claim":
            return await self._claims.allows(address)
        return await self._claims.take(address)

    def give_back_claim(self, address: str) -> None:
        """Nothing came of a claim."""
        self._claims.give_back(address)


def _known() -> None:
    """Cut nothing: the gate evicts nobody who has logged in."""


def _business(worker: Worker) -> tuple[bool, int, int, int]:
    return worker.channel.full, worker.logging_in, len(worker.guests), worker.ident.number
