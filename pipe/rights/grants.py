"""Lasting grants in memory: who was given what, by whom, until when.

`pipe.store` keeps them for good, and `pipe.rights.access` decides by them.  Grants can be looked up
by topic, by owner and by grantee, and the earliest end is known without a search.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipe.language.names import TopicName

_STALE_ENDS = 64
"""The queue of ends is rebuilt once it has this many entries beyond twice the number of grants."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Operation(enum.Flag):
    """What a caller does on a topic."""

    NONE = 0
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE

    def __str__(self) -> str:
        return " and ".join(str(one.name).lower() for one in self) or "nothing"


@dataclass(frozen=True, slots=True)
class Grant:
    """A lasting right to a topic; ``until`` and ``created`` are seconds since 1970."""

    topic: TopicName
    grantee: str
    operation: Operation
    until: float | None
    granted_by: str
    created: float

    def holds(self, now: float) -> bool:
        """Whether it has not ended yet."""
        return self.until is None or self.until > now


class GrantBook:
    """All lasting grants; at most one for each topic and grantee."""

    def __init__(self) -> None:
        self._on: dict[TopicName, dict[str, Grant]] = {}
        self._by: dict[str, dict[TopicName, None]] = {}
        self._to: dict[str, dict[TopicName, Grant]] = {}
        self._count = 0
        self._ends: list[tuple[float, TopicName]] = []

    def on(self, topic: TopicName) -> Mapping[str, Grant]:
        """The grants of one topic, by grantee."""
        return self._on.get(topic, {})

    def by(self, owner: str) -> list[Grant]:
        """The grants in one user's space, sorted by name."""
        return [
            grant
            for topic in sorted(self._by.get(owner, ()))
            for _, grant in sorted(self._on[topic].items())
        ]

    def to(self, grantee: str) -> list[Grant]:
        """The grants that one grantee has, sorted by topic."""
        return [grant for _, grant in sorted(self._to.get(grantee, {}).items())]

    def topics(self) -> list[TopicName]:
        """All topics that have grants."""
        return list(self._on)

    def replace(self, topic: TopicName, grants: Iterable[Grant]) -> bool:
        """Set all grants of one topic.

        Returns:
            Whether anything changed.
        """
        wanted = {grant.grantee: grant for grant in grants}
        before = self._on.pop(topic, {})
        for grantee in before:
            _discard(self._to, grantee, topic)
        if before:
            _discard(self._by, topic.owner, topic)
        self._count += len(wanted) - len(before)
        if wanted:
            self._on[topic] = wanted
            self._by.setdefault(topic.owner, {})[topic] = None
        for grantee, grant in wanted.items():
            self._to.setdefault(grantee, {})[topic] = grant
            if grant.until is not None and before.get(grantee) != grant:
                heapq.heappush(self._ends, (grant.until, topic))
        if len(self._ends) > 2 * self._count + _STALE_ENDS:
            self._forget_stale_ends()
        return wanted != before

    def forget(self, grantee: str) -> list[TopicName]:
        """Remove all that a user has given, and all that a user or key was given.

        Returns:
            The topics that lost a grant.
        """
        topics = list(dict.fromkeys((*self._by.get(grantee, ()), *self._to.get(grantee, ()))))
        for topic in topics:
            grants = () if topic.owner == grantee else self._on[topic].values()
            self.replace(topic, [grant for grant in grants if grant.grantee != grantee])
        return topics

    def expire(self, now: float) -> list[TopicName]:
        """Remove grants that have ended.

        Returns:
            The topics that lost a grant.
        """
        topics = []
        while self._ends and self._ends[0][0] <= now:
            _, topic = heapq.heappop(self._ends)
            if self.replace(topic, [one for one in self.on(topic).values() if one.holds(now)]):
                topics.append(topic)
        return topics

    @property
    def next_end(self) -> float | None:
        """When to call `expire`; it may find nothing to do then."""
        return self._ends[0][0] if self._ends else None

    def _forget_stale_ends(self) -> None:
        self._ends = [
            (grant.until, topic)
            for topic, grants in self._on.items()
            for grant in grants.values()
            if grant.until is not None
        ]
        heapq.heapify(self._ends)


def _discard(index: dict[_Key, dict[TopicName, _Value]], key: _Key, topic: TopicName) -> None:
    del index[key][topic]
    if not index[key]:
        del index[key]
