"""``monitor …``, ``monitors``, ``status``, ``uptime``: what they say, and who may."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipe.commands import Answer
from pipe.commands.layout import WIDTH
from pipe.commands.monitors import percent
from pipe.errors import AccessDenied, PipeError, StoreError, UsageError, WebOff
from pipe.events.monitors.monitor import State
from pipe.events.monitors.uptime import Share
from pipe.rights.scopes import Reach, Scope
from pipe.stream.ports import Mode
from tests.sessions import fingerprint

if TYPE_CHECKING:
    from tests.sessions import People


async def listed(people: People, command: str = "monitors", user: str = "alice") -> list[Any]:
    """What programs are told."""
    text = await people.run(user, f"{command} --json")
    return [json.loads(line) for line in text.splitlines()]


def states(people: People, user: str = "alice") -> list[State]:
    """How a user's monitors are."""
    return [one.monitor.state for one in people.service.monitors.of(user)]


def bring(people: People, number: int = 0, *, status: int = 0, user: str = "alice") -> None:
    """Let something come to one of a user's monitors, as the router would tell."""
    one = people.service.monitors.of(user)[number]
    monitors = people.service.monitors
    monitors._note(one, one.monitor.publish(time.time(), 1))  # noqa: SLF001
    monitors._note(one, one.monitor.end(time.time(), status, broken=False))  # noqa: SLF001


async def test_add_and_list(people: People) -> None:
    """A monitor is listed with all that there is to tell, and fits a terminal."""
    text = await people.run(
        "alice", "monitor add alice/backup/db --every 1d --on end --min-bytes 1MiB"
    )
    assert text == (
        "watching alice/backup/db, every 1d with 2h24m of grace; alerts go to alice/alerts\n"
    )
    [line] = people.said
    assert "no alert comes before something has come" in line
    await people.run("alice", "monitor x 30s")
    [second, first] = await listed(people)
    uptime = dict.fromkeys(("24h", "7d", "30d", "90d"))
    assert first == {
        "topic": "alice/x",
        "state": "new",
        "since": pytest.approx(time.time(), abs=60),
        "last_seen": None,
        "reason": "nothing has come yet",
        "every": 30.0,
        "grace": 30.0,
        "on": "bytes",
        "min_bytes": None,
        "min_rate": None,
        "remind": None,
        "alert": "alice/alerts",
        "created": pytest.approx(time.time(), abs=60),
        "uptime": uptime,
        "days": [None] * 90,
    }
    assert (second["topic"], second["on"], second["min_bytes"]) == (
        "alice/backup/db",
        "end",
        1 << 20,
    )
    table = await people.run("alice", "monitors")
    assert all(len(line) <= WIDTH for line in table.splitlines())
    assert await listed(people, user="bob") == []
    assert "no monitors; make one: ssh" in await people.run("bob", "monitors")


async def test_add_again_changes_the_terms(people: People) -> None:
    """It stays the same monitor, and the answer says so."""
    await people.run("alice", "monitor add x --every 1h")
    bring(people)
    text = await people.run("alice", "monitor add x --every 2h --alert pager")
    assert text.startswith("changed: watching alice/x, every 2h with 12m of grace")
    [one] = await listed(people)
    assert (one["state"], one["every"], one["alert"]) == ("up", 7200.0, "alice/pager")
    assert people.said == []


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("monitor add x", UsageError, "monitor add TOPIC --every 1h"),
        ("monitor add 'x*' --every 1h", UsageError, "patterns work only with sub and ls"),
        ("monitor add bob/x --every 1h", AccessDenied, "bob/x is not shared with you to read"),
        ("monitor add nobody/x --every 1h", AccessDenied, "is not shared with you to read"),
        ("monitor add x --every 1h --alert bob/x", AccessDenied, "not shared with you to write"),
        ("monitor add x --every 1h --alert x", UsageError, "they would be signs of life"),
        ("monitor add alerts --every 1h", UsageError, "they would be signs of life"),
        ("monitor rm x", StoreError, "you have no monitor of alice/x; 'monitors' lists them"),
        ("monitor pause x", StoreError, "you have no monitor of alice/x"),
        ("monitor resume bob/x", StoreError, "you have no monitor of bob/x"),
        ("uptime x", StoreError, "you have no monitor of alice/x"),
    ],
)
async def test_what_cannot_be(
    people: People, command: str, error: type[PipeError], message: str
) -> None:
    """What has no right, no sense or no object is refused in a line, and nothing is made."""
    with pytest.raises(error) as caught:
        await people.run("alice", command)
    assert message in caught.value.message
    assert caught.value.message.isprintable()
    assert await listed(people) == []


async def test_rights_that_do_not_last(people: People) -> None:
    """What a session or a grant to a key lets somebody read is no right of a monitor's."""
    session = people.on("bob", Mode.PUBLISH, "x", "alice")
    with pytest.raises(AccessDenied, match="a lasting grant to your name"):
        await people.run("alice", "monitor add bob/x --every 1h")
    session.leave()
    await people.run("bob", f"grant x {fingerprint('alice')}")
    with pytest.raises(AccessDenied, match="a lasting grant to your name"):
        await people.run("alice", "monitor add bob/x --every 1h")
    await people.run("bob", "grant x alice --read")
    await people.run("alice", "monitor add bob/x --every 1h")
    assert states(people) == [State.NEW]


