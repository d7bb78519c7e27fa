"""Who may connect at all, decided when a connection is accepted and before any work for it.

Rules:

- Connections that have not logged in are counted, in total and per source.  A source is an IPv4
  address or an IPv6 /64.  A trusted one is exempt from per-source limits and from penalties.
- When all places before the login are taken, a connection from a source that has few replaces the
  oldest connection from the source that has most.  So a flood from some addresses does not lock the
  others out, as it would with sshd's MaxStartups, which drops at random.
- Every `Visit` that entered leaves once.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from pipe.errors import QuotaExceeded
from pipe.limits.bounds import parse_networks
from pipe.limits.descriptors import most_connections
from pipe.limits.penalties import Offence, Penalties
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.limits.sources import TrustedSources, source_of
from pipe.stream.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.limits.bounds import Limits
    from pipe.limits.quotas import Quotas


class Refusal(enum.Enum):
    """Why a new connection is closed; the value is the metric's label."""

    UNAUTHENTICATED = "unauthenticated"
    UNAUTHENTICATED_ADDRESS = "unauthenticated-address"
    PENALTY = "penalty"
    CONNECTIONS = "connections"
    DESCRIPTORS = "descriptors"


def _nothing() -> None:
    """Cut nothing: there is no connection yet."""


class Visit:
    """One connection as the gate sees it, and what is known about it at its end.

    Args:
        source: where it comes from, as `source_of` writes it.
        trusted: whether the source is exempt from per-address limits.
        gate: where it entered, or None if no gate counts it.
    """

    __slots__ = (
        "_gate",
        "cut",
        "holders",
        "sessions",
        "source",
        "traffic",
        "trusted",
    )

    def __init__(self, source: str, *, trusted: bool = True, gate: Gate | None = None) -> None:
        self.source = source
        self.trusted = trusted
        self.holders: tuple[Holder, ...] = () if trusted else (Holder(Scope.ADDRESS, source),)
        self.cut: Callable[[], None] = _nothing
        self.sessions = 0
        self.traffic = Traffic()
        self._gate = gate

    async def ask(self, user: str) -> None:
        """Ask whether `admit` will let a user in, where another process keeps the counts."""

    def admit(self, user: str) -> None:
        """Note that it has logged in.

        Raises:
            QuotaExceeded: the user has as many connections as allowed.
        """
        if self._gate:
            self._gate.admit(self, user)

    def leave(self, offence: Offence | None, now: float) -> None:
        """Note that it is gone; calling this again does nothing.

        Args:
            offence: what to charge its source with.
            now: seconds, by the clock of `Gate.enter`.
        """
        gate, self._gate = self._gate, None
        self.cut = _nothing
        if gate:
            gate.leave(self, offence, now)


