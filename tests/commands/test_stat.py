"""``stat`` and ``top``: who sees which members, and how answers follow each other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from pipe.commands import latest, ls, stat
from pipe.commands.following import follow
from pipe.commands.screen import Screen, no_screen
from pipe.errors import AccessDenied, BadName
from pipe.language.progress_requests import Stat, Top
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from tests.e2e.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipe.commands.latest import Latest
    from tests.sessions import People


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers may come at once."""
    monkeypatch.setattr(ls, "RATE_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(stat, "RATE_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(latest, "FOLLOW_SECONDS", 0.001)


async def members(people: People, user: str, topic: str, *, admin: bool = False) -> dict[str, Any]:
    """What ``stat --json`` prints."""
    found: dict[str, Any] = json.loads(await people.run(user, f"stat --json {topic}", admin=admin))
    return found


async def test_owner_sees_all_members(people: People) -> None:
    """With their figures, the clogged ones first."""
    await people.run("alice", "grant build bob")
    writer = people.on("alice", Mode.PUBLISH, "build")
    people.on("bob", Mode.SUBSCRIBE, "alice/build", bound=3)
    assert writer.member
    people.service.router.publish(writer.member, Chunk(b"four"))
    found = await members(people, "alice", "build")

    assert (found["topic"], found["members"]) == ("alice/build", 2)
    bob, alice = found["sessions"]
    assert (bob["user"], bob["mode"], bob["clogged"]) == ("bob", "subscribe", True)
    assert (alice["user"], alice["in_bytes"], alice["held_up"]) == ("alice", 4, True)
    assert "held up by bob" in await people.run("alice", "stat build")


async def test_others_see_their_own_members(people: People) -> None:
    """And how many there are; neither who the others are nor who is clogged."""
    await people.run("alice", "grant build bob")
    writer = people.on("bob", Mode.PUBLISH, "alice/build")
    people.on("alice", Mode.SUBSCRIBE, "build", bound=3)
    assert writer.member
    people.service.router.publish(writer.member, Chunk(b"four"))
    found = await members(people, "bob", "alice/build")

    assert found["members"] == 2
    assert [row["user"] for row in found["sessions"]] == ["bob"]
    text = await people.run("bob", "stat alice/build")
    assert "1 publisher, 1 subscriber" in text
    assert "alice.example" not in text
    assert "held up by" not in text


async def test_admins_see_all_members(people: People) -> None:
    """Of everybody's topics."""
    people.on("alice", Mode.SUBSCRIBE, "build")

    found = await members(people, "boss", "alice/build", admin=True)
    assert [row["user"] for row in found["sessions"]] == ["alice"]


@pytest.mark.parametrize("topic", ["alice/build", "alice/nothing"])
async def test_denied_whether_it_exists_or_not(people: People, topic: str) -> None:
    """Who may neither read nor write learns nothing."""
    people.on("alice", Mode.SUBSCRIBE, "build")

    with pytest.raises(AccessDenied, match=f"^access denied: {topic} is not shared with you$"):
        await people.run("bob", f"stat {topic}")
    with pytest.raises(AccessDenied):
        follow(people.service, people.caller("bob"), Stat(topic, follow=True), no_screen)


async def test_nobody_there(people: People) -> None:
    """A topic of one's own that does not exist has no members."""
    assert await people.run("alice", "stat build") == "topic    alice/build\nmembers  none\n"


async def test_no_more_members_than_fit(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted."""
    monkeypatch.setattr(stat, "MAX_MEMBERS", 1)
    for _ in range(3):
        people.on("alice", Mode.SUBSCRIBE, "build")

    assert "and 2 members more" in await people.run("alice", "stat build")
    found = await members(people, "alice", "build")
    assert (found["members"], len(found["sessions"])) == (3, 1)


class Reader:
    """Takes answers."""

    def __init__(self, answers: Latest) -> None:
        self._answers = answers
        self._woken = asyncio.Event()
        answers.connect(self._woken.set)

    async def take(self) -> str:
        """Take the next one."""
        async with asyncio.timeout(DEADLINE):
            while not (text := self._answers.take(0)):
                self._woken.clear()
                await self._woken.wait()
        return text.decode()


@contextlib.asynccontextmanager
async def following(
    people: People,
    request: Stat | Top,
    screen: Callable[[], Screen | None] = no_screen,
) -> AsyncIterator[Reader]:
    """Somebody follows."""
    answers = follow(people.service, people.caller("alice"), request, screen)
    reader = Reader(answers)
    task = asyncio.create_task(answers.look())
    yield reader
    task.cancel()
    answers.close()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("request_", [Stat("build", follow=True), Top()])
async def test_answers_follow_each_other(people: People, request_: Stat | Top) -> None:
    """Each says how things are by then."""
    async with following(people, request_) as reader:
        await reader.take()
        people.on("alice", Mode.SUBSCRIBE, "build")
        while "build" not in (text := await reader.take()) or "none" in text:
            pass


async def test_answer_that_nobody_takes_is_the_last(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that takes nothing costs nothing: no other answer is made until it does."""
    made = naps = 0
    slept, real_sleep = asyncio.Event(), asyncio.sleep

    class Counting(stat.MemberLooks):
        async def make(self) -> str:
            nonlocal made
            made += 1
            return await super().make()

    async def sleep(_: float) -> None:
        nonlocal naps
        naps += 1
        if naps > 5:
            slept.set()
        await real_sleep(0)

    answers = Counting(people.service, people.caller("alice"), Stat("build", follow=True))
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        task = asyncio.create_task(answers.look())
        async with asyncio.timeout(DEADLINE):
            await slept.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert made == 1


async def test_follower_whose_right_ends(people: People) -> None:
    """It ends with its right, in the words of a refusal."""
    await people.run("alice", "grant build bob")
    request = Stat("alice/build", follow=True)
    answers = follow(people.service, people.caller("bob"), request, no_screen)

    def take() -> None:
        answers.take(0)

    answers.connect(take)
    task = asyncio.create_task(answers.look())
    await people.run("alice", "revoke build bob")

    with pytest.raises(AccessDenied, match="alice/build is not shared with you"):
        await asyncio.wait_for(task, DEADLINE)


async def test_top_shows_no_topics_of_others(people: People) -> None:
    """It is `ls`, again and again."""
    people.on("bob", Mode.SUBSCRIBE, "secret")
    people.on("alice", Mode.SUBSCRIBE, "build")
    async with following(people, Top(json=True)) as reader:
        assert [row["topic"] for row in json.loads(await reader.take())] == ["alice/build"]


async def test_json_is_not_drawn(people: People) -> None:
    """A terminal gets lines too, if they are JSON."""
    screen = Screen(80, 24)
    async with following(people, Top(json=True), screen=lambda: screen) as reader:
        assert await reader.take() == "[]\n"
    async with following(people, Top(), screen=lambda: screen) as reader:
        assert (await reader.take()).startswith("\x1b[Hno topics")


async def test_top_refuses_what_is_no_pattern(people: People) -> None:
    """Before it has begun."""
    with pytest.raises(BadName):
        follow(people.service, people.caller("alice"), Top("a//b"), no_screen)
