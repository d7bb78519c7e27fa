"""``hooks``, ``hooks add``, ``rm``, ``rotate``, ``test``: what they say, and what they change."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pipe.commands.layout import WIDTH
from pipe.errors import AccessDenied, PipeError, StoreError, UsageError, WebOff
from pipe.events import announcer
from pipe.events.hooks.deliveries import Delivery, Result
from pipe.events.hooks.verify import digest
from pipe.language.hook_requests import HookKind
from pipe.rights.callers import NO_BACKING
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from tests.sessions import People


async def listed(people: People, user: str = "alice") -> list[dict[str, Any]]:
    """What programs are told of a user's hooks."""
    text = await people.run(user, "hooks --json")
    return [json.loads(line) for line in text.splitlines()]


async def made(people: People, words: str, user: str = "alice") -> str:
    """Make a hook, and return its ID."""
    text = await people.run(user, f"hooks add {words}")
    found = re.search("/hook/([a-z2-7]{12})", text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("kind", HookKind)
async def test_add_prints_url_and_secret(people: People, kind: HookKind) -> None:
    """They are all that is on stdout; stderr says where to give them, and how to end it."""
    text = await people.run("alice", f"hooks add x --kind {kind.value} --hold 10m --name 'a b'")
    url, *secrets = text.splitlines()
    number = url.split("/")[4]
    assert url.startswith(f"{people.service.web_url}/hook/{number}")
    hook = await people.service.store.hooks.find(number)
    assert hook
    assert (hook.user, hook.target, hook.hold, hook.name) == ("alice", "alice/x", 600, "a b")
    assert hook.kind is kind
    if kind.has_secret_in_path:
        assert not secrets
        assert hook.secret == digest(url.split("/")[5])
    else:
        [secret] = secrets
        assert hook.secret == (secret if kind.is_signed else digest(secret))
    once, where = people.said
    assert "only time" in once
    assert f"'hooks rm {number}'" in once
    assert where.startswith("give it ")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("a//b", UsageError, "empty segment"),
        ("'a*'", UsageError, "patterns work only"),
        ("/ --kind quay", UsageError, "starts with a '/'"),
        ("// --kind quay", UsageError, "starts with a '/'"),
        ("Bob/ --kind quay", UsageError, "its owner"),
        ("bob/", UsageError, "kind generic needs a topic"),
        ("bob/ --kind quay", AccessDenied, "only bob has all of bob/"),
        ("bob/x", AccessDenied, "bob/x is not shared with you to write"),
        ("x --hold 25h", UsageError, "an event waits for 1d at most"),
        ("x --kind svn", UsageError, "it takes distribution, github, "),
        ("x --name '\x1b'", UsageError, "a name has at most 64"),
    ],
)
async def test_what_cannot_be(
    people: People, words: str, error: type[PipeError], message: str
) -> None:
    """What has no sense or no place is refused in a line, and nothing is made."""
    with pytest.raises(error, match=message) as caught:
        await people.run("alice", f"hooks add {words}")
    assert caught.value.message.isprintable()
    assert await listed(people) == []


async def test_who_may(people: People) -> None:
    """A grant to the user is enough, one to the key is not; an admin may everywhere."""
    fingerprint = people.caller("alice").fingerprint
    await people.run("bob", f"grant x {fingerprint}")
    with pytest.raises(AccessDenied, match="a grant to you, not to your key"):
        await people.run("alice", "hooks add bob/x")
    await people.run("bob", "grant x alice --write")
    await made(people, "bob/x")
    await people.run("boss", "hooks add bob/ --kind quay", admin=True)
    await made(people, "public/ --kind quay")
    await made(people, "alice/ci/ --kind quay")


async def test_restricted_logins_make_none(people: People) -> None:
    """One whose certificate holds it to an address makes nothing that is not held to it."""
    caller = dataclasses.replace(people.caller("alice"), backing=NO_BACKING)
    with pytest.raises(AccessDenied, match="nothing would hold a hook"):
        await people.run("alice", "hooks add x", caller=caller)


async def test_without_pages_there_are_none(people: People) -> None:
    """Where nothing can be delivered, none can be made."""
    people.service.web_url = ""
    with pytest.raises(WebOff):
        await people.run("alice", "hooks add x")


