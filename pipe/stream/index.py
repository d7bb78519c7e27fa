"""The topics and members that there are: what one may ask the router, or watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.stream.statistics import Tally, statistics_of
from pipe.stream.topics import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.stream.ports import Watcher
    from pipe.stream.statistics import Statistics, TopicStatistics
    from pipe.stream.topics import Member, Topic


class Index:
    """All topics and members of one server; `pipe.stream.router.Router` fills it.

    Attributes:
        watched: called with a topic whenever its watchers change, and whether there are any.
    """

    def __init__(self) -> None:
        self._topics: dict[TopicName, Topic] = {}
        self._members: dict[Member, None] = {}
        self._watchers: dict[TopicName, dict[Watcher, bool]] = {}  # with whether it is here
        self._tally = Tally()
        self.watched: Callable[[TopicName, bool], None] = lambda _name, _watched: None

    def watch(self, name: TopicName, watcher: Watcher, *, here: bool = True) -> None:
        """Tell a watcher, from now on, what is published on a topic whenever it exists.

        One that is not ``here`` stands for those of another server, and does not count as one.
        """
        watchers = self._watchers.setdefault(name, {})
        watchers[watcher] = here
        if name in self._topics:
            self._topics[name].watchers = watchers
        if here:
            self.watched(name, True)

    def unwatch(self, name: TopicName, watcher: Watcher) -> None:
        """End that; do nothing if it does not watch."""
        watchers = self._watchers.get(name, {})
        here = watchers.pop(watcher, False)
        if not watchers:
            self._watchers.pop(name, None)
        if here:
            self.watched(name, any(watchers.values()))

    def watchers(self, name: TopicName) -> tuple[Watcher, ...]:
        """Who watches a topic here, whether it exists or not."""
        watchers = self._watchers.get(name, {})
        return tuple(watcher for watcher, here in watchers.items() if here)

    @property
    def watched_names(self) -> tuple[TopicName, ...]:
        """The topics that somebody watches here, whether they exist or not."""
        return tuple(name for name, watchers in self._watchers.items() if any(watchers.values()))

    def members(self, name: TopicName) -> tuple[Member, ...]:
        """All members on a topic, patterns included; none if it does not exist."""
        topic = self._topics.get(name)
        return topic.everybody if topic else ()

    def __contains__(self, name: TopicName) -> bool:
        return name in self._topics

    def has_publishers(self, name: TopicName) -> bool:
        """Whether somebody writes to a topic, or waits to."""
        topic = self._topics.get(name)
        return bool(topic and topic.publishers)

    def begun(self, name: TopicName) -> Begun:
        """How far the streams on a topic are; the topic need not exist."""
        topic = self._topics.get(name)
        return topic.begun if topic else Begun()

    def names(self) -> tuple[TopicName, ...]:
        """The names of all topics, oldest first."""
        return tuple(self._topics)

    def topic(self, name: TopicName) -> TopicStatistics | None:
        """The figures of one topic, if it exists."""
        return statistics_of(self._topics[name]) if name in self._topics else None

    def statistics(self) -> Statistics:
        """The figures of all topics; the cost grows with the number of members."""
        return self._tally.statistics(len(self._topics), self._members)
