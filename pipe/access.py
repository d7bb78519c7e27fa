"""Who may read and write which topic: the only judge, and the memory of all that it judges by.

The rules, in the order in which they decide:

1. The owner may do everything in the own space.
2. ``public/`` is open to every user.  The member that creates a public topic may restrict it to a
   list (``-a``); the list holds until the topic is empty again, and nobody who joins can set or
   widen it.
3. In another user's space one needs a grant.  A lasting one is for reading, writing or both, may
   have an end, and is kept by `pipe.store`; a list that a live session of the owner brought
   (``-a``) grants both for as long as that session lives.
4. An admin may do everything everywhere.

Everything else is denied, and denied in the same words whether the topic exists or not.  A grantee
is a user's name, a key's fingerprint or `pipe.names.EVERYONE`.

What is allowed stays so only while the rule holds.  Who is on a topic has a `Pass`; at each change
of a topic's rules all its passes are judged again, and those that fail are handed out, together,
to whoever ends their sessions.  Nothing is remembered of a judgement.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from pipe.errors import AccessDenied, UsageError
from pipe.names import EVERYONE, PUBLIC, TopicName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from pipe.names import Pattern

_logins = itertools.count(1)

_STALE_ENDS = 64
"""Ends of grants that are no more and may still stand in the queue, beside as many as there are
grants: beyond that it is made anew."""


class Operation(enum.Flag):
    """What somebody does on a topic."""

    NONE = 0
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE

    def __str__(self) -> str:
        return " and ".join(str(one.name).lower() for one in self) or "nothing"


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has logged in: the user's name, and the key that proved it.

    ``login`` numbers the logins in their order, so that one can tell which came before the removal
    of a key.
    """

    user: str
    fingerprint: str
    admin: bool = False
    login: int = field(default_factory=_logins.__next__, compare=False)


class Rule(enum.Enum):
    """What decided; the value says it to the caller."""

    OWNER = "it is in your own space"
    PUBLIC = "public topics are open to every user"
    CREATOR_LIST = "you are on the list of the member that created it"
    USER_GRANT = "it was granted to you"
    KEY_GRANT = "it was granted to your key"
    EVERYONE_GRANT = "it was granted to everyone with an account"
    OWNER_LIST = "a session of its owner shares it with you"
    ADMIN = "you are an admin"
    NOT_LISTED = "the member that created it did not put you on its list"
    PRIVATE = "its owner does not share it with you"


class Loss(enum.Enum):
    """Why a right has ended; the value completes "access to … has ended: "."""

    REVOKED = "its owner revoked it"
    EXPIRED = "the time that it was granted for is over"
    UNSHARED = "the session that shared it has ended"
    REMOVED = "the account or key that it was granted to was removed"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a caller may do one thing, by which rule, and until when (seconds since 1970)."""

    allowed: bool
    rule: Rule
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A lasting right to a topic; ``until`` and ``created`` are seconds since 1970."""

    topic: TopicName
    grantee: str
    operation: Operation
    until: float | None
    granted_by: str
    created: float


class Pass:
    """One session's place on one topic, until it is released.

    Args:
        caller: whose it is.
        topic: where.
        needs: what it does there; the session narrows it when it does less.
        grantees: with whom it shares a topic of its own.
        lost: called when the right to ``needs`` has ended: the session must end.
    """

    __slots__ = ("caller", "grantees", "lost", "needs", "topic")

    def __init__(
        self,
        caller: Caller,
        topic: TopicName,
        needs: Operation,
        grantees: frozenset[str],
        lost: Callable[[Loss], None],
    ) -> None:
        self.caller = caller
        self.topic = topic
        self.needs = needs
        self.grantees = grantees
        self.lost = lost


def _end_sessions(_topics: Collection[TopicName], lost: Iterable[Pass], loss: Loss) -> None:
    for one in lost:
        one.lost(loss)


