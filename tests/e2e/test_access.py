"""Who may read and write what: spaces, public topics, lists for a session, and lasting grants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .processes import HELD, Process, statuses
from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(server: Server) -> Server:
    """The shared server, on which alice, bob and carol are known."""
    server.introduce("alice", "bob", "carol")
    return server


def assert_denied(*clients: Process) -> None:
    """All of them end with 77, one line and no byte of a stream."""
    for client in clients:
        assert client.wait() == Status.DENIED, client
        assert len(client.lines) == 1
        assert client.stdout.size == 0


def test_first_logins_at_once_are_one_person(start_server: StartServer) -> None:
    """Whoever claims a name with several connections at once is let in on each of them."""
    server = start_server()
    for user in ("dora", "emil", "fred", "gina", "hugo"):
        at_once = [server.ssh(user, "whoami") for _ in range(5)]
        assert statuses(*at_once) == [Status.OK] * 5


def test_name_goes_to_one_of_those_who_claim_it(start_server: StartServer) -> None:
    """Of several people who claim a name at once exactly one gets it, and keeps it."""
    server = start_server()
    people = ("dora", "emil", "fred")
    outcomes = statuses(*[server.ssh("prize", "whoami", key_of=person) for person in people])
    assert sorted(outcomes) == [Status.OK, Status.NO_CONNECTION, Status.NO_CONNECTION]

    winner = people[outcomes.index(Status.OK)]
    assert server.ssh("prize", "whoami", key_of=winner).wait() == Status.OK


def test_others_are_denied(server: Server) -> None:
    """What is alice's is nobody else's: reading, writing and both end with 77 and one line."""
    server.subscribe("alice", "sub -k diary")

    assert_denied(
        *(
            server.ssh("bob", f"{command} alice/diary", stdin=HELD)
            for command in ("sub", "pub", "pipe")
        )
    )


def test_public_topics_are_everybodys(server: Server) -> None:
    """`-p news` and `public/news` are the same topic, open to every user."""
    [flag] = server.subscribe("bob", "sub -p news")
    [name] = server.subscribe("carol", "sub public/news")
    writer = server.ssh("alice", "pub -p news", stdin=b"hear, hear")

    assert statuses(writer, flag, name) == [Status.OK] * 3
    assert flag.stdout.data == name.stdout.data == b"hear, hear"


def test_list_of_a_session_grants_while_it_lasts(server: Server) -> None:
    """`pub -a bob` lets bob read as long as it runs, and carol never."""
    writer = server.ssh("alice", "pub -a bob build", stdin=b"for bob")
    server.wait_waiting()
    assert_denied(server.run("carol", "sub alice/build"))
    reader = server.ssh("bob", "sub alice/build")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"for bob"
    assert_denied(server.run("bob", "sub alice/build"))


def test_list_of_a_session_names_keys_too(server: Server) -> None:
    """`-a carol,SHA256:…` grants to carol and to whoever logs in with that key."""
    [reader] = server.subscribe("alice", f"sub -k -a carol,{server.keys.fingerprint('bob')} inbox")
    for guest in ("bob", "carol"):
        text = f"from {guest} ".encode()
        assert server.run(guest, "pub alice/inbox", stdin=text).wait() == Status.OK
    reader.wait_stdout(20)

    assert reader.stdout.data == b"from bob from carol "


def test_creator_restricts_a_public_topic_until_it_is_empty(server: Server) -> None:
    """`-p -a bob` keeps carol out of that public name until everybody has left it."""
    creator = server.ssh("alice", "sub -k -p -a bob club")
    server.wait_sessions(subscribe=1)
    guest = server.ssh("bob", "sub -k -p club")
    server.wait_sessions(subscribe=2)
    assert_denied(server.run("carol", "sub -p club"), server.run("carol", "pub public/club"))
    creator.kill()
    server.wait_sessions(subscribe=1)
    assert_denied(server.run("carol", "sub -p club"))
    guest.kill()
    server.wait_empty()

    [reader] = server.subscribe("carol", "sub -p club")
    writer = server.ssh("bob", "pub -p club", stdin=b"open again")
    assert statuses(writer, reader) == [Status.OK] * 2


def test_grant_is_for_what_it_says(server: Server) -> None:
    """`--read` lets bob read and not write, `--write` the other way, and neither means both."""
    for topic, flag in (("in", "--write"), ("out", "--read"), ("both", "")):
        assert server.run("alice", f"grant {topic} bob {flag}").wait() == Status.OK
    assert_denied(server.run("bob", "sub alice/in"), server.run("bob", "pub alice/out"))

    for topic, reads, writes in (
        ("in", "alice", "bob"),
        ("out", "bob", "alice"),
        ("both", "bob", "bob"),
    ):
        [reader] = server.subscribe(reads, f"sub alice/{topic}")
        writer = server.ssh(writes, f"pub alice/{topic}", stdin=b"granted")
        assert statuses(writer, reader) == [Status.OK] * 2
        assert reader.stdout.data == b"granted"
    assert_denied(server.run("carol", "sub alice/both"))


def test_names_that_begin_alike_are_not_alike(server: Server) -> None:
    """`alice2` has no part in alice's space, nor has a grant for `build` to do with `build2`."""
    server.introduce("alice2")
    assert server.run("alice", "grant build bob").wait() == Status.OK

    assert_denied(
        server.run("alice2", "sub alice/2"),
        server.run("bob", "sub alice/build2"),
        server.run("bob", "sub alice/build/2"),
        server.run("bob", "sub alice2/build"),
    )
