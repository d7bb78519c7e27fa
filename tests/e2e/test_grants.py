"""Lasting and passing rights, with real clients: whoever loses one is out at once, with a line."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import clients
from .processes import HELD, Process, statuses, wait_until
from .server import ROOT, Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(server: Server) -> Server:
    """The shared server, on which alice, bob and carol are known."""
    server.introduce("alice", "bob", "carol")
    return server


def must(server: Server, user: str, command: str, stdin: bytes | None = None) -> str:
    """What a command answers that must succeed."""
    client = server.run(user, command, stdin=stdin)
    assert client.wait() == Status.OK, client
    return client.output


def pipe_command(server: Server, *words: str) -> None:
    """Run `pipe` on the server's data, as an operator does."""
    command = [sys.executable, "-m", "pipe", *words, "--data-dir", str(server.data_dir)]
    process = Process(command, environment=clients.bare_environment(), directory=ROOT, forked=True)
    assert process.wait() == Status.OK, process


def assert_cut(client: Process, why: str) -> None:
    """It ends with 77 and one line that says why."""
    assert client.wait() == Status.DENIED, client
    assert len(client.lines) == 1
    assert why in client.lines[0]


def test_revoke_in_mid_stream(server: Server) -> None:
    """While bytes flow, bob is cut off with a line, carol and the writer go on and lose nothing."""
    must(server, "alice", "grant feed bob carol --read")
    bob = server.ssh("bob", "sub alice/feed")
    carol = server.ssh("carol", "sub alice/feed")
    server.wait_sessions(subscribe=2)
    writer = server.ssh("alice", "pub -c feed", stdin=HELD)
    piece = bytes(range(256)) * 256
    writer.write(piece)
    bob.wait_stdout(len(piece))
    must(server, "alice", "revoke feed bob")
    assert_cut(bob, "access to alice/feed has ended: its owner revoked it")
    writer.write(piece)
    writer.close_stdin()

    assert statuses(writer, carol) == [Status.OK] * 2
    assert carol.stdout.data == piece * 2
    assert bob.stdout.data == piece


def test_revoke_of_a_reader_that_does_not_read(server: Server) -> None:
    """A clogged reader is cut as well, and what it was about to get is not sent any more."""
    must(server, "alice", "grant feed bob --read")
    bob = server.ssh("bob", "sub alice/feed", reading=False)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub -b=false -c feed", stdin=HELD)
    writer.write(bytes(16 << 20))
    server.wait_metric("pipe_clogged_subscribers", 1)
    must(server, "alice", "revoke feed bob")
    server.wait_sessions(subscribe=0)
    writer.close_stdin()

    assert statuses(writer, bob) == [Status.BROKEN, Status.DENIED]  # the writer has no reader left
    assert bob.stdout.size < 16 << 20


@pytest.mark.parametrize("command", ["pub", "pipe"])
def test_revoke_ends_writers(server: Server, command: str) -> None:
    """A writer that waits, or a pipe, ends when it loses the right to write."""
    must(server, "alice", "grant box bob")
    guest = server.ssh("bob", f"{command} -c alice/box", stdin=HELD)
    server.wait_sessions(**{"publish" if command == "pub" else "pipe": 1})
    must(server, "alice", "grant box bob --read")

    assert_cut(guest, "access to alice/box has ended: its owner revoked it")


def test_expiry(server: Server) -> None:
    """`--for 1s` is over after a second, not before, and says so."""
    must(server, "alice", "grant brief bob")
    [reader] = server.subscribe("bob", "sub -k alice/brief")
    begun = time.monotonic()
    must(server, "alice", "grant brief bob --for 1s")

    assert_cut(reader, "the time that it was granted for is over")
    assert time.monotonic() - begun >= 1.0
    assert server.run("bob", "sub alice/brief").wait() == Status.DENIED


@pytest.mark.parametrize("ending", ["interrupt", "close_stdin"])
def test_end_of_the_session_that_shared(server: Server, ending: str) -> None:
    """However a session with a list ends, its guests end with it, readers and writers."""
    owner = server.ssh("alice", "pipe -a bob,carol room", stdin=HELD)
    owner.wait_stderr("join with")
    reader = server.ssh("bob", "sub -k alice/room")
    writer = server.ssh("carol", "pub -b=false -c alice/room", stdin=HELD)
    server.wait_sessions(subscribe=1, publish=1)
    if ending == "close_stdin":  # a pipe whose stdin ends reads on: its session lives
        owner.close_stdin()
        writer.write(b"still there")
        reader.wait_stdout(11)
        assert reader.running
        ending = "kill"
    getattr(owner, ending)()

    for guest in (reader, writer):
        assert_cut(guest, "the session that shared it has ended")