class Gate:
    """The count of all connections.

    Args:
        most: connections at once that have not logged in.
        most_per_source: the same from one source.
        most_open: connections at once, logged in or not.
        trusted: sources that are exempt from per-source limits.
        penalties: sources to refuse for earlier offences.
        quotas: how many connections a user and an address may have.
    """

    def __init__(
        self,
        *,
        most: int,
        most_per_source: int,
        most_open: int,
        trusted: TrustedSources,
        penalties: Penalties,
        quotas: Quotas,
    ) -> None:
        self._most = most
        self._most_per_source = most_per_source
        self._most_open = most_open
        self._trusted = trusted
        self._penalties = penalties
        self._quotas = quotas
        self._waiting: dict[str, dict[Visit, None]] = {}  # before the login, by source
        self.waiting = 0
        self.open = 0

    def enter(self, address: str, now: float, *, exempt: bool = False) -> Visit | Refusal:
        """Let a connection in, or say why not.

        Args:
            address: the client's IP address; empty if the client is gone, which is trusted.
            now: seconds on any steady clock.
            exempt: it is trusted in any case: a proxy, whose clients are told apart later.
        """
        source = source_of(address) if address else ""
        trusted = exempt or self.trusts(address)
        if self.open >= self._most_open:
            return Refusal.DESCRIPTORS
        if not trusted:
            if self._penalties.refuses(source, now):
                return Refusal.PENALTY
            if len(self._waiting.get(source, ())) >= self._most_per_source:
                return Refusal.UNAUTHENTICATED_ADDRESS
        visit = Visit(source, trusted=trusted, gate=self)
        crowd = self._crowd_for(visit) if self.waiting >= self._most else None
        if self.waiting >= self._most and crowd is None:
            return Refusal.UNAUTHENTICATED
        try:
            self._quotas.take(Resource.CONNECTIONS, *visit.holders)
        except QuotaExceeded:
            return Refusal.CONNECTIONS
        if crowd:
            oldest = next(iter(crowd))
            self._stop_waiting(oldest)
            oldest.cut()
        self._waiting.setdefault(source, {})[visit] = None
        self.waiting += 1
        self.open += 1
        return visit

    def take_over(self, source: str, *, trusted: bool) -> Visit:
        """Count a connection that another process let in; it is to be admitted at once.

        Penalties and places before the login do not concern it, as its client has logged in.

        Args:
            source: as the other process's `Visit` has it.
            trusted: the same.

        Raises:
            QuotaExceeded: its source has as many connections as allowed, or all together have.
        """
        if self.open >= self._most_open:
            raise QuotaExceeded("too many connections", Refusal.DESCRIPTORS.value)
        visit = Visit(source, trusted=trusted, gate=self)
        self._quotas.take(Resource.CONNECTIONS, *visit.holders)
        self.open += 1
        return visit

    def trusts(self, address: str) -> bool:
        """Whether an address is exempt from what is counted per source, and from penalties."""
        return not address or address in self._trusted

    def charge(self, address: str, offence: Offence, now: float) -> None:
        """Add to an address's penalty for what one of its requests did."""
        if not self.trusts(address):
            self._penalties.add(source_of(address), offence, now)

    def refuses(self, address: str, now: float) -> bool:
        """Whether a client that comes through a proxy is refused for what came before."""
        return not self.trusts(address) and self._penalties.refuses(source_of(address), now)

    def admit(self, visit: Visit, user: str) -> None:
        """Note that a connection has logged in.

        Raises:
            QuotaExceeded: the user has as many connections as allowed.
        """
        self._stop_waiting(visit)
        holder = Holder(Scope.USER, user)
        self._quotas.take(Resource.CONNECTIONS, holder)
        visit.holders = (*visit.holders, holder)

    def leave(self, visit: Visit, offence: Offence | None, now: float) -> None:
        """Note that a connection is gone, and charge its source with the offence, if any."""
        self._stop_waiting(visit)
        self.open -= 1
        self._quotas.give_back(Resource.CONNECTIONS, *visit.holders)
        if offence and not visit.trusted:
            self._penalties.add(visit.source, offence, now)

    def _crowd_for(self, visit: Visit) -> dict[Visit, None] | None:
        """The connections of the source with most, if dropping one of them is fairer."""
        crowds = (crowd for crowd in self._waiting.values() if not next(iter(crowd)).trusted)
        most = max(crowds, key=len, default=None)
        own = 0 if visit.trusted else len(self._waiting.get(visit.source, ())) + 1
        return most if most and len(most) > own else None

    def _stop_waiting(self, visit: Visit) -> None:
        crowd = self._waiting.get(visit.source, {})
        if visit in crowd:
            del crowd[visit]
            self.waiting -= 1
            if not crowd:
                del self._waiting[visit.source]


def make_gate(
    limits: Limits, quotas: Quotas, most_open: int = 0, penalties: Penalties | None = None
) -> Gate:
    """Make the gate that these limits describe; all fronts of a server share it.

    Args:
        limits: what it keeps to.
        quotas: how many connections a user and an address may have.
        most_open: connections at once, logged in or not; 0: as many as fit into this process.
        penalties: of sources; default: those that `make_penalties` makes.
    """
    return Gate(
        most=limits.max_unauthenticated,
        most_per_source=limits.max_unauthenticated_per_address,
        most_open=most_open or most_connections(),
        trusted=TrustedSources(parse_networks(limits.trusted_sources)),
        penalties=make_penalties(limits) if penalties is None else penalties,
        quotas=quotas,
    )


def make_penalties(limits: Limits) -> Penalties:
    """Make the table of penalties that these limits describe."""
    return Penalties(costs_of(limits), limits.penalty_min, limits.penalty_max)


def costs_of(limits: Limits) -> dict[Offence, float]:
    """What each offence costs, in seconds."""
    return {
        Offence.REFUSED: limits.penalty_refused,
        Offence.NO_LOGIN: limits.penalty_no_login,
        Offence.TIMEOUT: limits.penalty_timeout,
    }