async def test_list(people: People) -> None:
    """They are told with what came of their deliveries, newest first, and fit a terminal."""
    assert "no hooks; make one" in await people.run("alice", "hooks")
    first = await made(people, "alice/ --kind distribution --name 'the registry of ours'")
    second = await made(people, "x --hold 10m")
    await made(people, "x", user="bob")
    hook = await people.service.store.hooks.find(second)
    assert hook
    for number in range(3):
        delivery = Delivery(1e9 + number, Result.PUBLISHED, 100, 1, 2)
        people.service.hooks.note(hook, delivery, 0.0)
    rows = await listed(people)
    assert [row["id"] for row in rows] == [first, second]
    assert [row["topic"] for row in rows] == ["alice/", "alice/x"]
    assert [row["kind"] for row in rows] == ["distribution", "generic"]
    assert [row["hold"] for row in rows] == [0, 600]
    assert rows[0]["deliveries"] == []
    assert [one["time"] for one in rows[1]["deliveries"]] == [1e9 + 2, 1e9 + 1, 1e9]
    assert rows[1]["deliveries"][0] == {
        "time": 1e9 + 2,
        "result": "published",
        "size": 100,
        "events": 1,
        "readers": 2,
        "detail": "",
        "times": 1,
    }
    text = await people.run("alice", "hooks")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "the registry of ours" in text
    assert "published" in text


async def test_remove(people: People) -> None:
    """The start of the ID is enough, and nothing is left of it."""
    number = await made(people, "x")
    with pytest.raises(StoreError, match="no hook begins"):
        await people.run("bob", f"hooks rm {number}")
    assert f"removed hook {number}" in await people.run("alice", f"hooks rm {number[:6]}")
    assert await listed(people) == []


async def test_rotate(people: People) -> None:
    """Another secret is shown, and the old one counts no more."""
    first = (await people.run("alice", "hooks add x")).splitlines()
    number = first[0].rpartition("/")[2]
    second = (await people.run("alice", f"hooks rotate {number[:4]}")).splitlines()
    assert second[0] == first[0]
    assert second[1] != first[1]
    hook = await people.service.store.hooks.find(number)
    assert hook
    assert hook.secret == digest(second[1])


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        ("x", "alice/x"),
        ("alice/ --kind quay", "alice/hook-test:latest"),
        ("alice/ci/ --kind quay", "alice/ci/hook-test:latest"),
    ],
)
async def test_test(people: People, words: str, topic: str) -> None:
    """A test event is one like others, and it is told who got it."""
    number = await made(people, words)
    text = await people.run("alice", f"hooks test {number}")
    assert text == f"published a test event on {topic}, and nobody reads it now\n"
    reader = people.on("alice", Mode.SUBSCRIBE, topic, bound=10_000)
    text = await people.run("alice", f"hooks test {number}")
    assert text == f"published a test event on {topic}: 1 reader got it\n"
    assert reader.sink
    [chunk] = reader.sink.taken
    event = json.loads(bytes(chunk.data))
    assert (event["event"], event["by"]) == ("test", "alice")
    reader.leave()


async def test_test_may_wait(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where events wait for a reader, so do those that are a test, and no more than others."""
    monkeypatch.setattr(announcer, "MAX_WAITING", 1)
    number = await made(people, "x --hold 1h30m")
    text = await people.run("alice", f"hooks test {number}")
    assert text == "a test event waits on alice/x for a reader, 1h30m at most\n"
    with pytest.raises(PipeError, match="too many events wait for readers of alice/x"):
        await people.run("alice", f"hooks test {number}")
    reader = people.on("alice", Mode.SUBSCRIBE, "x", bound=10_000)
    assert reader.sink
    assert len(reader.sink.taken) == 1
    reader.leave()


async def test_rights_are_judged_at_each_event(people: People) -> None:
    """A hook on another's topic publishes as long as its user may, and what waits as well."""
    await people.run("bob", "grant x alice --write")
    number = await made(people, "bob/x --hold 1h")
    assert "waits on bob/x" in await people.run("alice", f"hooks test {number}")
    await people.run("bob", "revoke x alice")
    with pytest.raises(AccessDenied, match="you may not write to bob/x"):
        await people.run("alice", f"hooks test {number}")
    reader = people.on("bob", Mode.SUBSCRIBE, "x", bound=10_000)
    assert reader.sink
    assert not reader.sink.taken
    reader.leave()
