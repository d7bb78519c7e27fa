"""Feed, badge and page of monitors: for whoever has the address, and for nobody else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import feedparser
import pytest

from pipe.language.names import TopicName
from pipe.store.monitors import Feeds, NewChange, StoredChange
from pipe.web import calls
from pipe.web.feeds import render_badge, render_feed

if TYPE_CHECKING:
    from .served import Response, Served


async def addresses(served: Served, user: str = "alice") -> dict[str, str]:
    """The paths of a user's."""
    if not await served.service.store.get_user(user):
        await served.people.add(user)
    got = await served.ask("GET", "/api/monitors/feed", user=user)
    assert got.status == 200
    return {kind: urlsplit(url).path for kind, url in got.json.items()}


async def watch(served: Served, topic: str, user: str = "alice", every: str = "1h") -> int:
    """Let a user watch a topic, by the API; return the monitor's number."""
    body = f'{{"topic": "{topic}", "every": "{every}"}}'.encode()
    got = await served.ask("POST", "/api/monitors", body, user=user)
    assert got.status == 200, got.text
    found = {one.topic.path[-1]: one.number for one in served.service.monitors.of(user)}
    return found[topic.rpartition("/")[2]]


async def happened(served: Served, monitor: int, *states: str) -> None:
    """Let a monitor have had a history, to the present."""
    now = time.time()
    changes = [
        NewChange(monitor, now - 60 * (len(states) - number), state, "up", f"why {number}")
        for number, state in enumerate(states)
    ]
    await served.service.store.monitors.save({}, changes)


def shown(response: Response) -> str:
    """What somebody without an account gets, and no cache, frame or search engine keeps."""
    assert response.status == 200
    assert response.headers["cache-control"] == "max-age=60"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "script-src" not in response.headers["content-security-policy"]
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-robots-tag"] == "noindex"
    return response.text


async def test_feed(served: Served) -> None:
    """A feed reader finds the newest changes, with IDs that stay."""
    path = (await addresses(served))["feed"]
    monitor = await watch(served, "backup")
    await happened(served, monitor, *["down", "up"] * 30)
    text = shown(await served.ask("GET", path, user=None))
    feed = feedparser.parse(text)
    assert not feed.bozo
    assert feed.version == "atom10"
    assert feed.feed.title == "Monitors of alice"
    assert feed.feed.links[0].href.endswith(path)
    assert len(feed.entries) == 50
    newest = feed.entries[0]
    assert newest.title == "alice/backup is up"
    assert newest.summary == "why 59 (it was up)"
    assert abs(time.time() - 60 - time.mktime(newest.updated_parsed) + time.timezone) < 60
    ids = [entry.id for entry in feed.entries]
    assert len(set(ids)) == 50
    await happened(served, monitor, "down")
    again = feedparser.parse(shown(await served.ask("GET", path, user=None)))
    assert [entry.id for entry in again.entries[1:]] == ids[:-1]


def test_a_feed_of_nothing() -> None:
    """Before anything has happened it is a feed as well, and text is text."""
    feeds = Feeds("alice", "0" * 32, "", "", "")
    empty = feedparser.parse(render_feed(feeds, [], "https://example.org/feed/x.atom"))
    assert not empty.bozo
    assert empty.entries == []
    topic = TopicName("alice", ("a@b",))
    change = StoredChange(1, topic, 0.0, "down", "up", "<script>&\"'")
    feed = feedparser.parse(render_feed(feeds, [change], "https://example.org/?a&b"))
    assert not feed.bozo
    assert feed.entries[0].summary == "<script>&\"' (it was up)"


async def test_badge(served: Served) -> None:
    """It is one word for all monitors, or for one, and well-formed SVG."""
    path = (await addresses(served))["badge"]
    for topic, word in ((None, "none"), ("backup", "unknown")):
        if topic:
            await watch(served, topic)
        got = await served.ask("GET", path, user=None)
        assert got.headers["content-type"] == "image/svg+xml"
        root = ET.fromstring(shown(got))  # noqa: S314 - our own
        assert root[0].text == f"monitors: {word}"
    got = await served.ask("GET", f"{path}?topic=backup", user=None)
    assert ET.fromstring(shown(got))[0].text == "alice/backup: new"  # noqa: S314
    assert (await served.ask("GET", f"{path}?topic=other", user=None)).status == 404
    assert (await served.ask("GET", f"{path}?topic=a//b", user=None)).status == 400


