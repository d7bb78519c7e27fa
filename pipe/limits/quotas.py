"""How much of the server each user and each address uses, and may use.

Counts and rates without a clock of their own, for every front.  Rules:

- Counts cover what exists now: nothing is remembered about a holder that has nothing.
- A call takes something for all its holders or for none.
- A rate never loses a byte: it says how long to wait.  All sessions of a user share one bucket.  A
  bucket that is not full outlives them, so that leaving and coming back gains nothing.
"""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.language.names import TopicName
    from pipe.limits.bounds import Limits

BURST_SECONDS = 1.0
"""A bucket holds what the rate allows in this time, so short messages need not wait."""

REFILL_SECONDS = 0.1
"""A session that has to wait waits until the bucket holds this much again, for a dozen timers per
second at most and not one for each packet."""


class Resource(enum.Enum):
    """What is counted; the value also labels refusals in the metrics."""

    CONNECTIONS = "connections"
    SESSIONS = "sessions"
    TOPICS = "topics"
    PATTERNS = "patterns"


class Scope(enum.Enum):
    """Who is counted; the value completes "too many … "."""

    USER = "of this user"
    ADDRESS = "from this address"


class Holder(NamedTuple):
    """One user, or one address as `pipe.limits.sources.source_of` writes it."""

    scope: Scope
    name: str


class Quotas:
    """The counts of all holders.

    Args:
        limits: the most that one holder of a scope may have of a resource; no limit if 0 or
            missing.
    """

    def __init__(self, limits: Mapping[tuple[Resource, Scope], int]) -> None:
        self._limits = dict(limits)
        self._held: Counter[tuple[Resource, Holder]] = Counter()
        self._openers: dict[TopicName, tuple[Holder, ...]] = {}

    def take(self, resource: Resource, *holders: Holder) -> None:
        """Count one more for all these holders, until `give_back`.

        Raises:
            QuotaExceeded: one of them has as many as it may; nothing was counted.
        """
        for holder in holders:
            limit = self.limit(resource, holder.scope)
            if limit and self.held(resource, holder) >= limit:
                raise QuotaExceeded(
                    f"too many {resource.value} {holder.scope.value}: at most {limit} at once",
                    resource.value,
                )
        self.take_over(resource, *holders)

    def take_over(self, resource: Resource, *holders: Holder) -> None:
        """Count what another process has counted, and does so no longer, whatever the limit."""
        for holder in holders:
            self._held[resource, holder] += 1

    def give_back(self, resource: Resource, *holders: Holder) -> None:
        """Count one less."""
        for holder in holders:
            self._held[resource, holder] -= 1
            if self._held[resource, holder] <= 0:
                del self._held[resource, holder]

    def open_topic(self, name: TopicName, *holders: Holder) -> None:
        """Count a new topic, until `close_topic`.

        Raises:
            QuotaExceeded: one of the holders has opened as many as it may.
        """
        self.take(Resource.TOPICS, *holders)
        self._openers[name] = holders

    def close_topic(self, name: TopicName) -> None:
        """Stop counting a topic that no longer exists."""
        self.give_back(Resource.TOPICS, *self._openers.pop(name, ()))

    def limit(self, resource: Resource, scope: Scope) -> int:
        """The most that one holder may have; 0 for no limit."""
        return self._limits.get((resource, scope), 0)

    def held(self, resource: Resource, holder: Holder) -> int:
        """How many a holder has."""
        return self._held.get((resource, holder), 0)


def most_of(limits: Limits) -> dict[tuple[Resource, Scope], int]:
    """The quotas that an operator has set."""
    return {
        (Resource.CONNECTIONS, Scope.USER): limits.max_connections_per_user,
        (Resource.CONNECTIONS, Scope.ADDRESS): limits.max_connections_per_address,
        (Resource.SESSIONS, Scope.USER): limits.max_sessions_per_user,
        (Resource.SESSIONS, Scope.ADDRESS): limits.max_sessions_per_address,
        (Resource.TOPICS, Scope.USER): limits.max_topics_per_user,
        (Resource.TOPICS, Scope.ADDRESS): limits.max_topics_per_address,
        (Resource.PATTERNS, Scope.USER): limits.max_patterns_per_user,
    }


class Bucket:
    """A token bucket for one user's bytes.  The last chunk published may put it into debt.

    Args:
        rate: bytes per second.
        now: seconds, on any steady clock, as in all its calls.
    """

    __slots__ = ("_at", "_rate", "_tokens", "users")

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._tokens = rate * BURST_SECONDS
        self._at = now
        self.users = 0

    def take(self, size: int, now: float) -> float:
        """Count published bytes, and return the seconds to wait before publishing more."""
        self._refill(now)
        self._tokens -= size
        return self._wait()

    def share(self, rate: int, now: float) -> None:
        """Have another rate from now on."""
        self._refill(now)
        self._rate = rate

    def is_full(self, now: float) -> bool:
        """Whether it is full, so that it need not be kept."""
        self._refill(now)
        return self._tokens >= self._rate * BURST_SECONDS

    def wait(self, now: float) -> float:
        """The seconds to wait before publishing more; 0.0 for none."""
        self._refill(now)
        return self._wait()

    def _wait(self) -> float:
        if self._tokens > 0:
            return 0.0
        return REFILL_SECONDS - self._tokens / self._rate

    def _refill(self, now: float) -> None:
        full = self._rate * BURST_SECONDS
        self._tokens = min(full, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now


class Rates:
    """The buckets of all users.

    Args:
        rate: bytes per second for each user; 0 for no limit.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._used: dict[str, Bucket] = {}
        self._left: OrderedDict[str, Bucket] = OrderedDict()  # not full when their users left

    def join(self, user: str, now: float) -> Bucket | None:
        """Get the bucket of a user who starts to publish, until `leave`; None without a limit."""
        if not self._rate:
            return None
        self._forget_full(now)
        bucket = self._used.get(user) or self._left.pop(user, None) or Bucket(self._rate, now)
        self._used[user] = bucket
        bucket.users += 1
        return bucket

    def leave(self, user: str, now: float) -> None:
        """Note that one of a user's publishers has left."""
        bucket = self._used.get(user)
        if bucket is None:
            return
        bucket.users -= 1
        if not bucket.users:
            del self._used[user]
            if not bucket.is_full(now):
                self._left[user] = bucket
        self._forget_full(now)

    def _forget_full(self, now: float) -> None:
        """Drop the oldest full buckets; those behind one in debt wait for it."""
        while self._left and next(iter(self._left.values())).is_full(now):
            self._left.popitem(last=False)

    def __len__(self) -> int:
        return len(self._used) + len(self._left)
