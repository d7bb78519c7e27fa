"""The commands as JSON: same answers, same rights, same limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pipe.commands import latest
from pipe.errors import Outcome
from pipe.web import calls
from pipe.web.streams.sse import BEAT
from tests.events.webhooks.posts import BAD, FakePoster

if TYPE_CHECKING:
    from .served import Served

JSON = {"Content-Type": "application/json"}


async def test_topics(served: Served) -> None:
    """The list is an array of what ``ls --json`` prints."""
    reader = await served.request("GET", "/topic/build")
    await served.wait_members(1)
    got = await served.ask("GET", "/api/topics")
    assert [(row["topic"], row["subscribers"]) for row in got.json] == [("alice/build", 1)]
    one = await served.ask("GET", "/api/topics/build")
    assert one.json["topic"] == "alice/build"
    none = await served.ask("GET", "/api/topics?pattern=nothing-*")
    assert none.json == []
    reader.close()


async def test_follow(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is followed comes again and again, by one session, until the server stops."""
    monkeypatch.setattr(latest, "FOLLOW_SECONDS", 0.01)
    conn = await served.request("GET", "/api/topics?follow")
    assert (await conn.head())[1]["content-type"] == "text/event-stream"
    assert await conn.chunk() == BEAT
    for _ in range(3):
        chunk = await conn.chunk()
        assert chunk == b"data: []\n\n"
    [session] = served.service.sessions
    assert session.follows
    session.cut(Outcome.SHUTDOWN)
    last = b""
    while chunk := await conn.chunk():
        last = chunk
    assert last.startswith(b"event: end")


async def test_follow_refuses_what_is_no_pattern(served: Served) -> None:
    """With a status, as the answer has not begun."""
    got = await served.ask("GET", "/api/topics?follow&pattern=a%2F%2Fb")
    assert got.status == 400


async def test_whoami_and_keys(served: Served) -> None:
    """Who the server takes the caller for, and the keys."""
    await served.people.add("alice")
    assert (await served.ask("GET", "/api/whoami")).json["user"] == "alice"
    keys = await served.ask("GET", "/api/keys")
    assert keys.headers["content-type"] == "application/json; charset=utf-8"
    assert "SHA256" in keys.text


async def test_grants(served: Served) -> None:
    """Grants are given, listed and taken back."""
    await served.people.add("alice", "bob")
    body = json.dumps({"topic": "build", "who": ["bob"], "read": True, "for": "1h"}).encode()
    given = await served.ask("POST", "/api/grants", body, headers=JSON)
    assert given.status == 200, given.text
    assert "bob" in given.json["message"]
    listed = (await served.ask("GET", "/api/grants")).text
    assert "alice/build" in listed
    assert (await served.ask("HEAD", "/topic/alice/build", user="bob")).status == 404
    body = json.dumps({"topic": "build", "who": "bob"}).encode()
    assert (await served.ask("DELETE", "/api/grants", body, headers=JSON)).status == 200
    assert (await served.ask("HEAD", "/topic/alice/build", user="bob")).status == 403


async def test_webhooks(served: Served) -> None:
    """Webhooks are made, listed, tested, resumed and removed."""
    await served.people.add("alice")
    served.service.webhooks.make_poster = poster = FakePoster().itself
    body = json.dumps({"topic": "build", "url": "https://example.org/x", "frame": "line"}).encode()
    made = await served.ask("POST", "/api/webhooks", body, headers=JSON)
    assert made.status == 201, made.text
    assert made.json["secret"].startswith("whsec_")
    [row] = (await served.ask("GET", "/api/webhooks")).json
    assert (row["topic"], row["frame"], row["state"]) == ("alice/build", "line", "active")
    one = json.dumps({"id": row["id"]}).encode()
    tested = await served.ask("POST", "/api/webhooks/test", one, headers=JSON)
    assert tested.json["message"].startswith("answered 200 after")
    poster().answer = BAD
    failed = await served.ask("POST", "/api/webhooks/test", one, headers=JSON)
    assert (failed.status, "answered 500" in failed.text) == (502, True)
    resumed = await served.ask("POST", "/api/webhooks/resume", one, headers=JSON)
    assert "was not paused" in resumed.json["message"]
    assert (await served.ask("DELETE", "/api/webhooks", one, headers=JSON)).status == 200
    assert (await served.ask("GET", "/api/webhooks")).json == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{", 400),
        (b'{"topic":"build"}', 400),
        (b'{"topic":"build","who":["bob"],"loud":true}', 400),
        (b'{"topic":"build","who":["--read"]}', 400),
        (b'{"topic":1,"who":["bob"]}', 400),
        (b'{"topic":"carol/build","who":["bob"]}', 403),
        (b" " * 70_000, 413),
    ],
)
async def test_bad_grants(served: Served, body: bytes, status: int) -> None:
    """What is no grant of the caller's is refused with the words of SSH."""
    await served.people.add("alice", "bob")
    got = await served.ask("POST", "/api/grants", body, headers=JSON)
    assert got.status == status, got.text


async def test_calls_have_a_rate(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who asks too often gets a 429, and others do not."""
    monkeypatch.setattr(calls, "BURST", 3.0)
    monkeypatch.setattr(calls, "RATE", 0.001)
    answers = [(await served.ask("GET", "/api/whoami")) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"]
    assert (await served.ask("GET", "/api/whoami", user="bob")).status == 200


async def test_nobody(served: Served) -> None:
    """Without a token there is nothing."""
    for path in ("/api/topics", "/api/whoami", "/api/keys", "/api/grants", "/api/webhooks"):
        assert (await served.ask("GET", path, user=None)).status == 401
