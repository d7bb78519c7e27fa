"""Limits per address.  Every table here has its own bound."""

from __future__ import annotations

import functools
import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipe.limits.bounds import Network

SECONDS_PER_DAY = 86_400.0

MAX_SOURCES = 65_536
"""Addresses that a table remembers, as in sshd's PerSourcePenalties; the oldest goes first."""

IPV6_PREFIX = 64
"""An IPv6 subscriber has at least a /64, so that counts as one address."""


RECENT_ADDRESSES = 1024
"""Addresses that need not be parsed again: most connections come from where others came from."""


@functools.lru_cache(maxsize=RECENT_ADDRESSES)
def _host_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of a host, without a zone; an IPv4 address that is mapped into IPv6 is itself."""
    host = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped:
        return host.ipv4_mapped
    return host


@functools.lru_cache(maxsize=RECENT_ADDRESSES)
def source_of(address: str) -> str:
    """The network that counts as one source: an IPv4 address, or the /64 of an IPv6 address."""
    host = _host_of(address)
    if isinstance(host, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((host, IPV6_PREFIX), strict=False))
    return str(host)


class TrustedSources:
    """The addresses that are exempt from per-address limits.

    Args:
        networks: all of them.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        host = _host_of(address)
        return any(host in network for network in self._networks)


class ClaimLimit:
    """How many names one source may claim in a day.  Loopback is exempt: that is the operator.

    Args:
        per_day: claims allowed within any 24 hours.
    """

    def __init__(self, per_day: int) -> None:
        self._per_day = per_day
        self._claims: OrderedDict[str, list[float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Whether one more claim is allowed at ``now`` (seconds on any steady clock)."""
        if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            return True
        return self.count(source_of(address), now) < self._per_day

    def count(self, source: str, now: float) -> int:
        """How many claims of a source count."""
        return len(self._recent(source, now))

    def record(self, address: str, now: float) -> None:
        """Count a claim."""
        source = source_of(address)
        self._claims[source] = [*self._recent(source, now), now]
        self._claims.move_to_end(source)
        if len(self._claims) > MAX_SOURCES:
            self._claims.popitem(last=False)

    def give_back(self, address: str) -> None:
        """Forget the last claim: nothing came of it."""
        claims = self._claims.get(source_of(address))
        if claims:
            claims.pop()

    def _recent(self, source: str, now: float) -> list[float]:
        return [then for then in self._claims.get(source, ()) if now - then < SECONDS_PER_DAY]


class Claims(Protocol):
    """Who may claim one more name, wherever that is counted."""

    async def allows(self, address: str) -> bool:
        """Whether one more claim is allowed now."""

    async def take(self, address: str) -> bool:
        """Count a claim, or return False if it is one too many."""

    def give_back(self, address: str) -> None:
        """Nothing came of it."""


class OwnClaims:
    """The claims that this process counts itself.

    Args:
        limit: the counts.
        clock: seconds, steady.
    """

    def __init__(self, limit: ClaimLimit, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock

    async def allows(self, address: str) -> bool:
        """Whether one more claim is allowed now."""
        return self._limit.allows(address, self._clock())

    async def take(self, address: str) -> bool:
        """Count a claim, or return False if it is one too many."""
        now = self._clock()
        allowed = self._limit.allows(address, now)
        if allowed:
            self._limit.record(address, now)
        return allowed

    def give_back(self, address: str) -> None:
        """Nothing came of it."""
        self._limit.give_back(address)
