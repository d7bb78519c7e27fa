"""The log drain: every line goes to its user and to admins, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pipe.events.listener import Listener
from pipe.events.logs.drain import (
    DROPPED,
    MAX_BACKLOG_BYTES,
    MISSED,
    OWN,
    WARN_SECONDS,
    LogDrain,
)
from pipe.events.logs.filters import Filter
from pipe.events.logs.followers import MAX_QUEUE_BYTES
from pipe.events.logs.lines import MAX_LINE_BYTES, Kind
from pipe.events.logs.rings import MAX_BYTES
from pipe.language.log_requests import MAX_LINES, Level
from pipe.stream.chunks import Chunk
from pipe.stream.router import Router
from tests.e2e.processes import DEADLINE
from tests.fakes import NAME, publisher
from tests.sessions import AtOnce

if TYPE_CHECKING:
    from pipe.events.logs.followers import Follower

ALL = Filter()


class Drained(LogDrain):
    """A drain with a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(AtOnce().do, lambda: self.now)

    async def settle(self) -> None:
        """Return once everything that came has been read."""
        async with asyncio.timeout(DEADLINE):
            while self._works:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0)

    async def feed(self, *lines: object) -> None:
        """Let lines come, objects as JSON, and wait until they have been read."""
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode()
            self.take(Chunk(data + b"\n"))
        await self.settle()


def read(follower: Follower) -> list[Any]:
    """What a follower can take."""
    return [json.loads(line) for line in follower.take(1 << 30).splitlines()]


def messages(follower: Follower) -> list[str]:
    """The same, only what they say."""
    return [line["msg"] for line in read(follower)]


def past(drain: LogDrain, user: str, most: int = MAX_LINES, wanted: Filter = ALL) -> list[str]:
    """What the last lines say."""
    return [json.loads(line)["msg"] for line in drain.past(user, wanted, most)]


async def test_everybody_gets_the_own_lines() -> None:
    """A line goes to its user and to who sees everybody's, at once and later, as it came."""
    drain = Drained()
    alice, bob, everybody = (drain.follow(user, ALL) for user in ("alice", "bob", ""))
    await drain.feed(
        {"msg": "a1", "user": "alice"},
        {"msg": "b1", "user": "bob"},
        {"msg": "c1", "user": "carol"},
        {"msg": "n1"},
        {"msg": "a2", "user": "alice", "more": [1, {"x": None}]},
    )
    assert read(alice) == [
        {"msg": "a1", "user": "alice"},
        {"msg": "a2", "user": "alice", "more": [1, {"x": None}]},
    ]
    assert messages(bob) == ["b1"]
    assert messages(everybody) == ["a1", "b1", "c1", "n1", "a2"]
    assert past(drain, "alice") == ["a1", "a2"]
    assert past(drain, "alice", 1) == ["a2"]
    assert past(drain, "alice", 0) == []
    assert past(drain, "dave") == []
    assert past(drain, "") == ["a1", "b1", "c1", "n1", "a2"]
    assert drain.counts == {"user": 4, "no-user": 1} | dict.fromkeys(
        ("hidden", "not-json", "too-long", "own", "dropped", "missed"), 0
    )


async def test_a_name_must_be_exact() -> None:
    """Nothing that only resembles a user's name reaches that user."""
    drain = Drained()
    alice = drain.follow("alice", ALL)
    names = ["Alice", "alice ", " alice", "alice\n", "alic\u0435", "alice\0", "", "ali"]
    await drain.feed(*({"msg": name, "user": name} for name in names))
    await drain.feed({"user": ["alice"]}, {"user": {"alice": 1}}, {"User": "alice"}, ["alice"])
    assert read(alice) == []
    assert past(drain, "alice") == []