def test_list_and_grant_together(server: Server) -> None:
    """Whoever has two reasons to be there stays until both are gone."""
    must(server, "alice", "grant room bob")
    owner = server.ssh("alice", "sub -k -a bob room")
    server.wait_sessions(subscribe=1)
    [guest] = server.subscribe("bob", "sub -k alice/room")
    assert "a session that shares it with bob goes on" in must(server, "alice", "revoke room bob")
    must(server, "alice", "grant room bob")
    owner.kill()
    server.wait_sessions(subscribe=1)
    assert guest.running
    must(server, "alice", "revoke room bob")

    assert_cut(guest, "its owner revoked it")


def test_pattern_follows_the_rules(server: Server) -> None:
    """A reader on a pattern gains and loses topics as they are granted and revoked, and stays."""
    [reader] = server.subscribe("bob", "sub 'alice/*'")
    [own] = server.subscribe("alice", "sub -k log")
    for number, rule in enumerate(("", "grant log bob --read", "revoke log bob")):
        if rule:
            must(server, "alice", rule)
        must(server, "alice", "pub log", stdin=str(number).encode())
    own.wait_stdout(3)
    reader.wait_stdout(1)

    assert own.stdout.data == b"012"
    assert reader.stdout.data == b"1"
    assert reader.running


def test_grants_outlive_the_server(start_server: StartServer) -> None:
    """A grant is there when the server starts again."""
    server = start_server()
    server.introduce("alice", "bob")
    must(server, "alice", "grant kept bob --read")
    assert server.stop() == Status.OK
    server.restart()
    [reader] = server.subscribe("bob", "sub alice/kept")
    must(server, "alice", "pub kept", stdin=b"still")

    assert reader.wait() == Status.OK
    assert reader.stdout.data == b"still"


def test_removed_user_is_out(start_server: StartServer) -> None:
    """`pipe user rm` ends the user's sessions, those that it shared, and what it was granted."""
    server = start_server()
    server.introduce("alice", "bob", "carol")
    must(server, "carol", "grant hers bob")
    own = server.ssh("bob", "sub -k -a alice own")
    server.wait_sessions(subscribe=1)
    guest = server.ssh("alice", "sub -k bob/own")
    granted = server.ssh("bob", "sub -k carol/hers")
    server.wait_sessions(subscribe=3)
    pipe_command(server, "user", "rm", "bob")
    for session in (own, granted):
        assert_cut(session, "the account or key that you logged in with was removed")
    assert guest.wait() == Status.DENIED

    # Whoever takes the name now is somebody else.
    stranger = server.ssh("bob", "sub carol/hers", key_of="mallory")
    assert stranger.wait() == Status.DENIED
    assert "hers" not in must(server, "carol", "grants")


def test_removed_key_is_out(start_server: StartServer) -> None:
    """`pipe key rm` ends the key's sessions, also those that its open connection would begin."""
    server = start_server()
    server.introduce("alice")
    must(server, "alice", "keys add", stdin=server.keys.public("alice-spare"))
    with tempfile.TemporaryDirectory() as directory:
        shared = ("-o", f"ControlPath={directory}/socket")
        server.ssh("alice", "", options=(*shared, "-M", "-N"), key_of="alice-spare")
        wait_until(Path(directory, "socket").exists, "the shared connection's socket")
        doomed = server.ssh("alice", "sub -k one", options=shared, key_of="alice-spare")
        other = server.ssh("alice", "sub -k one")
        server.wait_sessions(subscribe=2)
        pipe_command(server, "key", "rm", "alice", server.keys.fingerprint("alice-spare"))
        assert_cut(doomed, "was removed")
        for command in ("sub one", "whoami", "keys"):
            late = server.ssh("alice", command, options=shared, key_of="alice-spare")
            assert_cut(late, "was removed")
        assert other.running