def test_a_badge_escapes() -> None:
    """Whatever it is made of, it is text."""
    root = ET.fromstring(render_badge("a<b>&", '"', "#000000"))  # noqa: S314
    assert root[0].text == 'a<b>&: "'


async def test_page(served: Served) -> None:
    """It has all monitors, and ninety bars for each, and runs no script."""
    path = (await addresses(served))["page"]
    assert "No monitors" in shown(await served.ask("GET", path, user=None))
    monitor = await watch(served, "backup")
    await watch(served, "bob", every="30s")
    await happened(served, monitor, "up", "down")
    served.service.summaries._made.clear()  # noqa: SLF001 - instead of a minute
    text = shown(await served.ask("GET", path, user=None))
    assert "alice/backup" in text
    assert text.count("<rect") == 180
    assert "<script" not in text
    assert 'class="day day-' in text
    assert "<dt>90d</dt>" in text


async def test_secrets(served: Served) -> None:
    """One address does not open another; a renewed one is gone, and guesses are charged for."""
    old = await addresses(served)
    await watch(served, "backup")
    secret = old["page"].rpartition("/")[2]
    for path in (f"/feed/{secret}.atom", f"/badge/{secret}.svg", "/status/aaaa"):
        assert (await served.ask("GET", path, user=None)).status == 404
    got = await served.ask("POST", "/api/monitors/feed")
    assert got.status == 200
    assert (await served.ask("GET", old["page"], user=None)).status == 404
    new = await addresses(served)
    assert (await served.ask("GET", new["page"], user=None)).status == 200
    await served.service.store.remove_user("alice")
    assert (await served.ask("GET", new["page"], user=None)).status == 404


async def test_too_often(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that everybody knows takes no more of the server than a user's calls may."""
    monkeypatch.setattr(calls, "BURST", 3.0)
    monkeypatch.setattr(calls, "RATE", 0.001)
    path = (await addresses(served))["badge"]
    answers = [await served.ask("GET", path, user=None) for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 200, 429]


async def test_api(served: Served) -> None:
    """What the commands do, by JSON: add, list, pause, resume, uptime, remove."""
    await served.people.add("alice", "bob")
    await watch(served, "backup")
    body = b'{"topic": "backup"}'
    for verb, state in (("pause", "paused"), ("resume", "new")):
        assert (await served.ask("POST", f"/api/monitors/{verb}", body)).status == 200
        [one] = (await served.ask("GET", "/api/monitors")).json
        assert (one["topic"], one["state"]) == ("alice/backup", state)
    assert (await served.ask("GET", "/api/monitors", user="bob")).json == []
    [one] = (await served.ask("GET", "/api/uptime?topic=backup")).json
    assert one["uptime"] == dict.fromkeys(("24h", "7d", "30d", "90d"))
    [one] = (await served.ask("GET", "/api/uptime?from=2020-01-01&to=2020-01-31")).json
    assert one["to"] - one["from"] == 31 * 86400
    assert (await served.ask("GET", "/api/uptime?since=1")).status == 400
    assert (await served.ask("DELETE", "/api/monitors", body)).status == 200
    assert (await served.ask("GET", "/api/monitors")).json == []


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"topic": "x", "every": "1s"}', 400, "it takes 30s to 366d"),
        (b'{"topic": "x"}', 400, "--every 1h"),
        (b'{"topic": "bob/x", "every": "1h"}', 403, "is not shared with you"),
        (b'{"topic": "x", "every": 60}', 400, "takes text, true or false"),
        (b'{"topic": "x", "everyy": "1h"}', 400, "unknown field 'everyy'"),
    ],
)
async def test_api_slips(served: Served, body: bytes, status: int, message: str) -> None:
    """A slip is told as over SSH, with the status that HTTP has for it."""
    await served.people.add("alice")
    got = await served.ask("POST", "/api/monitors", body)
    assert got.status == status
    assert message in got.text
