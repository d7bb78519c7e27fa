"""Where topics live."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pipe.language.names import TopicName


class WorkerId(NamedTuple):
    """One worker process of the service.

    ``node`` names its machine, and is empty if there is only one.  ``number`` counts the workers of
    a machine from 1.  ``epoch`` is never used again: a worker that is started anew gets another.
    """

    node: str
    number: int
    epoch: int

    def __str__(self) -> str:
        return f"{self.node}/{self.number}" if self.node else str(self.number)


class Home(NamedTuple):
    """A topic's home, and how many joins have been sent there, this one included."""

    worker: WorkerId
    joins: int


class Directory(Protocol):
    """Knows each topic's home; there is never more than one."""

    async def enter(self, topic: TopicName) -> Home:
        """Find where a session has to go that joins a topic, which gets a home if it has none.

        Raises:
            PipeError: it cannot be known now; the message says why.
        """

    async def find(self, topic: TopicName) -> WorkerId | None:
        """Return a topic's home, or None if it has none, for commands that only look.

        Raises:
            PipeError: it cannot be known now.
        """

    def closed(self, topic: TopicName, joins: int) -> None:
        """A topic that was at home here is gone.

        Args:
            topic: which.
            joins: how many joins have arrived here since this was last called for the topic.  If
                more were sent it keeps its home, with those that are still on their way.
        """
