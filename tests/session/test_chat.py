"""A conversation between its client and its room: who waits for whom, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pipe.chat.room import BURST_LINES
from pipe.commands.screen import Screen
from pipe.language.chat_requests import Chat
from pipe.language.names import TopicName
from pipe.session.chat import MAX_EVENT_CHARACTERS, MAX_OUT, Conversation
from pipe.session.place import Place
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from tests.fakes import publisher
from tests.sessions import People, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipe.errors import Outcome
    from pipe.rights.access import Loss
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.front import Listener
    from pipe.stream.topics import Member

TEA = TopicName("public", ("tea",))
LINE = "x" * 1900


class Port:
    """A client's: how much was written, and whether it may send."""

    clogged = False
    pending = 0
    queued = 0

    def __init__(self) -> None:
        self.written = b""
        self.reading = True

    def write(self, chunk: Chunk) -> None:
        """Keep it."""
        self.written += bytes(chunk.data)

    def pause_reading(self) -> None:
        """Note it."""
        self.reading = False

    def resume_reading(self) -> None:
        """Note it."""
        self.reading = True

    def charge(self, records: int) -> None:
        """Cost nothing."""

    def connect(self, feed: Callable[[Chunk], None]) -> None:
        """Feed nothing."""

    def bind(self, member: Member, hears: Listener | None = None) -> None:
        """Report nothing."""

    def close(self) -> None:
        """Hold nothing."""

    def flush(self) -> None:
        """Flush nothing."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Finish nothing."""

    def cut(self, outcome: Outcome) -> None:
        """Cut nothing."""

    def waited_for(self, others: bool) -> None:
        """Hurry nothing."""


class Client:
    """A program with a chat: a session and its front in one."""

    def __init__(self, service: Service, caller: Caller, request: Chat) -> None:
        self.caller = caller
        self.port = Port()
        self.said: list[str] = []
        self.outcome: Outcome | None = None
        self.over = asyncio.Event()
        self.place = Place(service, caller, ())
        self.chat = Conversation(self, service, self.place, request)
        self.chat.enter(self, self._lost)

    def send(self, *lines: str) -> None:
        """Send lines."""
        data = "".join(f"{line}\n" for line in lines).encode()
        self.chat.publish(self.chat.member, Chunk(data))

    async def take_all(self) -> str:
        """Take all that there is, in the turns that it takes."""
        taken = b""
        await turn()
        while data := self.chat.take(1):
            taken += data
            await turn()
        return taken.decode()

    def announce(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)

    def end(self, outcome: Outcome, text: str = "", *, exit_status: int | None = None) -> None:  # noqa: ARG002
        """End."""
        self.outcome = outcome
        self.chat.close()
        self.place.leave(self.chat.member, 0.0)
        self.over.set()

    def cut(self, outcome: Outcome, text: str = "") -> None:
        """End."""
        self.end(outcome, text)

    def _lost(self, loss: Loss) -> None:
        raise AssertionError(loss)

    def make_port(self, owner: object) -> Port:  # noqa: ARG002
        """There is one."""
        return self.port

    def tell(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)

    def draw(self, line: str, *, last: bool) -> None:
        """Draw nothing."""

    def answer(self, text: str) -> None:
        """Answer nothing."""

    def screen(self) -> Screen | None:
        """There is no terminal."""
        return None

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """Nor does its size change."""

    @property
    def line_end(self) -> bytes:
        """Lines end as lines do."""
        return b"\n"

    def follow(self) -> None:
        """Nothing is to be done."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Nothing is left."""

    def abort(self, outcome: Outcome, text: str) -> bool:  # noqa: ARG002
        """It goes."""
        return True

    def closed(self, traffic: object) -> None:
        """Hold nothing."""

    def log_fields(self) -> dict[str, str]:
        """Say nothing."""
        return {}


class Person(Client):
    """A person with a terminal."""

    resized: Callable[[int], None]

    def screen(self) -> Screen | None:
        """It has a size."""
        return Screen(80, 24)

    def on_resize(self, resized: Callable[[int], None]) -> None:
        """Keep it."""
        self.resized = resized

    @property
    def line_end(self) -> bytes:
        """Lines end as a terminal's do."""
        return b"\r\n"


