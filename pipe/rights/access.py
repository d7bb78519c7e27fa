"""Who may read and write which topic: the only place that decides, and what it decides by.

The rules apply in this order:

0. A caller with a token may do nothing beyond the token's scope (`pipe.rights.scopes`).  Within the
   scope, the rules below decide.
1. Owners may do everything in their own space.
2. ``public/`` is open to every user.  The member that creates a public topic may restrict it to a
   list (``-a``).  The list holds until the topic is empty; nobody who joins can set or widen it.
3. In another user's space a caller needs a grant.  `pipe.store` keeps lasting grants, which are for
   reading, writing or both and may have an end.  A live session of the owner may bring a list
   (``-a``), which grants both while that session lives.
4. An admin may do everything everywhere.

Everything else is denied, in the same words whether the topic exists or not.  A grantee is a user's
name, a key's fingerprint or `pipe.language.names.EVERYONE`.

A right lasts only while its rule holds.  Each session on a topic has a `Pass`.  When a topic's
rules change, all its passes are checked again, and those that fail are reported together so that
their sessions can be ended.  Decisions are never cached.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.errors import AccessDenied
from pipe.language.names import EVERYONE, PUBLIC
from pipe.rights.bearers import Bearers
from pipe.rights.callers import Caller, callers_alive, next_login
from pipe.rights.grants import GrantBook, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    from pipe.language.names import TopicName
    from pipe.rights.grants import Grant

REMOVED_TEXT = "access denied: the account or key that you logged in with was removed"
"""What logins from before the removal are told."""

DEMOTED_TEXT = "access denied: you are no admin any more: log in again"
"""What admins are told who logged in before they lost the flag."""

WITHDRAWN_TEXT = "access denied: the token that let you in was removed"
"""What logins with that token are told."""

OVER_TEXT = "access denied: the time of the token that let you in is over"
"""What logins with that token are told when it expires."""

SPARED_BARS = 64
"""Removals to remember before looking for those that no longer concern anyone."""


class Rule(enum.Enum):
    """The rule that decided; the value explains it to the caller."""

    OWNER = "you are its owner"
    PUBLIC = "public topics are open to every user"
    CREATOR_LIST = "you are on the list of the member that created it"
    USER_GRANT = "it was granted to you"
    KEY_GRANT = "it was granted to your key"
    EVERYONE_GRANT = "it was granted to everyone with an account"
    OWNER_LIST = "a session of its owner shares it with you"
    ADMIN = "you are an admin"
    SCOPE = "your token does not reach it"
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
    """Whether a caller may do something, by which rule, and until when (seconds since 1970)."""

    allowed: bool
    rule: Rule
    until: float | None = None


_OWN = Decision(allowed=True, rule=Rule.OWNER)
_OUT_OF_REACH = Decision(allowed=False, rule=Rule.SCOPE)


class Pass:
    """One session's place on one topic, until it is released.

    Args:
        caller: who holds it.
        topic: where.
        needs: what the session does there; it narrows this when it does less.
        grantees: whom it shares its own topic with.
        lost: called when the right to ``needs`` ends: the session must end.
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
    """All rules in force.

    Each call runs within one turn of the event loop, so creating a topic and setting its list are
    one step, and so are a change and its effects.

    Args:
        clock: seconds since 1970; a grant that has ended no longer counts, even before `expire`.
        changed: called after each change with the topics whose rules changed and the passes that
            no longer cover what their sessions do.  The default ends those sessions.
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
        # How many sessions share a topic with each grantee, so that decisions search no sessions.
        self._shares: dict[TopicName, Counter[str]] = {}
        self._grants = GrantBook()
        self._barred: dict[tuple[str, str], tuple[int, str]] = {}
        self._most_barred = SPARED_BARS
        self._dismissed: dict[int, str] = {}
        self._bearers = Bearers()

    # -- judging ----------------------------------------------------------------------------------

    def decide(
        self, caller: Caller, topic: TopicName, operation: Operation = Operation.READ
    ) -> Decision:
        """Decide without changing anything; of several operations the first denied one counts.

        The decision ends when the first of them ends.
        """
        if caller.scope is not None and not caller.scope.allows(operation, topic):
            return _OUT_OF_REACH
        if topic.owner == caller.user:
            return _OWN
        decisions = [self._judge(caller, topic, one) for one in operation]
        for decision in decisions:
            if not decision.allowed:
                return decision
        ends = [decision.until for decision in decisions if decision.until is not None]
        return Decision(allowed=True, rule=decisions[0].rule, until=min(ends, default=None))

    def sees(self, caller: Caller, topic: TopicName) -> bool:
        """Whether a caller may know about a topic, because it may read or write it."""
        return any(self.decide(caller, topic, one).allowed for one in Operation.BOTH)

    def _judge(self, caller: Caller, topic: TopicName, operation: Operation) -> Decision:
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
        grants = self._grants.on(topic)
        now = self._clock()
        held = (
            Decision(allowed=True, rule=rule, until=grant.until)
            for grantee, rule in (
                (caller.user, Rule.USER_GRANT),
                (caller.fingerprint, Rule.KEY_GRANT),
                (EVERYONE, Rule.EVERYONE_GRANT),
            )
            if (grant := grants.get(grantee)) and operation in grant.operation and grant.holds(now)
        )
        lasting = max(held, key=_lasts, default=None)
        if lasting and lasting.until is None:
            return lasting
        if _listed(caller, self._shares.get(topic, frozenset())):
            return Decision(allowed=True, rule=Rule.OWNER_LIST)
        return lasting or Decision(allowed=False, rule=Rule.PRIVATE)

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
        """Let a caller onto a topic, with the list that it brings; call this right before joining.

        Args:
            caller: who joins.
            name: the topic.
            operation: what the caller will do there.
            grantees: the ``-a`` list, or None if none was given.
            exists: whether anybody is on the topic now.
            lost: called when the right ends.

        Returns:
            The pass to `release` when the session ends.

        Raises:
            AccessDenied: the caller may not use the topic like this, or may not bring a list to it.
        """
        self.require(caller)
        if not self.decide(caller, name, operation).allowed:
            raise AccessDenied(self._denial(caller, name, operation))
        shared = frozenset[str]()
        if grantees is not None:
            if name.owner == caller.user:
                _check_reach(caller, name)
                shared = frozenset(grantees)
            elif name.owner == PUBLIC:
                self._restrict(name, frozenset((*grantees, caller.user)), exists=exists)
            else:
                raise AccessDenied(
                    f"access denied: only {name.owner} can share {name}; leave out --access"
                )
        entered = Pass(caller, name, operation, shared, lost)
        self._passes.setdefault(name, {})[entered] = None
        if shared:
            self._shares.setdefault(name, Counter()).update(shared)
            self._changed((name,), [], Loss.UNSHARED)
        return entered

    def enter_pattern(self, caller: Caller) -> Callable[[TopicName], bool]:
        """Let a caller read the topics of a pattern, as far as it may read each one.

        Returns:
            A function that tells, now and later, whether the caller may read a topic.

        Raises:
            AccessDenied: the caller may no longer do anything.
        """
        self.require(caller)
        return lambda topic: self.decide(caller, topic, Operation.READ).allowed

    def _denial(self, caller: Caller, name: TopicName, operation: Operation) -> str:
        """Say no, in words that depend only on the caller's own rights."""
        if caller.scope is not None and not caller.scope.allows(operation, name):
            return f"access denied: your token does not reach {name} to {operation}"
        for one in operation:
            other = Operation.BOTH & ~one
            if (
                not self.decide(caller, name, one).allowed
                and self.decide(caller, name, other).allowed
            ):
                return f"access denied: {name} is shared with you to {other}, not to {one}"
        return f"access denied: {name} is not shared with you"

    def _restrict(self, name: TopicName, wanted: frozenset[str], *, exists: bool) -> None:
        """Set a public topic's list when it is created; later, accept only the same list."""
        if not exists:
            self._creator_lists[name] = wanted
        elif self._creator_lists.get(name) != wanted:
            raise AccessDenied(
                f"access denied: {name} exists already, and only the member that creates a public "
                "topic can restrict it; leave out --access, or choose another name"
            )

    def release(self, one: Pass) -> None:
        """End a session's pass and what it shared; calling it again does nothing."""
        passes = self._passes.get(one.topic, {})
        if one not in passes:
            return
        del passes[one]
        if not passes:
            del self._passes[one.topic]
        if one.grantees:
            self._unshare(one.topic, one.grantees)
            self._notify((one.topic,), Loss.UNSHARED)

    def _unshare(self, topic: TopicName, grantees: Iterable[str]) -> None:
        shares = self._shares[topic]
        shares.subtract(grantees)
        for grantee in grantees:
            if not shares[grantee]:
                del shares[grantee]
        if not shares:
            del self._shares[topic]

    def closed(self, topic: TopicName) -> None:
        """Drop a public topic's list, as its last member has left."""
        self._creator_lists.pop(topic, None)

    def _notify(self, topics: Collection[TopicName], loss: Loss) -> None:
        """Check all passes on these topics again."""
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
            topic: which one.
            grants: all its grants from now on.
            loss: what to tell callers who lose one.
        """
        if self._grants.replace(topic, grants):
            self._notify((topic,), loss)

    def load(self, grants: Iterable[Grant]) -> None:
        """Replace all lasting grants of all topics."""
        wanted: dict[TopicName, list[Grant]] = {topic: [] for topic in self._grants.topics()}
        for grant in grants:
            wanted.setdefault(grant.topic, []).append(grant)
        changed = [topic for topic, held in wanted.items() if self._grants.replace(topic, held)]
        if changed:
            self._notify(changed, Loss.REVOKED)

    def expire(self) -> bool:
        """End grants and logins whose time is over, and return whether any login was dismissed."""
        now = self._clock()
        changed = self._grants.expire(now)
        if changed:
            self._notify(changed, Loss.EXPIRED)
        ended = self._bearers.take_ended(now)
        for caller in ended:
            self.dismiss(caller, OVER_TEXT)
        return bool(ended)

    @property
    def next_end(self) -> float | None:
        """When to call `expire`, in seconds since 1970; it may find nothing to do then."""
        ends = (self._grants.next_end, self._bearers.next_end)
        return min((end for end in ends if end is not None), default=None)

    def grants_on(self, topic: TopicName) -> Mapping[str, Grant]:
        """The lasting grants of one topic, by grantee."""
        return self._grants.on(topic)

    def granted_by(self, owner: str) -> list[Grant]:
        """The lasting grants in one user's space."""
        return self._grants.by(owner)

    def granted_to(self, caller: Caller) -> list[Grant]:
        """The lasting grants that a caller has in other users' spaces."""
        return [
            grant
            for grantee in (caller.user, caller.fingerprint, EVERYONE)
            for grant in self._grants.to(grantee)
            if grant.topic.owner != caller.user
        ]

    def shared_by_sessions(self, topic: TopicName) -> frozenset[str]:
        """The grantees that live sessions of the owner share a topic with."""
        return frozenset(self._shares.get(topic, ()))

    # -- accounts and logins that are no more -----------------------------------------------------

    def forget(self, grantee: str) -> None:
        """Forget a removed user or key, so that its next holder inherits nothing."""
        changed = dict.fromkeys(self._grants.forget(grantee))
        for passes in self._passes.values():
            for one in passes:
                if grantee in one.grantees:
                    one.grantees -= {grantee}
                    self._unshare(one.topic, (grantee,))
                    changed[one.topic] = None
        for topic, grantees in self._creator_lists.items():
            if grantee in grantees:
                self._creator_lists[topic] = grantees - {grantee}
                changed[topic] = None
        if changed:
            self._notify(changed, Loss.REMOVED)

    def bar(self, user: str, fingerprint: str = "", text: str = REMOVED_TEXT) -> None:
        """Bar all earlier logins of a user, or of one of its keys, from doing anything more.

        ``text`` tells them why, if it is not that the account or key was removed.
        """
        self._barred[user, fingerprint] = next_login(), text
        if len(self._barred) > self._most_barred:
            self._forget_bars()

    def _forget_bars(self) -> None:
        """Forget removals that no longer concern any login.

        This looks at all callers, so it waits until there are twice as many as it left last time.
        """
        oldest: dict[tuple[str, str], int] = {}
        for caller in callers_alive():
            for key in {(caller.user, caller.fingerprint), (caller.user, "")}:
                oldest[key] = min(caller.login, oldest.get(key, caller.login))
        judged = {caller.user for caller in callers_alive() if not caller.fingerprint}
        self._barred = {
            (user, fingerprint): (number, text)
            for (user, fingerprint), (number, text) in self._barred.items()
            if user in judged or oldest.get((user, fingerprint), number) < number
        }
        self._most_barred = max(SPARED_BARS, 2 * len(self._barred))

    def dismiss(self, caller: Caller, text: str) -> None:
        """Bar one login from doing anything more, with ``text`` as the reason; others go on."""
        self._dismissed[caller.login] = text

    def logged_in(self, caller: Caller) -> None:
        """Note a login by token, or one of a client that is away, until `logged_out`."""
        self._bearers.add(caller)

    def logged_out(self, caller: Caller) -> None:
        """Forget a login that is gone."""
        self._bearers.remove(caller)
        self._dismissed.pop(caller.login, None)

    def end_token(self, token: str) -> None:
        """Bar all logins with a removed token from doing anything more."""
        for caller in self._bearers.of(token):
            self.dismiss(caller, WITHDRAWN_TEXT)

    def why_barred(self, caller: Caller) -> str:
        """Why a caller may not do anything more; empty if it still may."""
        if text := self._dismissed.get(caller.login):
            return text
        barred, text = max(
            self._barred.get((caller.user, fingerprint), (0, ""))
            for fingerprint in (caller.fingerprint, "")
        )
        return text if caller.login < barred else ""

    def require(self, caller: Caller) -> None:
        """Check that a caller may still do anything at all.

        Raises:
            AccessDenied: its account or key was removed, or its login is over.
        """
        if text := self.why_barred(caller):
            raise AccessDenied(text)


def _listed(caller: Caller, grantees: Container[str]) -> bool:
    return any(one in grantees for one in (caller.user, caller.fingerprint, EVERYONE))


def _check_reach(caller: Caller, name: TopicName) -> None:
    """Check that a caller shares no more of its own topic than its token reaches."""
    if caller.scope is not None and not caller.scope.allows(Operation.BOTH, name):
        raise AccessDenied(
            f"access denied: your token does not reach {name} to read and write, which is what "
            "those on a list may do; leave out --access"
        )


def _lasts(decision: Decision) -> float:
    return float("inf") if decision.until is None else decision.until