async def test_hidden_lines_are_for_admins() -> None:
    """A hidden line reaches who sees everybody's or hidden ones, and is not kept for its user."""
    drain = Drained()
    alice, everybody = drain.follow("alice", ALL), drain.follow("", ALL)
    boss = drain.follow("alice", ALL, sees_hidden=True)
    await drain.feed({"msg": "secret", "user": "alice", "hidden": True})
    assert read(alice) == []
    assert past(drain, "alice") == []
    assert messages(everybody) == messages(boss) == ["secret"]
    assert drain.counts[Kind.HIDDEN.value] == 1


async def test_what_cannot_be_read_is_shown_to_admins() -> None:
    """What is no JSON, or too long, becomes a line for admins that shows the beginning of it."""
    drain = Drained()
    alice, everybody = drain.follow("alice", ALL), drain.follow("", ALL)
    await drain.feed(b"plain \x1b[2J text \xff", b"[" * 60_000)
    for _ in range(10):
        drain.take(Chunk(b"x" * (1 << 20)))
        await drain.settle()
    await drain.feed(b"", {"msg": "fine", "user": "alice"})
    assert messages(alice) == ["fine"]
    plain, deep, long, fine = read(everybody)
    assert plain["msg"] == deep["msg"] == "not a JSON object"
    assert plain["line"] == "plain \x1b[2J text \ufffd"
    assert long["msg"] == "line too long"
    assert len(long["line"]) < MAX_LINE_BYTES
    assert fine["msg"] == "fine"
    assert drain.counts["not-json"] == 2
    assert drain.counts["too-long"] == 1


async def test_filters() -> None:
    """A filter holds for lines to come and for those of late."""
    drain = Drained()
    wanted = Filter(Level.WARN, "web", b"disk")
    alice = drain.follow("alice", wanted)
    line = {"user": "alice", "level": "ERROR", "service": "web", "msg": "disk full"}
    others = [line | {"level": "INFO"}, line | {"service": "db"}, line | {"msg": "cpu"}]
    await drain.feed(*others, line)
    assert read(alice) == [line]
    assert past(drain, "alice", wanted=wanted) == ["disk full"]
    assert len(past(drain, "alice")) == 4


async def test_lines_of_a_time() -> None:
    """Lines of late can be those of so many seconds."""
    drain = Drained()
    for text in ("old", "new"):
        await drain.feed({"msg": text, "user": "alice"})
        drain.now += 60
    [line] = drain.past("alice", ALL, MAX_LINES, 90)
    assert b"new" in line


async def test_own_lines() -> None:
    """The server's own lines about a user go where the others go, topics and all."""
    drain = Drained()
    alice, errors = drain.follow("alice", ALL), drain.follow("alice", Filter(Level.ERROR))
    drain.tell("alice", "WARN", "webhook failed", {"topic": "alice/x", "tries": 3, "x": ALL})
    [line] = read(alice)
    assert (line["level"], line["service"], line["user"]) == ("WARN", "pipe", "alice")
    assert (line["topic"], line["tries"]) == ("alice/x", 3)
    assert read(errors) == []
    assert past(drain, "alice") == ["webhook failed"]
    assert drain.counts[OWN] == 1


async def test_strangers_cannot_push_lines_out() -> None:
    """What strangers do in a user's name is told once a minute, if the user has lines at all."""
    drain = Drained()
    drain.warn("alice", "login refused", {})
    assert past(drain, "") == []
    drain.tell("alice", "INFO", "hello", {})
    for _ in range(1000):
        drain.warn("alice", "login refused", {"address": "192.0.2.1"})
    assert past(drain, "alice") == ["hello", "login refused"]
    drain.now += WARN_SECONDS
    drain.warn("alice", "login refused", {"address": "192.0.2.1"})
    line = json.loads(drain.past("alice", ALL, 1)[0])
    assert (line["address"], line["more_before"]) == ("192.0.2.1", 999)


