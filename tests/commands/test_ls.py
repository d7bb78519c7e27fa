"""``ls``: who sees which topic, and what it says of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from pipe.commands import ls as ls_module
from pipe.rights.access import Access
from pipe.rights.live import LiveSession
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller
    from tests.sessions import People


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are not what these tests are about."""
    monkeypatch.setattr(ls_module, "RATE_INTERVAL_SECONDS", 0.001)


async def topics(
    people: People, user: str, command: str = "ls", *, admin: bool = False
) -> list[str]:
    """The names in the first column."""
    text = await people.run(user, command, admin=admin)
    return [line.split()[0] for line in text.splitlines()[1:]]


async def test_who_sees_what(people: People) -> None:
    """Own topics, public ones and shared ones are seen, own ones first, and no others."""
    people.on("alice", Mode.SUBSCRIBE, "mine")
    people.on("alice", Mode.SUBSCRIBE, "alice/deep/er")
    people.on("bob", Mode.SUBSCRIBE, "his")
    people.on("bob", Mode.SUBSCRIBE, "listed", "alice")
    people.on("bob", Mode.SUBSCRIBE, "aa-readable")
    people.on("bob", Mode.SUBSCRIBE, "writable")
    people.on("bob", Mode.SUBSCRIBE, "public/open")
    people.on("bob", Mode.SUBSCRIBE, "public/closed", "carol")
    await people.run("bob", "grant aa-readable alice --read")
    await people.run("bob", "grant writable alice --write")

    assert await topics(people, "alice") == [
        "alice/deep/er",
        "mine",
        "bob/aa-readable",
        "bob/listed",
        "bob/writable",
        "public/open",
    ]
    assert await topics(people, "alice", "ls 'bob/*'") == [
        "bob/aa-readable",
        "bob/listed",
        "bob/writable",
    ]
    assert await topics(people, "alice", "ls mine") == ["mine"]
    assert await topics(people, "carol") == ["public/closed", "public/open"]


async def test_admin_sees_all_who_asks(people: People) -> None:
    """An admin sees every space with `ls '**'`, and is not bothered with them otherwise."""
    people.on("alice", Mode.SUBSCRIBE, "mine")
    people.on("bob", Mode.SUBSCRIBE, "public/closed", "carol")

    assert await topics(people, "boss", "ls '**'", admin=True) == ["alice/mine", "public/closed"]
    assert await people.run("boss", "ls", admin=True) == (
        "no topics; make one: ssh -p 2222 boss@example.org pub NAME\n"
    )
    assert await topics(people, "boss", "ls '**'") == []


async def test_table_is_aligned_and_says_who_waits(people: People) -> None:
    """Columns line up; the owner learns who waits and who is clogged, for how long, by name."""
    await people.run("alice", "grant build bob carol")
    waiting = people.on("bob", Mode.PUBLISH, "alice/build")
    text = await people.run("alice", "ls")
    header, row = text.splitlines()
    assert row.index("1") == header.index("PUB")
    assert row.endswith("  bob waiting")
    people.on("carol", Mode.SUBSCRIBE, "alice/build", bound=2048)
    assert waiting.source
    waiting.source.send(b"x" * 3000)
    [_, row] = (await people.run("alice", "ls")).splitlines()
    assert row.endswith("  2.9 KiB so far, carol clogged for 0s")

    [_, row] = (await people.run("bob", "ls")).splitlines()
    assert row.endswith("  2.9 KiB so far, 1 reader clogged for 0s")
    assert "carol" not in row


async def test_for_programs(people: People) -> None:
    """`ls --json` has one object a line, and none where there is no topic."""
    assert await people.run("alice", "ls --json") == ""
    writer = people.on("alice", Mode.PUBLISH, "build")
    people.on("alice", Mode.SUBSCRIBE, "build")
    assert writer.source
    writer.source.send("four")
    [row] = map(json.loads, (await people.run("alice", "ls --json")).splitlines())

    assert row == {
        "topic": "alice/build",
        "publishers": 1,
        "subscribers": 1,
        "pipes": 0,
        "waiting": 0,
        "clogged": 0,
        "clogged_seconds": None,
        "in_bytes_per_second": 0,
        "out_bytes_per_second": 0,
        "in_bytes": 4,
        "out_bytes": 0,
        "stream_bytes": 4,
        "kept": None,
    }


async def test_pattern_that_matches_nothing(people: People) -> None:
    """Nothing to show is no error, and what was asked is repeated safely."""
    text = await people.run("alice", "ls 'alice/no*'")

    assert text.startswith("no topics match 'alice/no*'; ")


async def test_many_topics_hold_nobody_up(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask about however many topics, a turn of the event loop sees to a few."""
    looks = 0
    sees = Access.sees

    def count(access: Access, caller: Caller, topic: TopicName) -> bool:
        nonlocal looks
        looks += 1
        return sees(access, caller, topic)

    monkeypatch.setattr(Access, "sees", count)
    for number in range(200):
        people.on("alice", Mode.SUBSCRIBE, f"public/{number}")
    answers = asyncio.gather(*[people.run(user, "ls") for user in ("alice", "bob", "carol")])
    most = 0
    while not answers.done():
        before = looks
        await asyncio.sleep(0)
        most = max(most, looks - before)

    assert [len(text.splitlines()) for text in await answers] == [201] * 3
    assert most <= ls_module.TURN_TOPICS


class CountedSessions(dict[LiveSession, None]):
    """Sessions that count how often somebody goes through all of them."""

    passes = 0

    def __iter__(self) -> Iterator[LiveSession]:
        self.passes += 1
        return super().__iter__()


async def test_sessions_are_gone_through_once(people: People) -> None:
    """Many topics with somebody who waits take one pass over all sessions, not one each."""
    for number in range(50):
        people.on("alice", Mode.PUBLISH, f"topic-{number}")
    sessions = people.service.sessions = CountedSessions(people.service.sessions)

    text = await people.run("alice", "ls")

    assert text.count("alice waiting") == 50
    assert sessions.passes == 1
