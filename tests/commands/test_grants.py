"""``grant``, ``revoke``, ``grants``: what they say, and what they change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipe.commands.layout import WIDTH
from pipe.errors import AccessDenied, Outcome, PipeError, StoreError, UsageError
from pipe.language.names import parse_topic
from pipe.stream.ports import Mode
from tests.sessions import fingerprint

if TYPE_CHECKING:
    from tests.sessions import People

BOBS_KEY = fingerprint("bob")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("grant build bob", "bob may read and write alice/build\n"),
        ("grant build bob carol --read", "bob and carol may read alice/build\n"),
        ("grant alice/build bob --write", "bob may write alice/build\n"),
        ("grant build bob --read --write", "bob may read and write alice/build\n"),
        ("grant build @users --for 1h30m", "everyone with an account may read and write"
         " alice/build, for 1h30m\n"),
        (f"grant build {BOBS_KEY}", f"{BOBS_KEY} may read and write alice/build\n"),
    ],
)  # fmt: skip
async def test_grant_says_what_it_did(people: People, command: str, text: str) -> None:
    """One line says who may do what from now on."""
    assert await people.run("alice", command) == text


@pytest.mark.parametrize(
    ("user", "command", "error", "message"),
    [
        ("bob", "grant alice/build bob", AccessDenied, "only alice can share alice/build"),
        ("bob", "revoke alice/build carol", AccessDenied, "only alice can share alice/build"),
        ("bob", "grant nobody/build bob", AccessDenied, "only nobody can share nobody/build"),
        ("alice", "grant public/build bob", UsageError, "is open to every user already"),
        ("alice", "grant build alice bob", UsageError, "alice owns alice/build and needs no grant"),
        ("alice", "grant build dave", StoreError, "no user 'dave'"),
        ("alice", "grant 'b*' bob", UsageError, "patterns work only with sub and ls"),
        ("alice", "revoke build bob", UsageError, "'bob' had no grant on alice/build"),
    ],
)
async def test_mistakes(
    people: People, user: str, command: str, error: type[PipeError], message: str
) -> None:
    """What cannot be done is said in one line, and changes nothing."""
    with pytest.raises(error) as caught:
        await people.run(user, command)

    assert message in caught.value.message
    assert caught.value.message.isprintable()
    assert "no grants" in await people.run("alice", "grants")


async def test_admin_grants_for_others(people: People) -> None:
    """An admin may grant in any space, and that is noted."""
    await people.run("boss", "grant alice/build bob", admin=True)

    assert "by boss" in await people.run("alice", "grants")


async def test_revoke_says_what_it_did(people: People) -> None:
    """Those who had a grant lose it, also where somebody else had none."""
    await people.run("alice", "grant build bob carol @users")
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    assert await people.run("alice", "revoke build @users carol") == (
        "everyone with an account and carol may no longer use alice/build\n"
    )
    assert bob.ended is None
    with pytest.raises(UsageError) as caught:
        await people.run("alice", "revoke build bob bobb")

    assert caught.value.message == (
        "bob may no longer use alice/build; but 'bobb' had no grant on alice/build"
    )
    assert bob.ended == (Outcome.DENIED, "its owner revoked it")


async def test_revoke_says_what_is_left(people: People) -> None:
    """Whoever gets in all the same is mentioned: nobody shall think that the door is shut."""
    people.on("alice", Mode.SUBSCRIBE, "build", "bob")
    await people.run("alice", "grant build bob carol")
    await people.run("alice", "grant build @users --read")
    text = await people.run("alice", "revoke build bob carol")

    assert text == (
        "bob and carol may no longer use alice/build\n"
        "everyone with an account may still read it (@users)\n"
        "a session that shares it with bob goes on (--access)\n"
    )


async def test_grants_for_both_sides(people: People) -> None:
    """`grants` shows the owner what was given, and the others what they have, and why."""
    await people.run("alice", "grant build bob --read")
    await people.run("alice", f"grant alice/a/b {BOBS_KEY} --for 1d")
    await people.run("alice", "grant all @users --write")

    hers = (await people.run("alice", "grants")).splitlines()
    assert max(map(len, hers)) <= WIDTH
    assert [line.split() for line in hers[::2]] == [
        ["TOPIC", "WHO", "MAY"],
        ["alice/a/b", BOBS_KEY, "read", "and", "write"],
        ["alice/all", "@users", "write"],
        ["alice/build", "bob", "read"],
    ]
    assert hers[1].split() == ["UNTIL", "GRANTED"]
    assert [line.split()[0] for line in hers[5::2]] == ["revoked", "revoked"]
    his = [" ".join(line.split()[:3]) for line in (await people.run("bob", "grants")).splitlines()]
    assert his[2::2] == ["alice/build you read", "alice/a/b your key", "alice/all @users write"]
    assert "build" not in await people.run("carol", "grants")


async def test_grants_for_programs(people: People) -> None:
    """`grants --json` has one object a line."""
    assert await people.run("alice", "grants --json") == ""
    await people.run("alice", "grant build bob --read --for 1h")
    [row] = map(json.loads, (await people.run("bob", "grants --json")).splitlines())

    assert row["until"] - row["created"] == pytest.approx(3600)
    assert {name: row[name] for name in ("topic", "grantee", "read", "write", "given")} == {
        "topic": "alice/build",
        "grantee": "bob",
        "read": True,
        "write": False,
        "given": False,
    }


async def test_grants_without_any(people: People) -> None:
    """Where there are none, it says how to give one."""
    assert await people.run("alice", "grants") == (
        "no grants; give one: ssh -p 2222 alice@example.org grant TOPIC WHO\n"
    )


async def test_grant_opens_patterns(people: People) -> None:
    """A pattern takes in a topic as soon as it is granted, and loses it when it is revoked."""
    writer = people.on("alice", Mode.PUBLISH, "build")
    reader = people.on("bob", Mode.SUBSCRIBE, "alice/*")
    assert writer.source
    assert reader.sink
    assert writer.source.waiting == 1
    await people.run("alice", "grant build bob --read")
    writer.source.send("granted")
    reader.sink.drain()
    await people.run("alice", "revoke build bob")
    writer.source.send("revoked")

    assert reader.ended is None
    assert reader.sink.text == "granted"
    assert reader.sink.pending == 0
    assert writer.source.waiting == 1


async def test_revoke_stops_a_stream_at_once(people: People) -> None:
    """Who is cut off gets nothing of what waits, and the writer goes on for the others."""
    await people.run("alice", "grant build bob carol --read")
    writer = people.on("alice", Mode.PUBLISH, "build")
    readers = [people.on(user, Mode.SUBSCRIBE, "alice/build", bound=4) for user in ("bob", "carol")]
    bob, carol = (session.sink for session in readers)
    assert writer.source
    assert bob
    assert carol
    writer.source.send("1234", "5678")  # the second one waits
    carol.drain()
    await people.run("alice", "revoke build bob")
    carol.drain()

    assert carol.text == "12345678"
    assert [chunk.data for chunk in bob.taken] == [b"1234"]
    assert people.service.access.grants_on(parse_topic("build", caller="alice")).keys() == {"carol"}
