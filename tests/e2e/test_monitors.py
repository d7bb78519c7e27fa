"""Monitors with real clients: jobs that come, fail, are killed or stay away, and a restart."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from .processes import HELD, wait_until
from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer
    from .processes import Process

pytestmark = pytest.mark.e2e

HASTY = "tests.e2e.hasty"
DOWN = 1


def must(server: Server, command: str, user: str = "alice") -> Process:
    """A command that must succeed, once it has."""
    client = server.run(user, command)
    assert client.wait() == Status.OK, client
    return client


def states(server: Server, user: str = "alice") -> dict[str, str]:
    """How a user's monitors are, by topic."""
    rows = [json.loads(line) for line in must(server, "monitors --json", user).output.splitlines()]
    return {row["topic"]: row["state"] for row in rows}


def wait_state(server: Server, state: str, topic: str = "alice/job", user: str = "alice") -> None:
    """Return once a monitor is so."""
    wait_until(lambda: states(server, user)[topic] == state, f"{topic} {state}")


def alerts(reader: Process) -> list[dict[str, Any]]:
    """What a subscriber of the alerts got."""
    return [json.loads(line) for line in reader.output.splitlines()]


def test_a_job(start_server: StartServer) -> None:
    """It is up, fails, is up, is killed, and each is told once; the status tells scripts."""
    server = start_server()
    must(server, "monitor add job --every 1h --on end")
    assert server.run("alice", "status").wait() == Status.OK
    reader = server.ssh("alice", "sub -k alerts")
    server.wait_sessions(subscribe=1)
    assert server.ssh("alice", "pub -b=false job", stdin=b"done\n").wait() == Status.OK
    wait_state(server, "up")

    server.ssh("alice", "pub -b=false -x 3 job", stdin=b"failed\n").wait()
    wait_state(server, "down")
    assert server.run("alice", "status").wait() == DOWN
    assert server.metrics().value("pipe_monitors", state="down") == 1

    server.ssh("alice", "pub -e -b=false job").wait()
    wait_state(server, "up")
    killed = server.ssh("alice", "pub -b=false job", stdin=HELD)
    server.wait_sessions(publish=1)
    killed.kill()
    wait_state(server, "down")
    wait_until(lambda: len(alerts(reader)) == 3, "three alerts")
    assert [(one["state"], one["reason"]) for one in alerts(reader)[::2]] == [
        ("down", "a publisher ended with status 3"),
        ("down", "a publisher broke off"),
    ]


def test_silence_and_a_restart(start_server: StartServer) -> None:
    """A job that stays away is down, also after a restart; what was told is not told again."""
    server = start_server(program=HASTY)
    must(server, "monitor job 1s --grace 500ms")
    must(server, "monitor add other --every 1h")
    for topic in ("job", "other"):
        assert server.ssh("alice", f"pub -b=false {topic}", stdin=b"x").wait() == Status.OK
    wait_state(server, "down")
    assert server.stop() == Status.OK
    server.restart()
    reader = server.ssh("alice", "sub -k alerts")
    server.wait_sessions(subscribe=1)
    assert states(server) == {"alice/job": "down", "alice/other": "up"}
    assert server.ssh("alice", "pub -b=false job", stdin=b"x").wait() == Status.OK
    wait_until(lambda: len(alerts(reader)) == 2, "up, and down again")
    assert [one["state"] for one in alerts(reader)] == ["up", "down"]
    text = must(server, "uptime job").output
    assert "100.00%" not in text


def test_two_users(start_server: StartServer) -> None:
    """Each sees the own monitors alone, and those of others' topics only with a grant."""
    server = start_server()
    server.introduce("alice", "bob")
    must(server, "monitor add job --every 1h")
    assert server.run("bob", "monitor add alice/job --every 1h").wait() == Status.DENIED
    must(server, "grant job bob --read")
    must(server, "monitor add alice/job --every 2h", "bob")
    assert server.ssh("alice", "pub -b=false job", stdin=b"x").wait() == Status.OK
    wait_state(server, "up")
    wait_state(server, "up", user="bob")
    must(server, "revoke job bob")
    assert server.ssh("alice", "pub -b=false job", stdin=b"x").wait() == Status.OK
    wait_state(server, "paused", user="bob")
    assert states(server) == {"alice/job": "up"}


def test_addresses(start_server: StartServer) -> None:
    """What is printed can be opened without an account, after a restart too."""
    server = start_server()
    must(server, "monitor add job --every 1h")
    addresses = must(server, "rss").output.splitlines()
    assert server.stop() == Status.OK
    server.restart()
    assert must(server, "monitors feed").output.splitlines() == addresses
    for address, kind in zip(
        addresses, ("application/atom+xml", "image/svg+xml", "text/html"), strict=True
    ):
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - http
            assert answer.headers.get_content_type() == kind
            assert answer.read()


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("monitor add job --every 1s", Status.USAGE, "it takes 30s to 366d"),
        ("monitor add job", Status.USAGE, "monitor add TOPIC --every 1h"),
        ("monitor add '*' --every 1h", Status.USAGE, "patterns work only with"),
        ("monitor add bob/job --every 1h", Status.DENIED, "is not shared with you"),
        ("monitor rm job", Status.USAGE, "you have no monitor of alice/job"),
        ("monitor job", Status.USAGE, "there are monitor, monitor add"),
    ],
)
def test_slips(server: Server, command: str, status: Status, text: str) -> None:
    """A slip is one line that says how to mend it, and nothing was made."""
    client = server.run("alice", command)
    assert client.wait() == status, client
    assert len(client.lines) == 1
    assert text in client.lines[0]
    assert states(server) == {}
