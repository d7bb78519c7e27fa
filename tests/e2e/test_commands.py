"""The commands that answer with text: on stdout, with status 0, for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .processes import HELD
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


@pytest.mark.parametrize("command", ["", "help"])
def test_help_names_every_command(server: Server, command: str) -> None:
    """`ssh HOST` and `ssh HOST help` print the same help."""
    text = answer(server, command)

    assert [name for name in COMMANDS if name not in text] == []
    assert text == answer(server, "help")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(server: Server, command: str) -> None:
    """`COMMAND -h`, `COMMAND --help` and `help COMMAND` tell about that command."""
    text = answer(server, f"{command} -h")

    assert command in text
    assert text == answer(server, f"{command} --help") == answer(server, f"help {command}")
    assert "\r" not in text


def test_help_of_pub_names_every_flag(server: Server) -> None:
    """Each flag stands there in its short and its long form."""
    text = answer(server, "pub -h")
    short = [f"-{letter}" for letter in "btmepadcx"]
    long = ["--block", "--timeout", "--min-subs", "--empty", "--public", "--access"]
    long += ["--dispatch", "--frame", "--clean", "--exit"]

    assert [flag for flag in [*short, *long] if flag not in text] == []


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


def test_ls_says_who_waits(server: Server) -> None:
    """`ls` shows a writer that waits for a reader."""
    server.ssh("alice", "pub lonely", stdin=HELD)
    server.wait_waiting()
    text = answer(server, "ls")

    assert "lonely" in text
    assert "wait" in text.lower()


def test_ls_is_there_for_programs_too(server: Server) -> None:
    """`ls --json` has one JSON object a line for each topic, and no line where there is none."""
    assert answer(server, "ls --json") == ""
    server.subscribe("alice", "sub -k one", count=2)
    server.subscribe("alice", "sub -k alice/two/three")
    rows = [json.loads(line) for line in answer(server, "ls --json").splitlines()]

    subscribers = {row["topic"]: row["subscribers"] for row in rows}
    assert subscribers == {"alice/one": 2, "alice/two/three": 1}


def test_ls_takes_a_pattern(server: Server) -> None:
    """`ls 'alice/logs/*'` has what matches and nothing else."""
    server.subscribe("alice", "sub -k alice/logs/web")
    server.subscribe("alice", "sub -k other")
    text = answer(server, "ls 'alice/logs/*'")

    assert "logs/web" in text
    assert "other" not in text


def test_ls_with_nothing_to_show_succeeds(server: Server) -> None:
    """No topic is no error."""
    answer(server, "ls")


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


def test_last_key_cannot_be_removed(server: Server) -> None:
    """Nobody locks themselves out by mistake."""
    fingerprint = server.keys.fingerprint("alice")
    server.introduce("alice")

    assert server.run("alice", f"keys rm {fingerprint}").wait() != Status.OK
    assert fingerprint in answer(server, "keys")


def test_bad_key_is_not_added(server: Server) -> None:
    """What is no public key is refused with one line."""
    client = server.run("alice", "keys add", stdin=b"ssh-ed25519 nonsense\n")

    assert client.wait() == Status.USAGE
    assert len(client.lines) == 1
