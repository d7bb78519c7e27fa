"""Quotas and rates of one of several processes, which knows what the others have.

It tells each change of its own counts, by a key, and is told the sums of the others'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.limits.quotas import Holder, Quotas, Rates, Resource, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.limits.quotas import Bucket

RATE = "rate"
"""Begins the key of a user who publishes; the count is 1 in each process where that is so."""


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
        """Take what all other processes count."""
        resource, scope, name = key.split("/", 2)  # an address may have one more
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
