"""Access and the router together, under any order of events.

No byte ever reaches, or comes from, a session that has no right to the topic at that moment; and
nobody is cut off, or kept from entering, who has one.  The rights are kept a second time, in
`Rights`, as plainly as they can be said.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from pipe.errors import AccessDenied, Outcome
from pipe.language.names import EVERYONE, PUBLIC, Pattern, TopicName
from pipe.rights.access import SPARED_BARS, Access, Loss, Pass
from pipe.rights.callers import Caller
from pipe.rights.grants import Grant, Operation
from pipe.rights.scopes import Reach, Scope
from pipe.stream.ports import Mode
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipe.stream.chunks import Chunk

ALICE = Caller("alice", "SHA256:a")
BOB = Caller("bob", "SHA256:b")
CAROL = Caller("carol", "SHA256:c")
DORA = Caller("dora", BOB.fingerprint)  # shares bob's key
BOSS = Caller("boss", "SHA256:d", admin=True)

NAMES = [TopicName("alice", ("x",)), TopicName("alice", ("y",)), TopicName(PUBLIC, ("x",))]
PATTERNS = [Pattern("alice", ("*",)), Pattern("*", ("**",))]
OPERATIONS = {
    Mode.PUBLISH: Operation.WRITE,
    Mode.SUBSCRIBE: Operation.READ,
    Mode.PIPE: Operation.BOTH,
}

# Most are bob's doings on one topic, so that they meet.
USERS = st.sampled_from(["alice", "bob", "bob", "bob", "carol", "dora", "boss"])
TOPICS = st.sampled_from([*[NAMES[0]] * 4, *NAMES])
GRANTEES = st.sampled_from(["bob", "bob", "carol", BOB.fingerprint, EVERYONE])
SELDOM = st.sampled_from([False] * 5 + [True])
REACHES = st.frozensets(st.sampled_from(NAMES)).map(Reach)
LISTS = st.none() | st.lists(GRANTEES, min_size=1, max_size=2, unique=True).map(tuple)


def meant(grantee: str, caller: Caller) -> bool:
    """Whether somebody is who a grant names."""
    return grantee in {caller.user, caller.fingerprint, EVERYONE}


class Rights:
    """Who may do what, by the book."""

    def __init__(self) -> None:
        self.now = 0.0
        self.grants: dict[tuple[TopicName, str], tuple[Operation, float | None]] = {}
        self.shares: dict[Visitor, tuple[TopicName, set[str]]] = {}
        self.public: dict[TopicName, set[str]] = {}
        self.ended: set[int] = set()  # logins that may do no more

    def may(self, caller: Caller, topic: TopicName, operation: Operation) -> bool:
        """Whether somebody may do all this now."""
        if caller.scope is not None and not caller.scope.allows(operation, topic):
            return False
        return caller.login not in self.ended and all(
            self._may(caller, topic, one) for one in operation
        )

    def _may(self, caller: Caller, topic: TopicName, one: Operation) -> bool:
        if caller.admin or caller.user == topic.owner:
            return True
        if topic.owner == PUBLIC:
            return topic not in self.public or any(meant(g, caller) for g in self.public[topic])
        granted = any(
            name == topic
            and meant(who, caller)
            and one in operation
            and (not end or end > self.now)
            for (name, who), (operation, end) in self.grants.items()
        )
        return granted or any(
            name == topic and any(meant(who, caller) for who in grantees)
            for name, grantees in self.shares.values()
        )


class Message(NamedTuple):
    """What a chunk says of itself."""

    topic: TopicName
    number: int

    def encode(self) -> bytes:
        """As bytes that `decode` reads."""
        return f"{self.topic} {self.number}".encode()

    @classmethod
    def decode(cls, chunk: Chunk) -> Message:
        """Read a chunk."""
        name, number = bytes(chunk.data).decode().split()
        owner, *path = name.split("/")
        return cls(TopicName(owner, tuple(path)), int(number))


class Sink(FakeSink):
    """A sink that checks each chunk against the rights of its reader at that moment."""

    visitor: Visitor

    def write(self, chunk: Chunk) -> None:
        """Take a chunk, if that is right."""
        message = Message.decode(chunk)
        assert self.visitor.rights.may(self.visitor.caller, message.topic, Operation.READ), (
            f"{message} reached {self.visitor.caller.user}"
        )
        super().write(chunk)

    def vanish(self) -> None:
        """Let the session go."""
        self.visitor.leave()


class Source(FakeSource):
    """A source that checks each chunk against the rights of its writer at that moment."""

    visitor: Visitor

    def _publish(self, chunk: Chunk) -> None:
        topic = Message.decode(chunk).topic
        assert self.visitor.rights.may(self.visitor.caller, topic, Operation.WRITE)
        super()._publish(chunk)

    def _end(self) -> None:
        if self.visitor.held:
            self.visitor.held.needs &= ~Operation.WRITE
        super()._end()

    def vanish(self) -> None:
        """Let the session go."""
        self.visitor.leave()


class Visitor:
    """A session: what `pipe.ssh.channel` does with access and the router, and no more."""

    def __init__(
        self, machine: AccessMachine, caller: Caller, mode: Mode, topic: TopicName | Pattern
    ) -> None:
        self.access, self.router, self.rights = machine.access, machine.router, machine.rights
        self.caller = caller
        self.topic = topic
        self.held: Pass | None = None
        self.gone = False
        self.sink: Sink | None = None
        self.source: Source | None = None
        if mode is not Mode.PUBLISH:
            self.sink = Sink(self.router, bound=machine.bound)
            self.sink.visitor = self
        if mode is not Mode.SUBSCRIBE:
            self.source = Source(self.router, synchronous=True)
            self.source.visitor = self
        self.member = Member(
            mode, source=self.source, sink=self.sink, keep_alive=machine.keep_alive
        )
        for port in (self.sink, self.source):
            if port:
                port.member = self.member

    def lost(self, _loss: Loss) -> None:
        """The right is gone: be cut off."""
        assert isinstance(self.topic, TopicName)
        assert self.held is not None
        assert not self.rights.may(self.caller, self.topic, self.held.needs), "cut for nothing"
        if self.sink and not self.sink.over:
            self.sink.cut_for = Outcome.DENIED
        self.leave()

    def leave(self) -> None:
        """End, as a session does."""
        if self.gone:
            return
        self.gone = True
        for port in (self.sink, self.source):
            if port:
                port.gone = True
        self.rights.shares.pop(self, None)
        with self.router.at_once():
            if self.held:
                self.access.release(self.held)
            self.router.leave(self.member)


class AccessMachine(RuleBasedStateMachine):
    """Sessions that come and go while the rules change."""

    visitors = Bundle("visitors")

    def __init__(self) -> None:
        super().__init__()
        self.rights = Rights()
        self.access = Access(lambda: self.rights.now, self._changed)
        self.router = Router(closed=self._closed)
        self.everybody: list[Visitor] = []
        self.logins = {one.user: [one] for one in (ALICE, BOB, CAROL, DORA, BOSS)}
        self.sent = 0
        self.bound = 100
        self.keep_alive = True

    def _changed(self, topics: Collection[TopicName], lost: list[Pass], loss: Loss) -> None:
        with self.router.at_once():
            for topic in topics:
                self.router.review(topic)
            for one in lost:
                one.lost(loss)

    def _closed(self, topic: TopicName) -> None:
        self.rights.public.pop(topic, None)
        self.access.closed(topic)

    def _login(self, user: str, *, stale: bool) -> Caller:
        """The latest login of a user, or the first, which may be over."""
        return self.logins[user][0 if stale else -1]

    @initialize(bound=st.sampled_from([1, 40, 100]), keep_alive=st.booleans())
    def begin(self, bound: int, keep_alive: bool) -> None:
        """Choose how much a reader buffers, and whether readers stay."""
        self.bound, self.keep_alive = bound, keep_alive

    # -- coming and going ---------------------------------------------------------------------

    @rule(
        target=visitors,
        user=USERS,
        stale=SELDOM,
        mode=st.sampled_from(Mode),
        topic=TOPICS,
        grantees=LISTS,
    )
    def join(
        self,
        user: str,
        stale: bool,
        mode: Mode,
        topic: TopicName,
        grantees: tuple[str, ...] | None,
    ) -> Visitor:
        """Somebody comes, perhaps with a list; whether that works is what the rights say."""
        caller = self._login(user, stale=stale)
        exists = topic in self.router
        wanted = set(grantees or ()) | {caller.user}
        welcome = self.rights.may(caller, topic, OPERATIONS[mode])
        if grantees is not None and topic.owner == PUBLIC:
            welcome &= not exists or self.rights.public.get(topic) == wanted
        elif grantees is not None:
            welcome &= topic.owner == caller.user
            welcome &= self.rights.may(caller, topic, Operation.BOTH)
        visitor = Visitor(self, caller, mode, topic)
        if welcome and grantees is not None:
            if topic.owner == PUBLIC:
                self.rights.public[topic] = wanted
            else:
                self.rights.shares[visitor] = (topic, set(grantees))
        try:
            visitor.held = self.access.enter(
                caller, topic, OPERATIONS[mode], grantees, exists=exists, lost=visitor.lost
            )
        except AccessDenied:
            assert not welcome, "kept out for nothing"
            visitor.gone = True
            return visitor
        assert welcome, "let in for nothing"
        self.everybody.append(visitor)
        self.router.join(visitor.member, topic)
        return visitor

    @rule(target=visitors, user=USERS, stale=SELDOM, pattern=st.sampled_from(PATTERNS))
    def join_pattern(self, user: str, stale: bool, pattern: Pattern) -> Visitor:
        """Somebody reads what matches, and never more than allowed."""
        caller = self._login(user, stale=stale)
        visitor = Visitor(self, caller, Mode.SUBSCRIBE, pattern)
        try:
            admits = self.access.enter_pattern(caller)
        except AccessDenied:
            assert caller.login in self.rights.ended, "kept out for nothing"
            visitor.gone = True
            return visitor
        assert caller.login not in self.rights.ended, "let in for nothing"
        self.everybody.append(visitor)
        self.router.join_pattern(visitor.member, pattern, admits)
        return visitor

    @rule(visitor=consumes(visitors))
    def leave(self, visitor: Visitor) -> None:
        """A client goes away."""
        visitor.leave()

    # -- bytes ----------------------------------------------------------------------------------

    @rule(visitor=visitors)
    def send(self, visitor: Visitor) -> None:
        """A publisher's client sends a chunk, which waits if it must."""
        if visitor.source and not visitor.gone and isinstance(visitor.topic, TopicName):
            self.sent += 1
            visitor.source.send(Message(visitor.topic, self.sent).encode())

    @rule(visitor=visitors)
    def end(self, visitor: Visitor) -> None:
        """A publisher's client has sent everything."""
        if visitor.source and not visitor.gone:
            visitor.source.end()

    @rule(visitor=visitors)
    def drain(self, visitor: Visitor) -> None:
        """A reader's client reads what is there; publishers may go on at once."""
        if visitor.sink and not visitor.gone:
            visitor.sink.drain()

    # -- rights ---------------------------------------------------------------------------------

    @rule(
        topic=TOPICS.filter(lambda topic: topic.owner != PUBLIC),
        who=GRANTEES,
        operation=st.sampled_from([Operation.READ, Operation.WRITE, Operation.BOTH]),
        lifetime=st.none() | st.integers(1, 5),
    )
    def grant(self, topic: TopicName, who: str, operation: Operation, lifetime: int | None) -> None:
        """The owner grants something; what was granted to the same one before is over."""
        until = None if lifetime is None else self.rights.now + lifetime
        self.rights.grants[topic, who] = (operation, until)
        self._set_grants(topic)

    @rule(topic=TOPICS, who=GRANTEES)
    def revoke(self, topic: TopicName, who: str) -> None:
        """The owner takes a grant back."""
        with suppress(KeyError):
            del self.rights.grants[topic, who]
        self._set_grants(topic)

    @rule(really=SELDOM)
    def revoke_all(self, really: bool) -> None:
        """Everything is gone from the database, as another process left it."""
        if not really:
            return
        self.rights.grants.clear()
        self.access.load([])

    def _set_grants(self, topic: TopicName) -> None:
        grants = [
            Grant(topic, who, operation, until, "alice", 0.0)
            for (name, who), (operation, until) in self.rights.grants.items()
            if name == topic and (until is None or until > self.rights.now)
        ]
        self.access.set_grants(topic, grants, Loss.REVOKED)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        """Time passes, and the timer runs out where it does."""
        self.rights.now += seconds
        end = self.access.next_end
        if end is not None and end <= self.rights.now:
            self.access.expire()

    @rule(who=st.sampled_from(["bob", BOB.fingerprint, "alice"]), really=SELDOM)
    def remove(self, who: str, really: bool) -> None:
        """A user or key is removed, with all that it gave and was given."""
        if not really:
            return
        grants = self.rights.grants
        for topic, grantee in list(grants):
            if who in {topic.owner, grantee}:
                del grants[topic, grantee]
        for _, grantees in self.rights.shares.values():
            grantees.discard(who)
        for listed in self.rights.public.values():
            listed.discard(who)
        self.access.forget(who)

    @rule(user=USERS, reads=REACHES, writes=REACHES)
    def come_with_a_token(self, user: str, reads: Reach, writes: Reach) -> None:
        """Somebody makes a token, and comes with that from now on."""
        last = self.logins[user][-1]
        token = f"token{last.login}"
        caller = Caller(user, last.fingerprint, last.admin, scope=Scope(reads, writes), token=token)
        self.access.logged_in(caller)
        self.logins[user].append(caller)

    @rule(user=USERS)
    def remove_a_token(self, user: str) -> None:
        """The token that somebody came with last is removed, and a key does again."""
        last = self.logins[user][-1]
        if not last.token:
            return
        self.access.end_token(last.token)
        self.rights.ended.add(last.login)
        with self.router.at_once():
            for visitor in self.everybody:
                if self.access.why_barred(visitor.caller):
                    visitor.leave()
        self.logins[user].append(Caller(user, last.fingerprint, last.admin))

    @rule(user=USERS, how=st.sampled_from(["user", "key", "login"]), really=SELDOM)
    def end_logins(self, user: str, how: str, really: bool) -> None:
        """A user or key is removed, or a login over; who comes back may be an admin no more."""
        if not really:
            return
        before = self.logins[user]
        if how == "login":
            self.access.dismiss(before[-1], "over")
            self.rights.ended.add(before[-1].login)
        else:
            self.access.bar(user, before[-1].fingerprint if how == "key" else "")
            self.rights.ended.update(one.login for one in before)
            for number in range(2 * SPARED_BARS):  # what concerns nobody is forgotten then
                self.access.bar(user, f"SHA256:{number}")
        with self.router.at_once():
            for visitor in self.everybody:
                if self.access.why_barred(visitor.caller):
                    visitor.leave()
        admin = user == "boss" and not before[-1].admin
        before.append(Caller(user, before[-1].fingerprint, admin))

    # -- what holds at any time -------------------------------------------------------------------

    @invariant()
    def everybody_may_be_where_they_are(self) -> None:
        """Nobody is on a topic without the right to what they do there."""
        for visitor in self.everybody:
            if not visitor.member.joined:
                continue
            if visitor.held:
                assert self.rights.may(visitor.caller, visitor.held.topic, visitor.held.needs)
            for topic in visitor.member.topics:
                assert self.rights.may(visitor.caller, topic.name, Operation.READ)

    @invariant()
    def patterns_read_all_that_they_may(self) -> None:
        """A pattern has every topic that matches and that its reader may read."""
        for visitor in self.everybody:
            if visitor.member.joined and isinstance(visitor.topic, Pattern):
                wanted = {
                    name
                    for name in NAMES
                    if name in self.router
                    and visitor.topic.matches(name)
                    and self.rights.may(visitor.caller, name, Operation.READ)
                }
                assert {topic.name for topic in visitor.member.topics} == wanted

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """Lists of public topics end with the topics."""
        assert set(self.rights.public) <= {name for name in NAMES if name in self.router}


TestAccessMachine = AccessMachine.TestCase
TestAccessMachine.settings = settings(stateful_step_count=60, max_examples=300, deadline=None)