async def test_limit(people: People) -> None:
    """A user has fifty at most, and another one is not concerned."""
    for number in range(50):
        await people.run("alice", f"monitor add x{number} --every 1h")
    with pytest.raises(StoreError, match="you have 50 monitors"):
        await people.run("alice", "monitor add y --every 1h")
    await people.run("bob", "monitor add y --every 1h")
    assert len(await listed(people)) == 50


async def test_tokens_have_no_monitors(people: People) -> None:
    """A token with a scope is for topics, and shows no monitors."""
    caller = people.caller("alice")
    scoped = dataclasses.replace(caller, scope=Scope(Reach.parse(["x"], owner="alice")))
    for command in ("monitors", "status", "monitor add x --every 1h", "monitors feed"):
        with pytest.raises(AccessDenied, match="webhooks and monitors"):
            await people.run("alice", command, caller=scoped)


async def test_status(people: People) -> None:
    """The status is 1 if one is down, else 0; those that are down come first."""
    assert "no monitors" in await people.run("alice", "status")
    await people.run("alice", "monitor add a --every 1h --on end")
    await people.run("alice", "monitor add b --every 1h --on end")
    bring(people, 0)
    bring(people, 1)
    text = await people.run("alice", "status")
    assert isinstance(text, Answer)
    assert text.exit_status == 0
    assert text.endswith("0 of 2 monitors down\n")
    one = people.service.monitors.of("alice")[1].monitor
    one.since -= 10
    bring(people, 1, status=3)
    for command in ("status", "status --json"):
        text = await people.run("alice", command)
        assert isinstance(text, Answer)
        assert text.exit_status == 1
    lines = (await people.run("alice", "status")).splitlines()
    assert re.match(r"down +b ", lines[1])
    assert "a publisher ended with status 3" in "".join(lines)
    assert lines[-1] == "1 of 2 monitors down"


async def test_pause_resume_remove(people: People) -> None:
    """Each does what it says, and says it."""
    await people.run("alice", "monitor add a --every 1h")
    bring(people)
    assert await people.run("alice", "monitor pause a") == "paused alice/a\n"
    assert states(people) == [State.PAUSED]
    text = await people.run("alice", "monitor resume a")
    assert text == "watching alice/a again, with a window that begins now\n"
    assert states(people) == [State.UNKNOWN]
    assert await people.run("alice", "monitor a -d") == "no longer watching alice/a\n"
    assert states(people) == []


async def test_uptime(people: People) -> None:
    """By default for four spans; from and to are told in seconds too."""
    await people.run("alice", "monitor add a --every 1h")
    assert await listed(people, "uptime", "bob") == []
    bring(people)
    text = await people.run("alice", "uptime")
    assert re.fullmatch(
        r"TOPIC  STATE  24h      7d       30d      90d\na      up     (100.00%\s*){4}", text
    )
    [one] = await listed(people, "uptime a --from 2020-01-01")
    assert one["uptime"] == 1.0
    assert one["down"] == 0.0
    assert one["unknown"] > 86400
    [one] = await listed(people, "uptime --to 2020-12-31")
    assert one["uptime"] is None
    assert one["to"] - one["from"] == 30 * 86400
    assert "UNKNOWN" in await people.run("alice", "uptime a --from 2020-01-01")
    with pytest.raises(UsageError, match="in the future"):
        await people.run("alice", "uptime --from 2999-01-01")


def test_percent() -> None:
    """A hundred per cent is all of the time, and nothing less."""
    assert percent(Share(99_999.0, 1.0, 5.0)) == "99.99%"
    assert percent(Share(1.0, 0.0, 5.0)) == "100.00%"
    assert percent(Share(0.0, 0.0, 5.0)) == "-"


async def test_addresses(people: People) -> None:
    """They are the same each time until they are renewed, and each has another secret."""
    text = await people.run("alice", "monitors feed")
    url = re.escape(people.service.web_url)
    secret = "[a-z2-7]{28}"
    form = rf"{url}/feed/{secret}\.atom\n{url}/badge/{secret}\.svg\n{url}/status/{secret}\n"
    assert re.fullmatch(form, text)
    assert len(set(re.findall(secret, text))) == 3
    assert await people.run("alice", "rss") == text
    assert await people.run("bob", "rss") != text
    renewed = await people.run("alice", "monitors feed --renew")
    assert renewed != text
    told = json.loads(await people.run("alice", "monitors feed --json"))
    assert list(told) == ["feed", "badge", "page"]
    assert "".join(f"{one}\n" for one in told.values()) == renewed
    people.service.web_url = ""
    with pytest.raises(WebOff):
        await people.run("alice", "monitors feed")
