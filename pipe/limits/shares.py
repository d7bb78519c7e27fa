"""What one of several processes counts, and knows of the others.

It tells each change of its own counts, by a key, and is told the sums of the others'.  Penalties
are no sums: it tells each offence.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pipe.limits.penalties import Penalties
from pipe.limits.quotas import Holder, Quotas, Rates, Resource, Scope
from pipe.limits.sources import SECONDS_PER_DAY, ClaimLimit, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.limits.penalties import Offence
    from pipe.limits.quotas import Bucket

RATE = "rate"
"""Begins the key of a user who publishes; the count is 1 in each process where that is so."""

CLAIMS = "claims"
"""Begins the key of a source that has claimed names; the count is how many within a day."""

_RESOURCES = frozenset(resource.value for resource in Resource)


def key_of(resource: Resource, holder: Holder) -> str:
    """Write what is counted as a key."""
    return f"{resource.value}/{holder.scope.name}/{holder.name}"


class SharedQuotas(Quotas):
    """The counts of this process, with those of the others.

    Args:
        limits: as for `Quotas`.
        changed: is told each change of a count of this process.
    """

    def __init__(
        self,
        limits: Mapping[tuple[Resource, Scope], int],
        changed: Callable[[str, int], None],
    ) -> None:
        super().__init__(limits)
        self._changed = changed
        self._others: dict[tuple[Resource, Holder], int] = {}

    def take_over(self, resource: Resource, *holders: Holder) -> None:
        """Count one more for all these holders."""
        super().take_over(resource, *holders)
        self._tell(resource, holders)

    def give_back(self, resource: Resource, *holders: Holder) -> None:
        """Count one less."""
        super().give_back(resource, *holders)
        self._tell(resource, holders)

    def held(self, resource: Resource, holder: Holder) -> int:
        """How many a holder has, here and elsewhere."""
        return super().held(resource, holder) + self._others.get((resource, holder), 0)

    def tell_others(self, key: str, count: int) -> None:
        """Take what all other processes count; keys of something else are left alone."""
        resource, _, holder = key.partition("/")
        if resource not in _RESOURCES:
            return
        scope, _, name = holder.partition("/")  # an address may have one more
        place = Resource(resource), Holder(Scope[scope], name)
        if count:
            self._others[place] = count
        else:
            self._others.pop(place, None)

    def _tell(self, resource: Resource, holders: tuple[Holder, ...]) -> None:
        for holder in holders:
            self._changed(key_of(resource, holder), super().held(resource, holder))


class SharedRates(Rates):
    """The buckets of this process: a user's rate is divided among those where the user publishes.

    Until the others have heard of it, a user has the share here and theirs: one burst more.

    Args:
        rate: bytes per second for each user; 0 for no limit.
        changed: is told when a user begins and ceases to publish here.
    """

    def __init__(self, rate: int, changed: Callable[[str, int], None]) -> None:
        super().__init__(rate)
        self._changed = changed
        self._others: dict[str, int] = {}

    def join(self, user: str, now: float) -> Bucket | None:
        """Get the bucket of a user who starts to publish, until `leave`; None without a limit."""
        bucket = super().join(user, now)
        if bucket and bucket.users == 1:
            bucket.share(self._share(user), now)
            self._changed(f"{RATE}/{user}", 1)
        return bucket

    def leave(self, user: str, now: float) -> None:
        """Note that one of a user's publishers has left."""
        before = user in self._used
        super().leave(user, now)
        if before and user not in self._used:
            self._changed(f"{RATE}/{user}", 0)

    def tell_others(self, key: str, count: int, now: float) -> None:
        """Take in how many other processes a user publishes."""
        user = key.removeprefix(f"{RATE}/")
        if count:
            self._others[user] = count
        else:
            self._others.pop(user, None)
        bucket = self._used.get(user)
        if bucket:
            bucket.share(self._share(user), now)

    def _share(self, user: str) -> int:
        return max(1, self._rate // (1 + self._others.get(user, 0)))


class SharedClaims(ClaimLimit):
    """The claims that were made here, with how many were made elsewhere.

    Args:
        per_day: claims allowed within any 24 hours.
        changed: is told each change of a count of this process.
    """

    def __init__(self, per_day: int, changed: Callable[[str, int], None]) -> None:
        super().__init__(per_day)
        self._changed = changed
        self._others: dict[str, int] = {}
        self._made: deque[tuple[float, str]] = deque()  # those that are not forgotten

    def count(self, source: str, now: float) -> int:
        """How many claims of a source count, here and elsewhere."""
        return super().count(source, now) + self._others.get(source, 0)

    def record(self, address: str, now: float) -> None:
        """Count a claim."""
        self.forget_old(now)
        super().record(address, now)
        source = source_of(address)
        self._made.append((now, source))
        self._tell(source)

    def give_back(self, address: str) -> None:
        """Forget the last claim: nothing came of it."""
        super().give_back(address)
        self._tell(source_of(address))

    def forget_old(self, now: float) -> None:
        """Tell of what counts no longer, as it was made a day ago."""
        while self._made and now - self._made[0][0] >= SECONDS_PER_DAY:
            _, source = self._made.popleft()
            if source in self._claims:
                self._claims[source] = self._recent(source, now)
            self._tell(source)

    def tell_others(self, key: str, count: int) -> None:
        """Take how many claims others count; keys of something else are left alone."""
        kind, _, source = key.partition("/")
        if kind != CLAIMS:
            return
        if count:
            self._others[source] = count
        else:
            self._others.pop(source, None)

    def _tell(self, source: str) -> None:
        self._changed(f"{CLAIMS}/{source}", len(self._claims.get(source, ())))


class SharedPenalties(Penalties):
    """The penalties that this process knows.

    Args:
        costs: what each offence costs, in seconds.
        least: the sum from which a source is refused.
        most: the largest sum.
        charged: is told each offence of this process.
    """

    def __init__(
        self,
        costs: Mapping[Offence, float],
        least: float,
        most: float,
        charged: Callable[[str, Offence], None],
    ) -> None:
        super().__init__(costs, least, most)
        self._charged = charged

    def add(self, source: str, offence: Offence, now: float) -> None:
        """Charge a source with an offence."""
        super().add(source, offence, now)
        self._charged(source, offence)

    def hear_of(self, source: str, offence: Offence, now: float) -> None:
        """Charge a source with what it has done elsewhere."""
        super().add(source, offence, now)