async def test_a_slow_follower_loses_lines_and_nobody_else() -> None:
    """One that takes nothing holds little and is told how much it missed; others get everything."""
    drain = Drained()
    slow, quick = drain.follow("alice", ALL), drain.follow("alice", ALL)
    count, got = 0, 0
    while drain.counts[MISSED] < 10:
        await drain.feed({"msg": "x" * 1000, "user": "alice"})
        count += 1
        got += len(read(quick))
    assert got == count
    assert count < MAX_QUEUE_BYTES // 1000 + 10
    *lines, last = read(slow)
    assert (last["msg"], last["level"], last["count"]) == ("lines dropped", "WARN", 10)
    assert len(lines) == count - 10


async def test_followers_are_told_once_for_many_lines() -> None:
    """However many lines come at a time, a follower is told once, and of later ones again."""
    drain = Drained()
    alice = drain.follow("alice", ALL)
    woken = asyncio.Event()
    times = 0

    def wake() -> None:
        nonlocal times
        times += 1
        woken.set()

    alice.connect(wake)
    for expected in (1, 2):
        await drain.feed(*[{"user": "alice", "msg": "x"}] * 100)
        await woken.wait()
        woken.clear()
        assert times == expected
        assert len(read(alice)) == 100
    alice.close()
    await drain.feed({"user": "alice"})
    assert not drain._followers  # noqa: SLF001 - nothing else shows that it is let go


async def test_a_backlog_that_is_full() -> None:
    """What comes too fast is dropped and counted; the lines after it are whole again."""
    drain = Drained()
    everybody = drain.follow("", Filter(text=b"msg"))
    line = json.dumps({"msg": "x" * 60_000}).encode() + b"\n"
    for _ in range(MAX_BACKLOG_BYTES // 60_000):
        drain.take(Chunk(line))
    assert drain._backlog_bytes < MAX_BACKLOG_BYTES + len(line) + 1000  # noqa: SLF001
    for _ in range(1000):
        drain.take(Chunk(b"{}\n" * 10))
        drain.ended(0, broken=False)
    assert len(drain._backlog) < MAX_BACKLOG_BYTES // 60_000 + 10  # noqa: SLF001
    while drain._works:  # noqa: SLF001
        await asyncio.sleep(0)
        read(everybody)
    assert drain.counts[DROPPED] == 10_000
    assert not drain.clogged
    await drain.feed(b"the rest of a line", {"msg": "after"})
    lines = [json.loads(line) for line in drain.past("", ALL, 2)]
    assert lines[0]["msg"] == "log drain is full: lines dropped"
    assert lines[0]["count"] == 10_000
    assert lines[1]["msg"] == "after"


async def test_a_crowd_of_users() -> None:
    """A user more in each line costs no more memory than allowed, and pushes out no follower."""
    drain = Drained()
    alice = drain.follow("alice", ALL)
    drain.take(Chunk(b"".join(b'{"user":"u%d"}\n' % number for number in range(20_000))))
    await drain.feed({"user": "alice", "msg": "still here"}, {"user": "x" * 60_000, "msg": "long"})
    assert messages(alice) == ["still here"]
    assert drain._rings.size <= MAX_BYTES  # noqa: SLF001 - what it holds


async def test_it_reads_its_topic() -> None:
    """It reads what is published on the topic, each stream's last line too, without a newline."""
    router, drain = Router(), Drained()
    listener = Listener(router, NAME, drain.take, drain.ended)
    listener.start()
    alice = drain.follow("alice", ALL)
    for text in ("one", "two"):
        source = publisher(router, NAME)
        source.send(json.dumps({"msg": text, "user": "alice"}))
        source.end()
        await drain.settle()
    assert messages(alice) == ["one", "two"]
    assert not any(router.statistics().sessions.values())
    listener.stop()
    assert not router.names()


async def test_who_is_removed_leaves_nothing() -> None:
    """The lines of a user who is no more are gone, and whoever takes the name sees none."""
    drain = Drained()
    await drain.feed({"user": "alice", "msg": "x"})
    drain.forget("alice")
    assert past(drain, "alice") == []
