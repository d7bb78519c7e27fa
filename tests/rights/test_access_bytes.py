"""Every relation to a topic, operation, kind of grant and order of joining: who gets which bytes.

`test_access` asks the judge; here sessions join a real router under its rules, and what counts is
what they read of each other, before and after what let them in is taken away.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pipe.errors import AccessDenied, Outcome
from pipe.language.names import EVERYONE, TopicName
from pipe.rights.access import Loss
from pipe.rights.grants import Grant, Operation
from pipe.stream.ports import Mode
from tests.sessions import People, Session, fingerprint, started

if TYPE_CHECKING:
    from collections.abc import Callable

RELATIONS = {"owner": "alice", "grantee": "bob", "stranger": "carol", "admin": "boss"}
NAMED = {"name": "bob", "key": fingerprint("bob"), "everyone": EVERYONE, "another": "dave"}
ROOM = 1000


class Kind(NamedTuple):
    """What lets others in: a grant and its end, in seconds from now, or a session's list."""

    operation: Operation
    lasts: float | None = None
    list: bool = False


KINDS = {
    "none": Kind(Operation.NONE),
    "read": Kind(Operation.READ),
    "write": Kind(Operation.WRITE),
    "both": Kind(Operation.BOTH),
    "for a while": Kind(Operation.BOTH, 1000.0),
    "expired": Kind(Operation.BOTH, -1.0),
    "list": Kind(Operation.BOTH, list=True),
}


class Act(NamedTuple):
    """What the caller does, and what that takes."""

    mode: Mode
    needs: Operation
    pattern: bool = False


ACTS = {
    "pub": Act(Mode.PUBLISH, Operation.WRITE),
    "sub": Act(Mode.SUBSCRIBE, Operation.READ),
    "pipe": Act(Mode.PIPE, Operation.BOTH),
    "pattern": Act(Mode.SUBSCRIBE, Operation.READ, pattern=True),
}


class Scene:
    """Alice, who reads and writes, and somebody else, on one topic."""

    def __init__(self, people: People, relation: str, act: Act, kind: Kind, who: str) -> None:
        self.people = people
        self.access = people.service.access
        self.topic = TopicName("alice", ("build",))
        self.act, self.kind, self.who = act, kind, who
        self.privileged = relation in {"owner", "admin"}
        self.meant = who == EVERYONE or (relation == "grantee" and who != "dave")
        self.granted = False
        self.owner = people.session("alice")
        self.sharing: Session | None = None
        self.caller = people.session(RELATIONS[relation], admin=relation == "admin")
        self.inside = False

    def may(self, operation: Operation) -> bool:
        """What the rules say, written down once more."""
        holds = self.granted and self.meant and (self.kind.lasts or 1.0) > 0
        return self.privileged or (holds and operation in self.kind.operation)

    # -- the three steps, which come in any order -------------------------------------------------

    def grant(self) -> None:
        """Let somebody in."""
        self.granted = True
        if self.kind.list:
            self.sharing = self.people.session("alice")
            self.sharing.join(Mode.PUBLISH, "build", self.who)
        elif self.kind.operation:
            now = time.time()
            until = None if self.kind.lasts is None else now + self.kind.lasts
            grant = Grant(self.topic, self.who, self.kind.operation, until, "alice", now)
            self.access.set_grants(self.topic, [grant], Loss.REVOKED)

    def own(self) -> None:
        """The owner comes."""
        self.owner.join(Mode.PIPE, "build", bound=ROOM)

    def call(self) -> None:
        """The caller comes, and gets in if that is right."""
        wanted = self.act.pattern or self.may(self.act.needs)
        try:
            self.caller.join(
                self.act.mode, "alice/*" if self.act.pattern else "alice/build", bound=ROOM
            )
        except AccessDenied:
            assert not wanted, "kept out for nothing"
        else:
            assert wanted, "let in for nothing"
            self.inside = True

    def take_back(self) -> None:
        """Undo the grant."""
        self.granted = False
        if self.sharing:
            self.sharing.leave()
        self.access.set_grants(self.topic, [], Loss.REVOKED)

    # -- bytes ------------------------------------------------------------------------------------

    def exchange(self, text: str) -> tuple[str, str]:
        """Both say something; returns what of it the caller has read, and what the owner."""
        assert self.owner.source
        assert self.owner.sink
        before = [self._read(self.caller), self._read(self.owner)]
        self.owner.source.send(f"owner {text}")
        if self.caller.source:
            self.caller.source.send(f"caller {text}")
        after = [self._read(self.caller), self._read(self.owner)]
        caller, owner = (new[len(old) :] for old, new in zip(before, after, strict=True))
        return caller, owner

    @staticmethod
    def _read(session: Session) -> str:
        if not session.sink:
            return ""
        if not session.sink.gone:
            session.sink.drain()
        return b"".join(bytes(chunk.data) for chunk in session.sink.taken).decode()

    def expected(self, text: str) -> tuple[str, str]:
        """What `exchange` is to return."""
        reads = self.inside and Operation.READ in self.act.needs and self.may(Operation.READ)
        writes = self.inside and Operation.WRITE in self.act.needs and self.may(Operation.WRITE)
        if self.act.mode is Mode.PIPE and not self.may(Operation.BOTH):
            reads = writes = False
        return f"owner {text}" * reads, f"caller {text}" * writes

    def leave(self) -> None:
        """Everybody goes."""
        for session in (self.caller, self.owner, self.sharing):
            if session:
                session.leave()


STEPS: dict[str, Callable[[Scene], None]] = {
    "grant": Scene.grant,
    "owner": Scene.own,
    "caller": Scene.call,
}


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids="-".join)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("relation", RELATIONS)
async def test_bytes_go_where_they_may(relation: str, act: str, order: tuple[str, ...]) -> None:
    """In whatever order they come: who may read reads, who may write is read, and nobody else."""
    async with started() as service:
        people = People(service)
        for kind, named in itertools.product(KINDS, NAMED):
            scene = Scene(people, relation, ACTS[act], KINDS[kind], NAMED[named])
            for step in order:
                STEPS[step](scene)
            case = f"{kind} for {named}"
            assert scene.exchange("one") == scene.expected("one"), case
            scene.take_back()
            assert scene.exchange("two") == scene.expected("two"), case
            stays = scene.inside and (ACTS[act].pattern or scene.privileged)
            assert (scene.caller.ended is None) is (stays or not scene.inside), case
            if scene.caller.ended:
                assert scene.caller.ended[0] is Outcome.DENIED
            scene.leave()
            assert service.router.names() == ()
            assert not service.sessions
