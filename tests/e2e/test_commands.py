"""The commands that answer with text: on stdout, with status 0, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e

COMMANDS = (
    *("pub", "sub", "pipe", "ls", "whoami", "keys", "grant", "revoke", "grants"),
    *("tokens", "login", "link", "hooks", "logs", "explain", "stat", "top", "version", "help"),
)


def answer(server: Server, command: str, user: str = "alice", stdin: bytes | None = None) -> str:
    """The text with which the server answers a command that must succeed."""
    client = server.run(user, command, stdin=stdin)
    assert client.wait() == Status.OK, client
    return client.output


def test_help(server: Server) -> None:
    """`ssh HOST` and `ssh HOST help` print the same help."""
    text = answer(server, "")

    assert [name for name in COMMANDS if name not in text] == []
    assert text == answer(server, "help")


def test_help_of_a_command(server: Server) -> None:
    """`COMMAND -h`, `COMMAND --help` and `help COMMAND` tell about that command."""
    text = answer(server, "pub -h")

    assert "--min-subs" in text
    assert text == answer(server, "pub --help") == answer(server, "help pub")
    assert "\r" not in text


def test_version_is_one_line(server: Server) -> None:
    """`version` says which one runs."""
    text = answer(server, "version")

    assert text.count("\n") == 1
    assert any(letter.isdigit() for letter in text)


def test_whoami_tells_name_key_and_address(server: Server) -> None:
    """`whoami` shows the user, the key's fingerprint and where the connection comes from."""
    text = answer(server, "whoami")

    assert "alice" in text
    assert server.keys.fingerprint("alice") in text
    assert "127.0.0.1" in text


def test_public_address_is_what_is_printed(start_server: StartServer) -> None:
    """Help and status text show how the server is reached from outside; 22 needs no flag."""
    for port, flag in (("2022", "-p 2022 "), ("22", "")):
        server = start_server(public_host="pipe.example.org", public_port=port)
        ssh = f"ssh {flag}alice@pipe.example.org"
        assert f"{ssh} help" in answer(server, "help")
        writer = server.run("alice", "pub -t 0.1s news")
        assert writer.wait() == Status.TIMEOUT
        assert f"subscribe with: {ssh} sub news\n" in writer.text
        assert f"-p {server.port}" not in writer.text


def test_ls_shows_my_topics(server: Server) -> None:
    """`ls` has the topics that I may see, and no others'."""
    server.subscribe("alice", "sub -k mine")
    server.subscribe("bob", "sub -k his")
    server.subscribe("bob", "sub -k -p everybodys")
    text = answer(server, "ls")

    assert "mine" in text
    assert "everybodys" in text
    assert "his" not in text


def test_explain_tells_who_stands_where(server: Server) -> None:
    """`explain` resolves the name and says whether I may read and write it, and who is on it."""
    server.introduce("bob")
    server.subscribe("alice", "sub -k build")
    own = answer(server, "explain build")
    foreign = server.run("bob", "explain alice/build")

    assert "alice/build" in own
    assert "owner" in own.lower()
    assert foreign.wait() in (Status.OK, Status.DENIED)
    assert foreign.output + foreign.text != own


def test_keys_are_added_and_removed(server: Server) -> None:
    """A second key that was added logs in as the same user, and no longer once it is removed."""
    server.introduce("keeper")
    spare = server.keys.public("keeper-spare")
    fingerprint = server.keys.fingerprint("keeper-spare")
    answer(server, "keys add", user="keeper", stdin=spare)
    listed = answer(server, "keys", user="keeper")
    assert server.keys.fingerprint("keeper") in listed
    assert fingerprint in listed

    with_spare = server.ssh("keeper", "whoami", key_of="keeper-spare")
    assert with_spare.wait() == Status.OK
    assert fingerprint in with_spare.output
    answer(server, f"keys rm {fingerprint}", user="keeper")
    assert fingerprint not in answer(server, "keys", user="keeper")
    assert server.ssh("keeper", "whoami", key_of="keeper-spare").wait() == Status.NO_CONNECTION
