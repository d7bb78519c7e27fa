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
    """A topic's home, and how many joins have been sent there, this one included.

    ``crowded`` says that it has about all that a core can do, and whoever asked has less: a reader
    stays there, so that what its client gets is not encrypted at the home.
    """

    worker: WorkerId
    joins: int
    crowded: bool = False


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

    def arrived(self, topic: TopicName, asker: WorkerId) -> None:
        """A join has come here, where the topic is at home, whatever becomes of it.

        Args:
            topic: which.
            asker: the worker whose `enter` sent it; this one for a client of its own.
        """

    def withdraw(self, topic: TopicName, home: WorkerId) -> None:
        """A join that `enter` has counted is not sent after all; never if it may have been."""

    def watch(self, topic: TopicName, watched: bool) -> None:
        """Something here needs all that happens on a topic, or no longer: have it at home here.

        One that is at home elsewhere stays there until it is gone.
        """

    def closed(self, topic: TopicName) -> None:
        """A topic that was at home here is gone, or was not opened by the join that came.

        It keeps its home if joins are on their way that have not `arrived`.
        """
