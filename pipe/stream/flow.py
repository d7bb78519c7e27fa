"""Who may publish now, and who is told that others wait: rules 3 and 4 of the router."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from pipe.stream.index import Index

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from pipe.stream.topics import Member, Topic


class Flow(Index, ABC):
    """This part of the router; the abstract method is the router's own."""

    held: bool
    _changed: dict[Topic, None]
    _due: deque[tuple[Callable[[Any], None], Member | Topic]]

    @abstractmethod
    def end(self, member: Member) -> None:
        """Take a publisher's end of file."""

    def _review_flow(self, topic: Topic) -> None:
        """Stop publishers that must stop now, and schedule a look at the others."""
        if self.held or topic.clogged:
            for publisher in list(topic.running):
                topic.stop_if_due(publisher, held=self.held)
        elif not topic.listening and topic.blocking:
            topic.recount = True
            for publisher in list(topic.blocking):
                topic.stop_if_due(publisher, held=self.held)
        hurry = topic.judge_hurry()
        if hurry != topic.hurry:
            topic.hurry = hurry
            topic.untold = topic.clogged.copy()
        if not topic.attended:
            topic.attended = True
            self._due.append((self._attend, topic))

    def _attend(self, topic: Topic) -> None:
        """Settle one publisher, resume one, or tell one reader whether others wait for it."""
        if publisher := topic.next_unsettled():
            self._settle_publisher(publisher, topic)
        elif publisher := topic.next_to_go_on(held=self.held):
            self._let_go_on(publisher, topic)
        elif topic.untold:
            reader = next(iter(topic.untold))
            del topic.untold[reader]
            topic.tell(reader)
        else:
            topic.attended = False
            return
        self._due.append((self._attend, topic))

    def _settle_publisher(self, member: Member, topic: Topic) -> None:
        if member.group is None or member.source is None:
            return
        if not member.started and topic.missing(member) <= 0:
            topic.start(member)
        missing = max(0, topic.missing(member))
        if missing != member.waiting:
            member.waiting = missing
            member.source.waits(missing)
        if member.started and member.end_held:
            self.end(member)
        if member.group is not None and member.paused:
            topic.stop(member)
            self._changed[topic] = None

    def _let_go_on(self, member: Member, topic: Topic) -> None:
        if not topic.stop_if_due(member, held=self.held):  # its last reader may just have left
            topic.let_go_on(member)
        self._changed[topic] = None
