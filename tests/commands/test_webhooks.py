"""``webhooks`` and its parts: what they say, and what they change."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

import pytest

from pipe.commands.layout import WIDTH
from pipe.errors import AccessDenied, Outcome, PipeError, StoreError, Undelivered, UsageError
from pipe.events.webhooks.posting import Answer, Result
from pipe.store.webhooks import Health, WebhookState
from tests.events.webhooks.posts import FakePoster, until
from tests.fakes import publisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.sessions import People

ADD = "webhooks add build https://example.org/hooks/s3cret"


@pytest.fixture
async def poster(people: People) -> AsyncIterator[FakePoster]:
    """What sends, for all webhooks of a test."""
    poster = FakePoster()
    people.service.webhooks.make_poster = poster.itself
    yield poster
    await people.service.webhooks.close()


pytestmark = pytest.mark.usefixtures("poster")


async def listed(people: People, user: str = "alice") -> list[dict[str, object]]:
    """What programs are told of a user's webhooks."""
    text = await people.run(user, "webhooks --json")
    return [json.loads(line) for line in text.splitlines()]


async def test_add_prints_the_secret_alone(people: People, poster: FakePoster) -> None:
    """The secret is all that is on stdout; from then on what the topic gets is sent."""
    text = await people.run("alice", f"{ADD} --frame line --name 'a \\ b'")
    assert text.startswith("whsec_")
    assert text.count("\n") == 1
    [line] = people.said
    [facts] = await listed(people)
    assert f"'webhooks test {facts['id']}' tries it" in line
    topic = people.service.webhooks.of("alice")[str(facts["id"])].webhook.topic
    source = publisher(people.service.router, topic, wants=0, synchronous=True)
    source.send("hello\n")
    source.end()
    assert await poster.wait(1) == [b"hello"]


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("webhooks add build", UsageError, "webhooks add needs a URL"),
        ("webhooks add build http://example.org/", UsageError, "use https"),
        ("webhooks add build https://127.0.0.1/", UsageError, "is not a public address"),
        ("webhooks add 'build-*' https://example.org/", UsageError, "patterns work only with"),
        (f"{ADD} --frame nul", UsageError, "flag --frame has the value 'nul'"),
        ("webhooks add bob/x https://example.org/", AccessDenied, "bob/x is not shared with you"),
        ("webhooks rm abc", StoreError, "at least 4 characters"),
        ("webhooks rm abcdef", StoreError, "no webhook begins with 'abcdef'"),
        ("webhooks resume abcdef", StoreError, "no webhook begins with 'abcdef'"),
        ("webhooks test abcdef", StoreError, "no webhook begins with 'abcdef'"),
        ("webhooks ad build", UsageError, "there are webhooks, webhooks add"),
    ],
)
async def test_what_cannot_be(
    people: People, command: str, error: type[PipeError], message: str
) -> None:
    """What has no right, no sense or no place is refused in a line, and nothing is made."""
    with pytest.raises(error, match=message) as caught:
        await people.run("alice", command)
    assert caught.value.message.isprintable()
    assert await listed(people) == []


async def test_admins_have_no_more_rights(people: People) -> None:
    """An admin's webhook on another's topic needs a grant, as anybody's does."""
    command = "webhooks add alice/build https://example.org/"
    with pytest.raises(AccessDenied):
        await people.run("boss", command, admin=True)
    await people.run("alice", "grant build boss --read")
    assert await people.run("boss", command, admin=True)