async def turn() -> None:
    """Let all happen that is due: reading, then saying, then showing."""
    for _ in range(4):
        await asyncio.sleep(0)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A service with users."""
    async with started() as service:
        await People(service).add("alice", "bob", "carol")
        yield service


def enter(service: Service, user: str, *, as_json: bool = False) -> Client:
    """Join the room."""
    return Client(service, People(service).caller(user), Chat("public/tea", json=as_json))


async def test_lines_go_to_the_others(service: Service) -> None:
    """Under their sayer's name; a program does not hear itself."""
    alice, bob = enter(service, "alice"), enter(service, "bob")
    alice.send("hello", "", "again")

    assert await bob.take_all() == "alice: hello\nalice: again\n"
    assert await alice.take_all() == ""


async def test_one_who_takes_nothing_misses_lines_and_is_told(service: Service) -> None:
    """What waits for it is bounded; nobody waits; how much it missed comes at last."""
    alice, bob = enter(service, "alice"), enter(service, "bob")
    for number in range(20):
        flooder = publisher(service.router, TEA, wants=0)
        flooder.member.user = f"user{number}"
        flooder.send(*[f"{LINE}\n"] * int(BURST_LINES))
        assert not flooder.paused
        await bob.take_all()
    bob.send("hello")
    waiting = await alice.take_all()

    assert len(waiting) <= MAX_OUT + MAX_EVENT_CHARACTERS + 3 * len(LINE)
    [told] = alice.said
    left_out = int(told.split()[0])
    assert left_out + waiting.count("\n") == 20 * BURST_LINES + 1
    bob.send("are you there?")
    assert await alice.take_all() == "bob: are you there?\n"


async def test_client_that_says_too_much_is_read_no_further(service: Service) -> None:
    """Until time has passed; its end comes after its last line, however long that takes."""
    alice, bob = enter(service, "alice"), enter(service, "bob")
    lines = [f"line {number}" for number in range(int(BURST_LINES) + 3)]
    alice.send(*lines)
    alice.chat.end(alice.chat.member)

    heard = await bob.take_all()
    assert heard.count("alice: line") == BURST_LINES - 1  # that bob has come was told for one
    assert not alice.port.reading
    await alice.over.wait()
    heard += await bob.take_all()
    assert [line for line in heard.splitlines() if line.startswith("alice: ")] == [
        f"alice: {line}" for line in lines
    ]


async def test_sizes_that_change_without_end(service: Service) -> None:
    """Whoever takes nothing is drawn no more than there is room for; the last size counts."""
    alice = Person(service, People(service).caller("alice"), Chat("public/tea"))
    alice.chat.publish(alice.chat.member, Chunk(b"word " * 300))
    for columns in range(1000):
        alice.resized(20 + columns % 100)
        await turn()
    waiting = await alice.take_all()
    assert len(waiting) < 3 * MAX_OUT

    alice.resized(40)
    alice.chat.publish(alice.chat.member, Chunk(b"\r"))
    assert "\n  word word word word word word word\r\n" in await alice.take_all()


async def test_a_topic_that_stands_still(service: Service) -> None:
    """A chat says nothing meanwhile, and loses nothing."""
    alice, bob = enter(service, "alice"), enter(service, "bob")
    service.router.hold(held=True)
    alice.send("hello", "again")
    assert await bob.take_all() == ""
    service.router.hold(held=False)

    assert await bob.take_all() == "alice: hello\nalice: again\n"


async def test_nothing_is_left_when_all_have_gone(service: Service) -> None:
    """No room, no topic."""
    alice, bob = enter(service, "alice"), enter(service, "bob", as_json=True)
    for one in (alice, bob):
        one.chat.end(one.chat.member)
    await asyncio.gather(alice.over.wait(), bob.over.wait())

    assert not len(service.rooms)
    assert TEA not in service.router
    assert bob.port.written == b'{"type": "leave", "user": "alice", "name": "alice"}\n'
    assert alice.chat.member.mode is Mode.PIPE
