"""What a member is shown of its stream, once a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pipe.language.names import Pattern, parse_pattern, parse_topic
from pipe.language.requests import Publish, Subscribe
from pipe.rights.callers import Caller
from pipe.session import progress as progress_module
from pipe.session.progress import Progress, show_progress
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.e2e.processes import DEADLINE
from tests.fakes import FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = parse_topic("news", caller="alice")
ALICE = Caller("alice", "SHA256:a", False)
BOB = Caller("bob", "SHA256:b", False)


@pytest.fixture(autouse=True)
def short_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(progress_module, "INTERVAL_SECONDS", 0.001)


class Display:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.line = ""
        self.last = False
        self.shown = asyncio.Event()

    def draw(self, line: str, *, last: bool) -> None:
        """Keep it."""
        self.line, self.last = line, last
        self.shown.set()

    async def wait(self, condition: Callable[[str], bool]) -> str:
        """Return the first line that is so."""
        async with asyncio.timeout(DEADLINE):
            while not condition(self.line):
                self.shown.clear()
                await self.shown.wait()
        return self.line


def join(router: Router, mode: Mode, user: str, *, bound: int = 100) -> Member:
    """Somebody joins the topic."""
    sink = FakeSink(router, bound=bound) if mode is not Mode.PUBLISH else None
    source = FakeSource(router, synchronous=True) if mode is not Mode.SUBSCRIBE else None
    wants = 1 if mode is Mode.PUBLISH else 0
    member = Member(mode, source=source, sink=sink, wants=wants)
    member.user = user
    for port in (sink, source):
        if port:
            port.member = member
    router.join(member, TOPIC)
    return member


async def test_nobody_asked() -> None:
    """Without the flags there is no timer."""
    assert show_progress(Display(), Member(Mode.PUBLISH), ALICE, Publish("news")) is None


async def test_size_asks_too() -> None:
    """``--size`` alone is enough."""
    display = Display()
    progress = show_progress(display, Member(Mode.PUBLISH), ALICE, Publish("news", size=0))

    assert progress
    progress.finish()
    assert "100%" in display.line


@pytest.mark.parametrize(
    ("mode", "request_"),
    [
        (Mode.PUBLISH, Publish("news", at=30, size=40)),
        (Mode.SUBSCRIBE, Subscribe("news", offset=30, size=40)),
    ],
)
async def test_who_goes_on_has_done_what_came_before(
    mode: Mode, request_: Publish | Subscribe
) -> None:
    """``--size`` is that of the whole stream."""
    display = Display()
    progress = show_progress(display, Member(mode), ALICE, request_)

    assert progress
    progress.finish()
    assert "75%" in display.line


async def test_publisher_waits_then_sends() -> None:
    """The line follows the member's state."""
    router, display = Router(), Display()
    writer = join(router, Mode.PUBLISH, "alice")
    progress = Progress(display, writer, ALICE, 40)
    await display.wait(lambda line: "waits for 1 reader" in line)

    join(router, Mode.SUBSCRIBE, "bob")
    router.publish(writer, Chunk(b"x" * 10))
    line = await display.wait(lambda line: "10 B" in line)
    assert "25%" in line
    assert "1 reader" in line
    progress.finish()


@pytest.mark.parametrize(("caller", "who"), [(ALICE, "bob"), (BOB, "a reader")])
async def test_only_the_owner_learns_who_holds_it_up(caller: Caller, who: str) -> None:
    """Others are told that somebody does."""
    router, display = Router(), Display()
    writer = join(router, Mode.PUBLISH, caller.user)
    join(router, Mode.SUBSCRIBE, "bob", bound=1)
    router.publish(writer, Chunk(b"xyz"))
    progress = Progress(display, writer, caller, None)

    assert (await display.wait(bool)).endswith(f"held up by {who}")
    progress.finish()


async def test_publisher_waits_for_the_last_bytes() -> None:
    """After the end of its input it tells who has yet to finish."""
    router, display = Router(), Display()
    writer = join(router, Mode.PUBLISH, "alice")
    join(router, Mode.SUBSCRIBE, "bob")
    router.publish(writer, Chunk(b"xyz"))
    router.end(writer)
    progress = Progress(display, writer, ALICE, None)

    assert (await display.wait(bool)).endswith("1 reader, waits for bob to finish")
    progress.finish()


async def test_reader_sees_its_own_fault() -> None:
    """A clogged reader is told that it is the one."""
    router, display = Router(), Display()
    writer = join(router, Mode.PUBLISH, "alice")
    reader = join(router, Mode.SUBSCRIBE, "bob", bound=1)
    router.publish(writer, Chunk(b"xyz"))
    progress = Progress(display, reader, BOB, None)

    assert (await display.wait(bool)).endswith("1 publisher, held up by this reader")
    progress.finish()


async def test_reader_on_a_pattern_sees_topics() -> None:
    """It has no topic of its own, and learns of nobody there."""
    router, display = Router(), Display()
    sink = FakeSink(router)
    reader = sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    join(router, Mode.PIPE, "alice")
    pattern = parse_pattern("alice/*", caller="bob")
    assert isinstance(pattern, Pattern)
    router.join_pattern(reader, pattern, lambda _: True)
    progress = Progress(display, reader, BOB, None)

    assert (await display.wait(bool)).endswith("] 1 topic")
    progress.finish()


async def test_last_state_counts_what_is_on_its_way() -> None:
    """A reader's last line has all of the stream, and no state of affairs."""
    router, display = Router(), Display()
    writer = join(router, Mode.PUBLISH, "alice")
    reader = join(router, Mode.SUBSCRIBE, "bob", bound=1)
    router.publish(writer, Chunk(b"xyz"))
    progress = Progress(display, reader, BOB, 3)
    progress.finish()

    assert display.last
    assert display.line.startswith("      3 B 0:00:00 [")
    assert display.line.endswith("100%")
