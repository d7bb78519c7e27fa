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
        watched: called when somebody begins to watch a topic that nobody did, and when nobody does.
    """

    def __init__(self) -> None:
        self._topics: dict[TopicName, Topic] = {}
        self._members: dict[Member, None] = {}
        self._watchers: dict[TopicName, dict[Watcher, None]] = {}
        self._tally = Tally()
        self.watched: Callable[[TopicName, bool], None] = lambda _name, _watched: None

    def watch(self, name: TopicName, watcher: Watcher) -> None:
        """Tell a watcher, from now on, what is published on a topic whenever it exists."""
        watchers = self._watchers.setdefault(name, {})
        if not watchers:
            self.watched(name, True)
        watchers[watcher] = None
        if name in self._topics:
            self._topics[name].watchers = watchers

    def unwatch(self, name: TopicName, watcher: Watcher) -> None:
        """End that; do nothing if it does not watch."""
        watchers = self._watchers.get(name, {})
        watchers.pop(watcher, None)
        if not watchers and self._watchers.pop(name, None) is not None:
            self.watched(name, False)

    @property
    def watched_names(self) -> tuple[TopicName, ...]:
        """The topics that somebody watches, whether they exist or not."""
        return tuple(self._watchers)

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