class Access:
    """All rules that are in force.

    Everything happens between two turns of the event loop, so a topic's creation and its list are
    one step, and so are a change and what it takes away.

    Args:
        clock: seconds since 1970; a grant that has ended decides nothing, noticed or not.
        changed: told after each change which topics' rules have changed, and which passes no
            longer hold for what their sessions do.  The default ends those sessions.
    """

    def __init__(
        self,
        clock: Callable[[], float] = lambda: 0.0,
        changed: Callable[[Collection[TopicName], list[Pass], Loss], None] = _end_sessions,
    ) -> None:
        self._clock = clock
        self._changed = changed
        self._creator_lists: dict[TopicName, frozenset[str]] = {}
        self._passes: dict[TopicName, dict[Pass, None]] = {}
        self._grants: dict[TopicName, dict[str, Grant]] = {}
        self._received: dict[str, dict[TopicName, Grant]] = {}
        self._given: dict[str, dict[TopicName, None]] = {}
        self._count = 0
        self._ends: list[tuple[float, TopicName]] = []
        self._barred: dict[tuple[str, str], int] = {}

    # -- judging ----------------------------------------------------------------------------------

    def decide(
        self, caller: Caller, topic: TopicName, operation: Operation = Operation.READ
    ) -> Decision:
        """Judge without changing anything; of several operations the first that is denied counts.

        The decision's end is the earliest of theirs.
        """
        decisions = [self._judge(caller, topic, one) for one in operation]
        for decision in decisions:
            if not decision.allowed:
                return decision
        ends = [decision.until for decision in decisions if decision.until is not None]
        return Decision(allowed=True, rule=decisions[0].rule, until=min(ends, default=None))

    def sees(self, caller: Caller, topic: TopicName) -> bool:
        """Whether a caller may know of a topic: whether it may read or write it."""
        return any(self.decide(caller, topic, one).allowed for one in Operation.BOTH)

    def _judge(self, caller: Caller, topic: TopicName, operation: Operation) -> Decision:
        if topic.owner == caller.user:
            return Decision(allowed=True, rule=Rule.OWNER)
        if topic.owner == PUBLIC:
            decision = self._judge_public(caller, topic)
        else:
            decision = self._judge_granted(caller, topic, operation)
        if caller.admin and not decision.allowed:
            return Decision(allowed=True, rule=Rule.ADMIN)
        return decision

    def _judge_public(self, caller: Caller, topic: TopicName) -> Decision:
        grantees = self._creator_lists.get(topic)
        if grantees is None:
            return Decision(allowed=True, rule=Rule.PUBLIC)
        if _listed(caller, grantees):
            return Decision(allowed=True, rule=Rule.CREATOR_LIST)
        return Decision(allowed=False, rule=Rule.NOT_LISTED)

    def _judge_granted(self, caller: Caller, topic: TopicName, operation: Operation) -> Decision:
        grants = self._grants.get(topic, {})
        held = (
            Decision(allowed=True, rule=rule, until=grant.until)
            for grantee, rule in (
                (caller.user, Rule.USER_GRANT),
                (caller.fingerprint, Rule.KEY_GRANT),
                (EVERYONE, Rule.EVERYONE_GRANT),
            )
            if (grant := grants.get(grantee)) and operation in grant.operation
            if grant.until is None or grant.until > self._clock()
        )
        lasting = max(held, key=_lasts, default=None)
        if lasting and lasting.until is None:
            return lasting
        if any(_listed(caller, one.grantees) for one in self._shares(topic)):
            return Decision(allowed=True, rule=Rule.OWNER_LIST)
        return lasting or Decision(allowed=False, rule=Rule.PRIVATE)

    def _shares(self, topic: TopicName) -> Iterator[Pass]:
        """The passes of sessions that share a topic, all of them its owner's."""
        return (one for one in self._passes.get(topic, ()) if one.grantees)

    # -- coming and going -------------------------------------------------------------------------

    def enter(
        self,
        caller: Caller,
        name: TopicName,
        operation: Operation,
        grantees: tuple[str, ...] | None = None,
        *,
        exists: bool,
        lost: Callable[[Loss], None] = lambda _: None,
    ) -> Pass:
        """Let a caller onto a topic, with the list that it brings; call it right before joining.

        Args:
            caller: who comes.
            name: where to.
            operation: what it will do there.
            grantees: the ``-a`` list; None where none was given.
            exists: whether anybody is on the topic now.
            lost: called when the right has ended.

        Returns:
            The pass to `release` when the session ends.

        Raises:
            AccessDenied: the caller may not use the topic so, or may not bring a list to it.
        """
        self.require(caller)
        if not self.decide(caller, name, operation).allowed:
            raise AccessDenied(self._denial(caller, name, operation))
        shared = frozenset[str]()
        if grantees is not None:
            if name.owner == caller.user:
                shared = frozenset(grantees)
            elif name.owner == PUBLIC:
                self._restrict(caller, name, frozenset((*grantees, caller.user)), exists=exists)
            else:
                raise AccessDenied(
                    f"access denied: only {name.owner} can share {name}; leave out --access"
                )
        entered = Pass(caller, name, operation, shared, lost)
        self._passes.setdefault(name, {})[entered] = None
        if shared:
            self._changed((name,), [], Loss.UNSHARED)
        return entered

    def enter_pattern(
        self, caller: Caller, pattern: Pattern, grantees: tuple[str, ...] | None
    ) -> Callable[[TopicName], bool]:
        """Let a caller read what matches a pattern: nobody is denied, and nobody sees too much.

        Returns:
            What says, now and later, whether the caller may read a topic.

        Raises:
            UsageError: the caller brought a list.
        """
        self.require(caller)
        if grantees is not None:
            raise UsageError(f"the pattern {pattern} cannot be shared: leave out --access")
        return lambda topic: self.decide(caller, topic, Operation.READ).allowed

    def _denial(self, caller: Caller, name: TopicName, operation: Operation) -> str:
        """Say no, in words that depend on the caller's own rights only."""
        for one in operation:
            other = Operation.BOTH & ~one
            if (
                not self.decide(caller, name, one).allowed
                and self.decide(caller, name, other).allowed
            ):
                return f"access denied: {name} is shared with you to {other}, not to {one}"
        return f"access denied: {name} is not shared with you"

    def _restrict(
        self, caller: Caller, name: TopicName, wanted: frozenset[str], *, exists: bool
    ) -> None:
        """Set a public topic's list with its creation, or agree to the one that it has."""
        if not exists:
            self._creator_lists[name] = wanted
        elif self._creator_lists.get(name) != wanted:
            raise AccessDenied(
                f"access denied: {name} exists already, and only the member that creates a public "
                "topic can restrict it; leave out --access, or choose another name"
            )

    def release(self, one: Pass) -> None:
        """A session is over, and with it what it shared; calling it again does nothing."""
        passes = self._passes.get(one.topic, {})
        if one not in passes:
            return
        del passes[one]
        if not passes:
            del self._passes[one.topic]
        if one.grantees:
            self._notify((one.topic,), Loss.UNSHARED)

    def closed(self, topic: TopicName) -> None:
        """The last member has left: a public topic's list ends with it."""
        self._creator_lists.pop(topic, None)

    def _notify(self, topics: Collection[TopicName], loss: Loss) -> None:
        """Judge everybody on these topics again."""
        lost = [
            one
            for topic in topics
            for one in self._passes.get(topic, ())
            if one.needs and not self.decide(one.caller, topic, one.needs).allowed
        ]
        self._changed(topics, lost, loss)

    # -- lasting grants ---------------------------------------------------------------------------

    def set_grants(self, topic: TopicName, grants: Iterable[Grant], loss: Loss) -> None:
        """Replace all lasting grants of a topic.

        Args:
            topic: which.
            grants: all that it has from now on.
            loss: what to tell those who have lost one.
        """
        wanted = {grant.grantee: grant for grant in grants}
        if wanted != self._grants.get(topic, {}):
            self._replace(topic, wanted)
            self._notify((topic,), loss)

    def load(self, grants: Iterable[Grant]) -> None:
        """Replace all lasting grants of all topics."""
        wanted: dict[TopicName, dict[str, Grant]] = {}
        for grant in grants:
            wanted.setdefault(grant.topic, {})[grant.grantee] = grant
        changed = [
            topic
            for topic in dict.fromkeys((*self._grants, *wanted))
            if self._grants.get(topic) != wanted.get(topic)
        ]
        for topic in changed:
            self._replace(topic, wanted.get(topic, {}))
        if changed:
            self._notify(changed, Loss.REVOKED)

    def expire(self) -> None:
        """Take away what has ended by now."""
        now = self._clock()
        changed = []
        while self._ends and self._ends[0][0] <= now:
            _, topic = heapq.heappop(self._ends)
            grants = self._grants.get(topic, {})
            lasting = {
                grantee: grant
                for grantee, grant in grants.items()
                if grant.until is None or grant.until > now
            }
            if len(lasting) < len(grants):
                self._replace(topic, lasting)
                changed.append(topic)
        if changed:
            self._notify(changed, Loss.EXPIRED)

    @property
    def next_end(self) -> float | None:
        """When `expire` is due, in seconds since 1970; it may find nothing to do then."""
        return self._ends[0][0] if self._ends else None

    def grants_on(self, topic: TopicName) -> tuple[Grant, ...]:
        """The lasting grants of one topic, in the order of the grantees."""
        return tuple(grant for _, grant in sorted(self._grants.get(topic, {}).items()))

    def granted_by(self, owner: str) -> tuple[Grant, ...]:
        """The lasting grants in one user's space."""
        return tuple(
            grant for topic in sorted(self._given.get(owner, ())) for grant in self.grants_on(topic)
        )

    def granted_to(self, caller: Caller) -> tuple[Grant, ...]:
        """The lasting grants that a caller has in others' spaces."""
        return tuple(
            grant
            for grantee in (caller.user, caller.fingerprint, EVERYONE)
            for topic, grant in sorted(self._received.get(grantee, {}).items())
            if topic.owner != caller.user
        )

    def shared_by_sessions(self, topic: TopicName) -> frozenset[str]:
        """With whom live sessions of the owner share a topic."""
        return frozenset[str]().union(*(one.grantees for one in self._shares(topic)))

    def _replace(self, topic: TopicName, wanted: dict[str, Grant]) -> None:
        before = self._grants.pop(topic, {})
        for grantee in before:
            _discard(self._received, grantee, topic)
        if before:
            _discard(self._given, topic.owner, topic)
        self._count += len(wanted) - len(before)
        if wanted:
            self._grants[topic] = wanted
            self._given.setdefault(topic.owner, {})[topic] = None
        for grantee, grant in wanted.items():
            self._received.setdefault(grantee, {})[topic] = grant
            if grant.until is not None:
                heapq.heappush(self._ends, (grant.until, topic))
        if len(self._ends) > 2 * self._count + _STALE_ENDS:
            self._ends = [
                (grant.until, name)
                for name, grants in self._grants.items()
                for grant in grants.values()
                if grant.until is not None
            ]
            heapq.heapify(self._ends)

    # -- accounts that are no more ----------------------------------------------------------------

    def forget(self, grantee: str) -> None:
        """A user or key was removed: whoever has the name or key next inherits nothing."""
        changed = dict.fromkeys((*self._given.get(grantee, ()), *self._received.get(grantee, ())))
        for topic in changed:
            kept = {} if topic.owner == grantee else dict(self._grants[topic])
            kept.pop(grantee, None)
            self._replace(topic, kept)
        for passes in self._passes.values():
            for one in passes:
                if grantee in one.grantees:
                    one.grantees -= {grantee}
                    changed[one.topic] = None
        for topic, grantees in self._creator_lists.items():
            if grantee in grantees:
                self._creator_lists[topic] = grantees - {grantee}
                changed[topic] = None
        if changed:
            self._notify(changed, Loss.REMOVED)

    def bar(self, user: str, fingerprint: str) -> None:
        """A user's key was removed: who has logged in with it so far may do nothing more."""
        self._barred[user, fingerprint] = next(_logins)

    def is_barred(self, caller: Caller) -> bool:
        """Whether the key that a caller logged in with was removed since."""
        return caller.login < self._barred.get((caller.user, caller.fingerprint), 0)

    def require(self, caller: Caller) -> None:
        """Check that a caller may still do anything at all.

        Raises:
            AccessDenied: its key was removed.
        """
        if self.is_barred(caller):
            raise AccessDenied(REMOVED_TEXT)


REMOVED_TEXT = "access denied: the key that you logged in with was removed"
"""What is said to a client whose key or account is gone."""


def _listed(caller: Caller, grantees: frozenset[str]) -> bool:
    return not grantees.isdisjoint((caller.user, caller.fingerprint, EVERYONE))


def _lasts(decision: Decision) -> float:
    return float("inf") if decision.until is None else decision.until


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _discard(index: dict[_Key, dict[TopicName, _Value]], key: _Key, topic: TopicName) -> None:
    del index[key][topic]
    if not index[key]:
        del index[key]
