"""Who asks for access to what, in the tests of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.language.names import TopicName
from pipe.rights.callers import Caller
from pipe.rights.grants import Grant, Operation

if TYPE_CHECKING:
    from pipe.rights.access import Access, Loss, Pass

NOW = 1_000.0
READ, WRITE, BOTH = Operation.READ, Operation.WRITE, Operation.BOTH

BUILD = TopicName("alice", ("build",))
CLUB = TopicName("public", ("club",))

ALICE = Caller("alice", "SHA256:" + "a" * 43)
BOB = Caller("bob", "SHA256:" + "b" * 43)
CAROL = Caller("carol", "SHA256:" + "c" * 43)
BOSS = Caller("boss", "SHA256:" + "d" * 43, admin=True)


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """The time now."""
        return self.now


class Visit:
    """Somebody on a topic, and how that ended."""

    def __init__(
        self,
        access: Access,
        caller: Caller,
        topic: TopicName,
        operation: Operation = BOTH,
        grantees: tuple[str, ...] | None = None,
        *,
        exists: bool = True,
    ) -> None:
        self.losses: list[Loss] = []
        self.held: Pass = access.enter(
            caller, topic, operation, grantees, exists=exists, lost=self.losses.append
        )


def grant(
    who: str,
    operation: Operation = BOTH,
    until: float | None = None,
    topic: TopicName = BUILD,
) -> Grant:
    """A grant by alice."""
    return Grant(topic, who, operation, until, "alice", NOW)
