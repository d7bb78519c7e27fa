"""Who may read and write which topic.

The rules, in the order in which they decide:

1. The owner may do everything in the own space.
2. ``public/`` is open to every user.  The member that creates a public topic may restrict it to a
   list;
   the list holds until the topic is empty again, and nobody who joins can set or widen it.
3. In another user's space one needs to be on a list (``-a``) that a live session of the owner
   brought.

Everything else is denied, and denied in the same words whether the topic exists or not.  A grantee
is a user's name or the fingerprint of a key.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.errors import AccessDenied
from pipe.names import PUBLIC

if TYPE_CHECKING:
    from pipe.names import TopicName


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has logged in: the user's name and the key that proved it."""

    user: str
    fingerprint: str


class Rule(enum.Enum):
    """What decided; the value says it to the caller."""

    OWNER = "it is in your own space"
    PUBLIC = "public topics are open to every user"
    CREATOR_LIST = "you are on the list of the member that created it"
    OWNER_LIST = "a session of its owner shares it with you"
    NOT_LISTED = "the member that created it did not put you on its list"
    PRIVATE = "its owner does not share it with you"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller may use a topic, and by which rule."""

    allowed: bool
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """One session's ``-a`` list on a topic of its own; it holds until it is released."""

    topic: TopicName
    grantees: frozenset[str]


class Access:
    """All lists that are in force; the only judge of a topic.

    Everything happens between two turns of the event loop, so a topic's creation and its list are
    one step.
    """

    def __init__(self) -> None:
        self._creator_lists: dict[TopicName, frozenset[str]] = {}
        self._shares: dict[TopicName, dict[Share, None]] = {}

    def decide(self, caller: Caller, topic: TopicName) -> Decision:
        """Judge without changing anything."""
        if topic.owner == caller.user:
            return Decision(allowed=True, rule=Rule.OWNER)
        if topic.owner == PUBLIC:
            grantees = self._creator_lists.get(topic)
            if grantees is None:
                return Decision(allowed=True, rule=Rule.PUBLIC)
            if _listed(caller, grantees):
                return Decision(allowed=True, rule=Rule.CREATOR_LIST)
            return Decision(allowed=False, rule=Rule.NOT_LISTED)
        if any(_listed(caller, share.grantees) for share in self._shares.get(topic, ())):
            return Decision(allowed=True, rule=Rule.OWNER_LIST)
        return Decision(allowed=False, rule=Rule.PRIVATE)

    def enter(
        self, caller: Caller, topic: TopicName, grantees: tuple[str, ...] | None, *, exists: bool
    ) -> Share | None:
        """Let a caller onto a topic, with the list that it brings; call it right before joining.

        Args:
            caller: who comes.
            topic: where to.
            grantees: the ``-a`` list; None where none was given.
            exists: whether anybody is on the topic now.

        Returns:
            The share to `release` when the session ends, where the list opens a topic of the
            caller's own.

        Raises:
            AccessDenied: the caller may not use the topic, or may not bring a list to it.
        """
        if not self.decide(caller, topic).allowed:
            raise AccessDenied(f"access denied: {topic} is not shared with you")
        if grantees is None:
            return None
        if topic.owner == caller.user:
            share = Share(topic, frozenset(grantees))
            self._shares.setdefault(topic, {})[share] = None
            return share
        wanted = frozenset((*grantees, caller.user))
        if topic.owner != PUBLIC:
            raise AccessDenied(
                f"access denied: only {topic.owner} can share {topic}; leave out --access"
            )
        if not exists:
            self._creator_lists[topic] = wanted
        elif self._creator_lists.get(topic) != wanted:
            raise AccessDenied(
                f"access denied: {topic} exists already, and only the member that creates a public "
                "topic can restrict it; leave out --access, or choose another name"
            )
        return None

    def release(self, share: Share) -> None:
        """A session that shared a topic has ended."""
        shares = self._shares.get(share.topic, {})
        shares.pop(share, None)
        if not shares:
            self._shares.pop(share.topic, None)

    def forget(self, topic: TopicName) -> None:
        """The last member has left: a public topic's list ends with it."""
        self._creator_lists.pop(topic, None)


def _listed(caller: Caller, grantees: frozenset[str]) -> bool:
    return caller.user in grantees or caller.fingerprint in grantees