def test_shared_key(start_server: StartServer) -> None:
    """With a key of two users, the name that `ssh` sends decides; each loses it alone."""
    server = start_server()
    server.introduce("alice", "bob")
    stranger = server.ssh("carol", "whoami", key_of="bob", options=("-o", "LogLevel=INFO"))
    assert stranger.wait() == Status.NO_CONNECTION
    assert "this key belongs to another user" in stranger.text
    pipe_command(server, "user", "add", "carol")
    bobs = server.keys.openssh("bob").with_suffix(".pub")
    pipe_command(server, "key", "add", "carol", str(bobs), "--shared")

    for user in ("bob", "carol"):
        client = server.ssh(user, "whoami", key_of="bob")
        assert client.wait() == Status.OK
        assert client.output.split()[:2] == ["user", user]
    assert server.ssh("alice", "whoami", key_of="bob").wait() == Status.NO_CONNECTION
    late = server.ssh("dave", "whoami", key_of="bob")
    assert late.wait() == Status.NO_CONNECTION
    taken = server.ssh("alice", "keys add", stdin=server.keys.public("bob"))
    assert taken.wait() == Status.USAGE
    assert taken.text.rstrip().endswith("belongs to another user")

    must(server, "alice", f"grant build {server.keys.fingerprint('bob')} --read")
    his = server.ssh("bob", "sub -k alice/build")
    hers = server.ssh("carol", "sub -k alice/build", key_of="bob")
    server.wait_sessions(subscribe=2)
    assert server.ssh("carol", "sub bob/own", key_of="bob").wait() == Status.DENIED
    must(server, "alice", "pub build", stdin=b"for both")
    for reader in (his, hers):
        reader.wait_stdout(8)
    pipe_command(server, "key", "rm", "carol", server.keys.fingerprint("bob"))
    assert_cut(hers, "was removed")
    assert server.ssh("carol", "whoami", key_of="bob").wait() == Status.NO_CONNECTION
    must(server, "alice", "pub build", stdin=b" for him")
    his.wait_stdout(16)
    assert his.running
    pipe_command(server, "user", "rm", "bob")
    assert_cut(his, "was removed")
    assert "build" not in must(server, "alice", "grants")


def test_admin(start_server: StartServer) -> None:
    """An admin reads and writes everybody's topics by their full names, and lists them all."""
    server = start_server()
    server.introduce("alice", "bob")
    key_file = server.keys.openssh("boss").with_suffix(".pub")
    pipe_command(server, "user", "add", "boss", "--admin", "--key", str(key_file))
    [reader] = server.subscribe("alice", "sub private")
    must(server, "boss", "pub alice/private", stdin=b"from above")
    assert reader.wait() == Status.OK
    assert reader.stdout.data == b"from above"

    server.subscribe("alice", "sub -k private")
    server.subscribe("bob", "sub -k private")
    everything = must(server, "boss", "ls '**'")
    assert "alice/private" in everything
    assert "bob/private" in everything
    assert "alice/private" not in must(server, "bob", "ls '**'")

    listening = server.ssh("boss", "sub -k alice/private")
    server.wait_sessions(subscribe=3)
    pipe_command(server, "user", "admin", "boss", "no")
    assert_cut(listening, "you are no admin any more")
    assert server.run("boss", "sub alice/private").wait() == Status.DENIED


@pytest.mark.parametrize("name", ["alice/../bob/x", "alice%2f..%2fbob", '"$(id)"'])
def test_strange_names_are_names_of_nothing(server: Server, name: str) -> None:
    """No way to write a name leads out of a space: each is refused, by every command, in a line."""
    before = must(server, "alice", "grants")
    quoted = name if name[0] in "'\"" else f"'{name}'"
    commands = (f"grant {quoted} bob", f"revoke {quoted} bob", f"explain {quoted}", f"sub {quoted}")
    refused = [server.ssh("alice", command) for command in commands]

    for client in refused:
        assert client.wait() == Status.USAGE, client
        assert len(client.lines) == 1
        assert client.lines[0].isprintable()
    assert must(server, "alice", "grants") == before


@pytest.mark.parametrize("pattern", ["**", "*a" * 32, "a[b"])
def test_strange_patterns(server: Server, pattern: str) -> None:
    """A pattern is refused or matches by the rules, quickly, and shows nobody what is private."""
    server.subscribe("alice", "sub -k alice/" + "a" * 64)
    reader = server.ssh("bob", f"sub '{pattern}'")
    listed = server.run("bob", f"ls '{pattern}'")
    if listed.wait() == Status.USAGE:
        assert reader.wait() == Status.USAGE
        assert len(reader.lines) == len(listed.lines) == 1
        return
    server.wait_sessions(subscribe=2)
    must(server, "alice", "pub alice/" + "a" * 64, stdin=b"private")

    assert "alice" not in listed.output
    assert reader.stdout.size == 0
    assert reader.running
