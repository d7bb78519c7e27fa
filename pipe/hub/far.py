"""What a worker has in place of what its hub counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipe.errors import QuotaExceeded
from pipe.hub.channel import Lost
from pipe.limits.bounds import parse_networks
from pipe.limits.gate import Gate, Visit, make_penalties
from pipe.limits.quotas import Holder, Quotas, Scope
from pipe.limits.sources import TrustedSources

if TYPE_CHECKING:
    from pipe.hub.channel import Channel
    from pipe.limits.penalties import Offence
    from pipe.settings import Settings


class FarVisit(Visit):
    """A connection that the hub has let in.

    Args:
        number: the hub's for it.
        source: where it comes from.
        trusted: whether that is exempt from limits.
        gate: tells the hub.
    """

    __slots__ = ("answer", "moves", "number")

    def __init__(self, number: int, source: str, *, trusted: bool, gate: FarGate) -> None:
        super().__init__(source, trusted=trusted, gate=gate)
        self.number = number
        self.answer: dict[str, Any] = {}
        self.moves = False  # to another worker, where it goes on under its number

    async def ask(self, user: str) -> None:
        """Ask the hub whether `admit` will let a user in; it counts the user if so."""
        if isinstance(self._gate, FarGate):
            self.answer = await self._gate.ask(self, user)


class FarGate(Gate):
    """The gate of a worker: the hub has the counts.

    Args:
        settings: the limits.
        channel: to the hub.
    """

    def __init__(self, settings: Settings, channel: Channel) -> None:
        super().__init__(
            most=0,
            most_per_source=0,
            most_open=0,
            trusted=TrustedSources(parse_networks(settings.trusted_sources)),
            penalties=make_penalties(settings),  # as the hub has them, for clients behind proxies
            quotas=Quotas({}),
        )
        self._channel = channel
        self._guests: dict[int, FarVisit] = {}

    def receive(self, number: int, source: str, *, trusted: bool) -> FarVisit:
        """The hub hands over a connection."""
        visit = self._guests[number] = FarVisit(number, source, trusted=trusted, gate=self)
        return visit

    def cut(self, number: int) -> None:
        """The hub needs its place for somebody else."""
        visit = self._guests.get(number)
        if visit:
            visit.cut()

    async def ask(self, visit: FarVisit, user: str) -> dict[str, Any]:
        """Ask whether a user may have one more connection."""
        try:
            answer: dict[str, Any] = await self._channel.ask(
                {"type": "login", "guest": visit.number, "user": user}
            )
        except Lost:
            return {}  # this process ends
        return answer

    def admit(self, visit: Visit, user: str) -> None:
        """Note that a connection has logged in.

        Raises:
            QuotaExceeded: the hub has said that the user has as many as allowed.
        """
        answer = visit.answer if isinstance(visit, FarVisit) else {}
        if answer:
            raise QuotaExceeded(answer["text"], answer["resource"])
        visit.holders = (*visit.holders, Holder(Scope.USER, user))

    def leave(self, visit: Visit, offence: Offence | None, now: float) -> None:  # noqa: ARG002
        """Tell the hub that a connection is gone."""
        if isinstance(visit, FarVisit):
            if self._guests.get(visit.number) is visit:  # it may have come back already
                del self._guests[visit.number]
            if not visit.moves:
                self.tell_left(visit, offence)

    def tell_left(self, visit: FarVisit, offence: Offence | None = None) -> None:
        """Have the hub count a connection no longer."""
        name = offence.name if offence else None
        self._channel.send({"type": "left", "guest": visit.number, "offence": name})

    def charge(self, address: str, offence: Offence, now: float) -> None:
        """Add to an address's penalty, here and where it connects."""
        super().charge(address, offence, now)
        if not self.trusts(address):
            self._channel.send({"type": "charge", "address": address, "offence": offence.name})

    def hear_of(self, source: str, offence: Offence, now: float) -> None:
        """Add to the penalty of a source for what it has done elsewhere."""
        self._penalties.add(source, offence, now)

    def merge_penalty(self, source: str, seconds: float, enforced: bool, now: float) -> None:
        """Take a penalty that the hub knows."""
        self._penalties.merge(source, seconds, enforced, now)


class FarClaims:
    """Asks the hub who may claim a name.

    Args:
        channel: to the hub.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def allows(self, address: str) -> bool:
        """Whether one more claim is allowed now."""
        return await self._ask("may claim", address)

    async def take(self, address: str) -> bool:
        """Count a claim, or return False if it is one too many."""
        return await self._ask("claims", address)

    def give_back(self, address: str) -> None:
        """Nothing came of it."""
        self._channel.send({"type": "no claim", "address": address})

    async def _ask(self, what: str, address: str) -> bool:
        try:
            answer: bool = await self._channel.ask(
                {"type": "claim", "what": what, "address": address}
            )
        except Lost:
            return False  # this process ends
        return answer