async def test_list(people: People) -> None:
    """A webhook is told with all that there is to tell, and fits a terminal."""
    await people.run("alice", f"{ADD} --name 'a \\ b'")
    [before] = await listed(people)
    courier = people.service.webhooks.of("alice")[str(before["id"])]
    text = await people.run("alice", "webhooks")
    assert max(map(len, text.splitlines())) <= WIDTH
    assert r"a \\ b" in text
    assert "s3cret" not in text
    assert "example.org" in text
    assert before == {
        "id": courier.webhook.id,
        "topic": "alice/build",
        "url": "https://example.org/hooks/s3cret",
        "frame": "none",
        "name": "a \\ b",
        "state": "active",
        "created": pytest.approx(time.time(), abs=60),
        "succeeded": None,
        "failing_since": None,
        "problem": None,
        "waiting": 0,
        "dropped": 0,
        "recent": [],
    }
    courier.health = Health(1.0, 2.0, "answered 500")
    [failing] = await listed(people)
    assert (failing["state"], failing["problem"]) == ("failing", "answered 500")
    assert "answered 500" in await people.run("alice", "webhooks")
    assert await listed(people, "bob") == []


async def test_empty_list_says_how_to_make_one(people: People) -> None:
    """Without any there is a command to adapt, and nothing for programs."""
    text = await people.run("alice", "webhooks")
    assert text.startswith("no webhooks; make one: ssh -p 2222 alice@example.org webhooks add")
    assert await people.run("alice", "webhooks --json") == ""


async def test_rm(people: People) -> None:
    """The start of an ID removes one's own, and no other's, not even for an admin."""
    await people.run("alice", ADD)
    [one] = await listed(people)
    for user in ("bob", "boss"):
        with pytest.raises(StoreError, match="no webhook begins"):
            await people.run(user, f"webhooks rm {one['id']}", admin=user == "boss")
    text = await people.run("alice", f"webhooks rm {str(one['id'])[:6]}")
    assert text == f"removed webhook {one['id']}\n"
    assert await listed(people) == []
    assert not people.service.webhooks.of("alice")


async def test_resume(people: People) -> None:
    """One that was paused goes on; one that was not is said not to have been."""
    await people.run("alice", ADD)
    [one] = await listed(people)
    await people.service.store.webhooks.set_state("alice", str(one["id"]), WebhookState.PAUSED)
    await people.service.webhooks.follow("alice")
    assert (await listed(people))[0]["state"] == "paused"
    assert await people.run("alice", f"webhooks resume {one['id']}") == (
        f"webhook {one['id']} goes on\n"
    )
    assert "was not paused" in await people.run("alice", f"webhooks resume {one['id']}")
    assert (await listed(people))[0]["state"] == "active"


async def test_test(people: People, poster: FakePoster) -> None:
    """A test says in a line what came back, and fails if that was no success."""
    await people.run("alice", ADD)
    [one] = await listed(people)
    text = await people.run("alice", f"webhooks test {one['id']}")
    assert text.startswith("answered 200 after 0.")
    poster.answer = Answer(Result.REFUSED, "answered 401", 401)
    with pytest.raises(Undelivered, match="the test has not arrived: answered 401") as caught:
        await people.run("alice", f"webhooks test {one['id']}")
    assert caught.value.outcome is Outcome.UNDELIVERED
    [facts] = await listed(people)
    recent = facts["recent"]
    assert isinstance(recent, list)
    assert [row["text"] for row in recent] == ["answered 200", "answered 401"]


async def test_test_holds_up_nothing(people: People, poster: FakePoster) -> None:
    """While a receiver takes its time, the user's other commands are answered."""
    await people.run("alice", ADD)
    [one] = await listed(people)
    poster.open.clear()
    testing = asyncio.ensure_future(people.run("alice", f"webhooks test {one['id']}"))
    await poster.wait(1)
    assert await listed(people)
    poster.open.set()
    assert "answered 200" in await testing


@pytest.mark.parametrize("command", ["webhooks", ADD, "webhooks rm aaaa", "webhooks test aaaa"])
async def test_token_sees_and_changes_none(people: People, command: str) -> None:
    """Who came with a scope is refused."""
    text = await people.run("alice", "tokens add --read '**' --write '**'")
    caller = await people.service.tokens.admit(text.strip(), "192.0.2.1")
    with pytest.raises(AccessDenied, match="a token is for topics"):
        await people.run("alice", command, caller=caller)
    await until(lambda: not people.service.webhooks.of("alice"))
