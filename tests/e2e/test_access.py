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


def test_denial_does_not_tell_what_exists(server: Server) -> None:
    """A topic that is there, one that is not, and no such owner are denied in the same words."""
    server.subscribe("alice", "sub -k there")
    names = ("alice/there", "alice/else", "nobody/there")
    denied = [server.run("bob", f"sub {name}") for name in names]

    assert_denied(*denied)
    assert (
        len({client.text.replace(name, "X") for client, name in zip(denied, names, strict=True)})
        == 1
    )


def test_owner_may_name_the_own_space(server: Server) -> None:
    """`alice/build` is for alice what `build` is."""
    [reader] = server.subscribe("alice", "sub alice/build")
    writer = server.ssh("alice", "pub build", stdin=b"done")

    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.data == b"done"


def test_same_name_in_two_spaces_is_two_topics(server: Server) -> None:
    """Bob's `build` and alice's `build` have nothing to do with each other."""
    [hers] = server.subscribe("alice", "sub build")
    [his] = server.subscribe("bob", "sub build")
    assert server.run("bob", "pub build", stdin=b"bob's").wait() == Status.OK
    assert his.wait() == Status.OK
    assert server.run("alice", "pub build", stdin=b"alice's").wait() == Status.OK
    assert hers.wait() == Status.OK

    assert (hers.stdout.data, his.stdout.data) == (b"alice's", b"bob's")


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


def test_list_of_a_session_ends_its_guests_with_it(server: Server) -> None:
    """Who stays on a topic by a session's list is ended with 77 when that session has left."""
    writer = server.ssh("alice", "pub -a bob build", stdin=HELD)
    server.wait_waiting()
    guest = server.ssh("bob", "sub -k alice/build")
    writer.write(b"a while")
    guest.wait_stdout(7)
    writer.close_stdin()

    assert statuses(writer, guest) == [Status.OK, Status.DENIED]
    assert guest.stdout.data == b"a while"


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


@pytest.mark.parametrize("creation", ["sub -k -p -a bob club", "sub -k -p club"])
def test_who_joins_cannot_set_the_list(server: Server, creation: str) -> None:
    """Once a public topic is there nobody else can give it a list, or a wider one."""
    server.subscribe("alice", creation)
    assert_denied(server.run("bob", "sub -p -a carol club"))

    outcome = server.ssh("carol", "pub -b=false -p club")
    assert outcome.wait() == (Status.DENIED if "-a" in creation else Status.OK)


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


def test_grants_are_listed(server: Server) -> None:
    """`grants` tells the owner what was granted to whom, until it is revoked."""
    assert server.run("alice", "grant listed bob --read").wait() == Status.OK
    listed = server.run("alice", "grants")
    assert listed.wait() == Status.OK
    assert "listed" in listed.output
    assert "bob" in listed.output
    assert server.run("alice", "revoke listed bob").wait() == Status.OK

    assert "listed" not in server.run("alice", "grants").output


def test_revoking_ends_the_sessions_that_depend_on_it(server: Server) -> None:
    """`revoke` ends bob's live session with 77, and no other's."""
    assert server.run("alice", "grant feed bob carol").wait() == Status.OK
    [bobs] = server.subscribe("bob", "sub -k alice/feed")
    [carols] = server.subscribe("carol", "sub -k alice/feed")
    assert server.run("alice", "revoke feed bob").wait() == Status.OK

    assert_denied(bobs)
    assert server.run("alice", "pub feed", stdin=b"carol only").wait() == Status.OK
    carols.wait_stdout(10)
    assert carols.stdout.data == b"carol only"
    assert_denied(server.run("bob", "sub alice/feed"))


def test_grant_expires(server: Server) -> None:
    """A grant with `--for` is over by itself, and so are the sessions that depended on it."""
    assert server.run("alice", "grant brief bob").wait() == Status.OK
    [reader] = server.subscribe("bob", "sub -k alice/brief")
    assert server.run("alice", "grant brief bob --for 2s").wait() == Status.OK

    assert_denied(reader)
    assert_denied(server.run("bob", "sub alice/brief"))


def test_grants_are_the_owners_to_give(server: Server) -> None:
    """Nobody grants or revokes in another's space."""
    denied = [
        server.run("bob", command) for command in ("grant alice/x bob", "revoke alice/x carol")
    ]

    assert [client.wait() for client in denied] == [Status.DENIED] * 2


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


def test_pattern_takes_in_what_may_be_read(server: Server) -> None:
    """A reader on a pattern gets topics that appear later, and only those that it may read."""
    assert server.run("alice", "grant alice/logs/web bob --read").wait() == Status.OK
    [hers] = server.subscribe("alice", "sub alice/logs/*")
    [his] = server.subscribe("bob", "sub alice/logs/*")
    assert server.run("alice", "pub alice/logs/web", stdin=b"w" * 5).wait() == Status.OK
    assert server.run("alice", "pub alice/logs/db", stdin=b"d" * 5).wait() == Status.OK
    assert (
        server.run("alice", "pub alice/logs/db/deep -b=false", stdin=b"!" * 5).wait() == Status.OK
    )
    assert server.run("alice", "pub alice/logs/web", stdin=b"w" * 5).wait() == Status.OK
    hers.wait_stdout(15)
    his.wait_stdout(10)

    assert hers.stdout.data == b"wwwwwdddddwwwww"
    assert his.stdout.data == b"wwwwwwwwww"
    assert hers.running
    assert his.running


def test_deep_pattern_takes_in_the_rest(server: Server) -> None:
    """`**` as the last segment matches what lies below, however deep."""
    [reader] = server.subscribe("alice", "sub alice/logs/**")
    for topic in ("alice/logs/a", "alice/logs/a/b/c"):
        assert server.run("alice", f"pub {topic}", stdin=b"x").wait() == Status.OK
    assert server.run("alice", "pub -b=false other", stdin=b"y").wait() == Status.OK
    reader.wait_stdout(2)

    assert reader.stdout.data == b"xx"
