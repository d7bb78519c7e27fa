"""Tokens, links and logins of browsers, made with real clients."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from . import clients
from .processes import Process, wait_until
from .server import ROOT, Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e


def must(server: Server, command: str, user: str = "alice") -> Process:
    """A command that must succeed, once it has."""
    client = server.run(user, command)
    assert client.wait() == Status.OK, client
    return client


def listed(server: Server, user: str = "alice") -> list[dict[str, Any]]:
    """A user's tokens, as programs are told of them."""
    return [json.loads(line) for line in must(server, "tokens --json", user).output.splitlines()]


def operate(server: Server, *words: str) -> str:
    """What `pipe` answers on the server's data, to an operator."""
    command = [sys.executable, "-m", "pipe", *words, "--data-dir", str(server.data_dir)]
    process = Process(command, environment=clients.bare_environment(), directory=ROOT, forked=True)
    assert process.wait() == Status.OK, process
    return process.output


def test_stdout_has_what_is_asked_for_alone(server: Server) -> None:
    """A script can take token, address and link as they are; what else there is to say is not."""
    for command, form in (
        ("tokens add --read own-token --name e2e", r"ptk_[a-z2-7]{12}_[A-Za-z0-9]{43}\n"),
        ("login", rf"http://127\.0\.0\.1:{server.web_port}/login/[a-z2-7]{{27}}\n"),
        ("link own-link", rf"http://127\.0\.0\.1:{server.web_port}/l/[a-z2-7]{{27}}\n"),
    ):
        client = must(server, command)
        assert re.fullmatch(form, client.output), client
        assert len(client.lines) == 1
        assert client.lines[0].startswith("pipe: ")
    picture = must(server, "link --qr own-link").output.splitlines()
    assert len(picture) > 10
    assert set("".join(picture[1:])) == set("█▀▄ ")


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        ("tokens add", Status.USAGE, "say what with --read, --write and --logs"),
        ("tokens ad --read x", Status.USAGE, "there are tokens, tokens add, tokens rm"),
        ("tokens add --reed x", Status.USAGE, "did you mean '--read'?"),
        ("tokens add --read", Status.USAGE, "needs a value"),
        ("tokens add --read x --for 2y", Status.USAGE, "not a duration"),
        ("tokens add --read x --for 366d", Status.USAGE, "for 365d at most"),
        ("tokens add --read ../bob", Status.USAGE, "flag --read: "),
        ("tokens add --read x --admin", Status.DENIED, "you are no admin"),
        ("tokens rm nope", Status.USAGE, "no token begins with 'nope'"),
        ("login alice", Status.USAGE, "login takes no argument"),
        ("login --for 31d", Status.USAGE, "for 30d at most"),
        ("link", Status.USAGE, "link needs a TOPIC"),
        ("link bob/x", Status.DENIED, "only bob can make a link"),
        ("link x -n 0", Status.USAGE, "from 1 to 10000"),
    ],
)
def test_slips(server: Server, command: str, status: Status, text: str) -> None:
    """A slip is one line that says how to mend it, and nothing was made."""
    before = listed(server)
    client = server.run("alice", command)
    assert client.wait() == status, client
    assert len(client.lines) == 1
    assert text in client.lines[0]
    assert client.output == ""
    assert listed(server) == before


def test_names_are_harmless(server: Server) -> None:
    """A name that would do something to a terminal is refused; a backslash is shown as one."""
    for name in ("\x1b]52;c;ZXZpbA==\x07", "a\nb", "\u202egnp", "n" * 65):
        client = server.run("carol", f"tokens add --read x --name '{name}'")
        assert client.wait() == Status.USAGE, client
        assert len(client.lines) == 1
        assert client.lines[0].isprintable()
    must(server, r"tokens add --read x --name 'tök\x1b[2J'", "carol")
    text = must(server, "tokens", "carol").output
    assert r"tök\\x1b[2J" in text
    assert r"tök\\x1b[2J" in operate(server, "token", "ls", "carol")
    assert listed(server, "carol")[0]["name"] == r"tök\x1b[2J"


def test_end(server: Server) -> None:
    """A token whose time is over is listed no more."""
    must(server, "tokens add --read brief --for 1s", "dave")
    wait_until(lambda: not listed(server, "dave"), "the end of the token")


def test_limit(server: Server) -> None:
    """A user has a hundred tokens at most, and is told how to make room; links count apart."""
    for _ in range(100):
        must(server, "tokens add --read x", "erin")
    client = server.run("erin", "tokens add --read x")
    assert client.wait() == Status.USAGE
    assert "there are 100 of this kind already" in client.lines[0]
    must(server, "link x", "erin")
    first = listed(server, "erin")[0]["id"]
    assert must(server, f"tokens rm {first}", "erin").output.startswith(f"removed token {first}\n")
    must(server, "tokens add --read x", "erin")


def test_tokens_outlive_the_server_and_go_with_their_key(start_server: StartServer) -> None:
    """They are there after a restart, and not after the key that made them."""
    server = start_server()
    must(server, "tokens add --read x --name kept")
    spare = server.ssh("alice", "keys add", stdin=server.keys.public("alice-spare"))
    assert spare.wait() == Status.OK
    other = server.ssh("alice", "tokens add --read x --name other", key_of="alice-spare")
    assert other.wait() == Status.OK
    assert server.stop() == Status.OK
    server.restart()
    assert {one["name"] for one in listed(server)} == {"kept", "other"}
    must(server, f"keys rm {server.keys.fingerprint('alice-spare')}")
    assert {one["name"] for one in listed(server)} == {"kept"}
    assert operate(server, "token", "rm", "alice", "--all") == "removed 1 token of user alice\n"
    assert must(server, "tokens").output.startswith("no tokens; make one: ssh ")


def test_no_web_pages(start_server: StartServer) -> None:
    """Where there are none, what would lead to one ends with 69 and says why."""
    server = start_server(web_port=0)
    for command in ("login", "link x"):
        client = server.run("alice", command)
        assert client.wait() == Status.SHUTDOWN
        assert client.lines == [
            "pipe: this server has no web pages: its operator has switched them off"
        ]
    assert listed(server) == []


def test_address_of_the_pages(start_server: StartServer) -> None:
    """Behind a proxy links and logins have the address that browsers reach."""
    server = start_server(web_url="https://pipe.example.org")
    for command, place in (("login", "login"), ("link x", "l")):
        assert must(server, command).output.startswith(f"https://pipe.example.org/{place}/")
