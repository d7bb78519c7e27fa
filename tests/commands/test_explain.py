"""``explain``: what one may do with a topic, by which rule, and who is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipe.commands.layout import WIDTH
from pipe.stream.ports import Mode
from tests.sessions import fingerprint

if TYPE_CHECKING:
    from tests.sessions import People


async def lines(people: People, user: str, command: str, *, admin: bool = False) -> list[str]:
    """The answer's lines."""
    return (await people.run(user, command, admin=admin)).splitlines()


async def test_own_topic(people: People) -> None:
    """The owner learns the full name, the rule, with whom it is shared, and that nobody is on."""
    await people.run("alice", "grant build bob --read")
    assert await lines(people, "alice", "explain build") == [
        "topic    alice/build",
        "read     yes: you are its owner",
        "write    yes: you are its owner",
        "shared   bob may read",
        "members  none",
    ]


async def test_long_line(people: People) -> None:
    """What does not fit a line goes on in the next, set apart from the next entry."""
    await people.run("alice", f"grant build {fingerprint('carol')} --for 1d")
    await people.run("alice", "grant build bob")
    text = await people.run("alice", "explain build")

    assert max(map(len, text.splitlines())) <= WIDTH
    [who, until] = text.splitlines()[3:5]
    assert who == f"shared   {fingerprint('carol')} may read and write"
    assert until.startswith("           until 2")
    assert "\n         bob may read and write\n" in text


async def test_grantee(people: People) -> None:
    """Who was granted something learns what, by which rule and until when, and not who is on."""
    await people.run("alice", "grant build bob --read --for 10m")
    people.on("alice", Mode.PUBLISH, "build")
    text = await lines(people, "bob", "explain alice/build")

    assert text[0] == "topic    alice/build"
    assert text[1].startswith("read     yes: it was granted to you, until 20")
    assert text[2:] == ["write    no: its owner does not share it with you", "members  1 publisher"]


@pytest.mark.parametrize("exists", [True, False])
async def test_stranger(people: People, exists: bool) -> None:
    """Who may do nothing learns nothing, not even whether the topic exists."""
    if exists:
        people.on("alice", Mode.PUBLISH, "build", "carol")
    assert await lines(people, "bob", "explain alice/build") == [
        "topic    alice/build",
        "read     no: its owner does not share it with you",
        "write    no: its owner does not share it with you",
    ]


@pytest.mark.parametrize(
    ("user", "admin", "rule"),
    [
        ("carol", False, "a session of its owner shares it with you"),
        ("boss", True, "you are an admin"),
    ],
)
async def test_rules(people: People, user: str, admin: bool, rule: str) -> None:
    """The rule that decided is named."""
    people.on("alice", Mode.SUBSCRIBE, "build", "carol")
    text = await lines(people, user, "explain alice/build", admin=admin)

    assert text[1:3] == [f"read     yes: {rule}", f"write    yes: {rule}"]


async def test_owner_learns_who_is_there(people: People) -> None:
    """Each session has a line with its user, address and what it has moved, and one for its key."""
    await people.run("alice", "grant build bob carol")
    people.on("bob", Mode.PUBLISH, "alice/build")
    text = await lines(people, "alice", "explain build")

    assert "members  1 publisher" in text
    assert text[-2].split()[:3] == ["bob", "publish", "bob.example:40000"]
    assert text[-2].endswith("waits for 1 subscriber")
    assert text[-1] == f"  {fingerprint('bob')}"
    assert max(map(len, text)) <= WIDTH


async def test_how_far_a_stream_is(people: People) -> None:
    """Whoever may see the topic learns how much went by, and whether one may still join."""
    writer = people.on("alice", Mode.PUBLISH, "build", "bob")
    people.on("alice", Mode.SUBSCRIBE, "build")
    assert writer.source
    assert "stream" not in await people.run("bob", "explain alice/build")
    writer.source.send("x" * 17_000)
    his = await lines(people, "bob", "explain alice/build")
    assert his[-1] == "stream   17,000 bytes so far; who joins now gets the rest"
    topic = writer.source.member.topic
    assert topic
    topic.wholes[writer.source.member] = None
    his = await lines(people, "bob", "explain alice/build")
    assert his[-1] == "stream   17,000 bytes so far; nobody may join any more (--whole)"
    facts = json.loads(await people.run("bob", "explain alice/build --json"))
    assert (facts["stream_bytes"], facts["shut"]) == (17_000, True)
    assert "stream_bytes" not in json.loads(await people.run("carol", "explain alice/build --json"))


async def test_owner_learns_who_stalls(people: People) -> None:
    """Whoever holds the stream up is named to the owner, and to nobody else."""
    await people.run("alice", "grant build bob carol")
    writer = people.on("bob", Mode.PUBLISH, "alice/build")
    people.on("carol", Mode.SUBSCRIBE, "alice/build", bound=4)
    people.on("alice", Mode.SUBSCRIBE, "alice/*")
    assert writer.source
    writer.source.send("123456")
    text = await people.run("alice", "explain build")

    assert "members  1 publisher, 2 subscribers\n" in text
    assert text.endswith("\ncarol (carol.example:40000) holds the stream up: clogged for 0s\n")
    assert "held up" in text
    his = await people.run("bob", "explain alice/build")
    assert "carol" not in his
    assert "members  1 publisher, 2 subscribers\n" in his


async def test_for_programs(people: People) -> None:
    """`explain --json` is one object, with sessions for the owner alone."""
    people.on("alice", Mode.SUBSCRIBE, "build", "bob")
    hers = json.loads(await people.run("alice", "explain build --json"))
    his = json.loads(await people.run("bob", "explain alice/build --json"))
    theirs = json.loads(await people.run("carol", "explain alice/build --json"))

    assert hers["read"] == {"allowed": True, "rule": "owner", "until": None}
    assert [session["user"] for session in hers["sessions"]] == ["alice"]
    assert (his["read"]["rule"], his["members"]) == ("owner_list", 1)
    assert "sessions" not in his
    assert theirs["write"] == {"allowed": False, "rule": "private", "until": None}
    assert "members" not in theirs
