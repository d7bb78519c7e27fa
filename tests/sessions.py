"""Sessions without a network, on a service with a database of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from pipe.commands import Asker, answer
from pipe.errors import Outcome
from pipe.language.chat_requests import Chat
from pipe.language.log_requests import Logs
from pipe.language.names import TopicName, parse_pattern
from pipe.language.progress_requests import Top
from pipe.language.requests import Pipe, Publish, Subscribe, parse
from pipe.limits.turns import Turns
from pipe.rights.callers import Caller
from pipe.rights.grants import Operation
from pipe.service import Service
from pipe.settings import Settings
from pipe.store import NewKey, Store
from pipe.stream.ports import Mode
from pipe.stream.topics import Member

from .e2e.processes import DEADLINE
from .fakes import FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.limits.turns import Step
    from pipe.rights.access import Loss, Pass

OPERATIONS = {
    Mode.PUBLISH: Operation.WRITE,
    Mode.SUBSCRIBE: Operation.READ,
    Mode.PIPE: Operation.BOTH,
}


def fingerprint(user: str) -> str:
    """The fingerprint of somebody's first key."""
    return f"SHA256:{user:x<43}"


def key(name: str, comment: str = "") -> NewKey:
    """A key with `fingerprint(name)`; the store does not look into it."""
    return NewKey(
        fingerprint(name), "ssh-ed25519", f"ssh-ed25519 {name}", comment or f"{name}@host"
    )


class AtOnce(Turns):
    """Turns that have time for everything, so that nothing depends on how busy the machine is."""

    def do(self, step: Step) -> None:
        """Take the step, and again as long as there is more."""
        while step():
            pass

    def use(self, seconds: float, since: float | None = None) -> None:
        """There is no end of it."""


@contextlib.asynccontextmanager
async def started(url: str = "sqlite://") -> AsyncIterator[Service]:
    """A service that watches its rights, as a running server has it."""
    async with await Store.open(url) as store:
        service = Service(Settings(public_host="example.org"), store, turns=AtOnce())
        service.port = 2222
        await service.guard.start()
        try:
            yield service
        finally:
            await service.monitors.close()
            await service.guard.close()


class Session:
    """A session as `pipe.service` knows it, whose client is moved by hand."""

    def __init__(self, service: Service, caller: Caller) -> None:
        self.member: Member | None = None
        self.caller = caller
        self.address = f"{caller.user}.example:40000"
        self.paused_seconds = 0.0
        self.follows = False
        self.abroad = None  # nothing is
        self.said: list[str] = []
        self.ended: tuple[Outcome, str] | None = None
        self.over = asyncio.Event()
        self.sink: FakeSink | None = None
        self.source: FakeSource | None = None
        self._service = service
        self._held: Pass | None = None
        service.sessions[self] = None

    def join(self, mode: Mode, name: str, *grantees: str, bound: int = 100) -> None:
        """Join a topic or a pattern, with a list if there are grantees.

        Raises:
            PipeError: that is not allowed.
        """
        access, router = self._service.access, self._service.router
        topic = parse_pattern(name, caller=self.caller.user)
        if mode is not Mode.PUBLISH:
            self.sink = FakeSink(router, bound=bound)
        if mode is not Mode.SUBSCRIBE:
            self.source = FakeSource(router, synchronous=True)
        wants = 1 if mode is Mode.PUBLISH else 0
        member = Member(mode, source=self.source, sink=self.sink, wants=wants, keep_alive=True)
        for port in (self.sink, self.source):
            if port:
                port.member = member
        if not isinstance(topic, TopicName):
            admits = access.enter_pattern(self.caller)
            self.member = member
            router.join_pattern(member, topic, admits)
            return
        self._held = access.enter(
            self.caller,
            topic,
            OPERATIONS[mode],
            grantees or None,
            exists=topic in router,
            lost=self._lost,
        )
        self.member = member
        router.join(member, topic)

    def _lost(self, loss: Loss) -> None:
        self.cut(Outcome.DENIED, loss.value)

    def hand_over(self) -> None:
        """Nothing is held."""

    def announce(self, text: str) -> None:
        """Keep what is said."""
        self.said.append(text)

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End."""
        if self.ended is None:
            self.ended = (outcome, text)
        self.leave()

    def leave(self) -> None:
        """Let the client go."""
        self._service.sessions.pop(self, None)
        for port in (self.sink, self.source):
            if port:
                port.gone = True
        with self._service.router.at_once():
            if self._held:
                self._service.access.release(self._held)
            if self.member:
                self._service.router.leave(self.member)
        self.over.set()

    async def wait_over(self) -> tuple[Outcome, str] | None:
        """Return how it ended, once it has."""
        async with asyncio.timeout(DEADLINE):
            await self.over.wait()
        return self.ended


class People:
    """Users with one key each, and what they do."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.said: list[str] = []  # on stderr, by the last command

    async def add(self, *names: str, admin: bool = False) -> None:
        """Register them."""
        for name in names:
            await self.service.store.add_user(name, admin, [key(name)])

    def caller(self, user: str, *, admin: bool = False, key_of: str = "") -> Caller:
        """Somebody logs in."""
        return Caller(user, fingerprint(key_of or user), admin)

    def session(self, user: str, *, admin: bool = False, key_of: str = "") -> Session:
        """Somebody logs in and opens a session."""
        return Session(self.service, self.caller(user, admin=admin, key_of=key_of))

    def on(self, user: str, mode: Mode, name: str, *grantees: str, bound: int = 100) -> Session:
        """Somebody joins a topic."""
        session = self.session(user)
        session.join(mode, name, *grantees, bound=bound)
        return session

    async def run(
        self,
        user: str,
        command: str,
        stdin: bytes = b"",
        *,
        admin: bool = False,
        key_of: str = "",
        caller: Caller | None = None,
    ) -> str:
        """Somebody runs a command that only answers, ``caller`` if it is to be a certain one.

        Raises:
            PipeError: it cannot be carried out.
        """
        caller = caller or self.caller(user, admin=admin, key_of=key_of)
        session = Session(self.service, caller)
        self.said = session.said
        request = parse(command)
        assert not isinstance(request, (Publish, Subscribe, Pipe, Chat, Logs, Top))
        try:
            asker = Asker(session.caller, session.address, session, stdin)
            return await answer(request, self.service, asker)
        finally:
            session.leave()
