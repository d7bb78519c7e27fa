"""The guard: rights that end by themselves, by a command, or by another process."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING

import asyncssh
import pytest

from pipe.commands import Asker, answer
from pipe.errors import AccessDenied, Outcome, StoreUnavailable
from pipe.language.chat_requests import Chat
from pipe.language.log_requests import Logs
from pipe.language.names import TopicName
from pipe.language.progress_requests import Top
from pipe.language.requests import Pipe, Publish, Subscribe, parse
from pipe.rights.access import DEMOTED_TEXT, REMOVED_TEXT, Loss
from pipe.rights.callers import Caller
from pipe.rights.grants import Grant, Operation
from pipe.store import GrantStore, Store
from pipe.store import database as database_module
from pipe.store import guard as guard_module
from pipe.stream.ports import Mode
from tests.e2e.processes import DEADLINE
from tests.sessions import People, fingerprint, key, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pipe.service import Service
    from tests.postgres import Postgres

BUILD = TopicName("alice", ("build",))
ALICE = Caller("alice", fingerprint("alice"))

LOOK_SECONDS = guard_module.LOOK_SECONDS
"""As a running server has it."""


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a look takes to come is not what these tests are about."""
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 0.01)


@pytest.fixture
def no_look(look_often: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - before it
    """No look comes but those that a test takes itself."""
    monkeypatch.setattr(guard_module, "LOOK_SECONDS", 86_400.0)


class Clock:
    """The clock on the wall, which stands still where a test does not set it.

    A timer for a time that is near by this clock comes again and again until it is that time.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time", lambda: self.now)


NEAR = 0.02
"""Seconds from now that a timer is soon there."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a server that starts after this."""
    return Clock(monkeypatch)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a database that several may open."""
    return f"sqlite:///{tmp_path}/pipe.db"


@pytest.fixture
async def service(url: str) -> AsyncIterator[Service]:
    """A server, with alice and bob."""
    async with started(url) as service:
        await People(service).add("alice", "bob")
        yield service


@pytest.fixture
def people(service: Service) -> People:
    """Those on the server."""
    return People(service)


@pytest.fixture
async def outside(url: str, service: Service) -> AsyncIterator[Store]:  # noqa: ARG001 - comes first
    """The same database, as the command line opens it."""
    async with await Store.open(url) as store:
        yield store


async def wait_until(condition: Callable[[], object]) -> None:
    """Return once a condition holds that announces itself in no other way."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def make(grantee: str, until: float | None = None) -> Grant:
    """A grant of alice's."""
    return Grant(BUILD, grantee, Operation.BOTH, until, "alice", time.time())


def test_looks_are_often_enough() -> None:
    """What others change counts within a second: a look comes, and finds time for its work."""
    assert LOOK_SECONDS <= 0.5


@pytest.mark.usefixtures("no_look")
async def test_lost_since_a_mark(service: Service, people: People, outside: Store) -> None:
    """What was taken away after another guard's mark counts, and what came before it does not."""
    guard = service.guard
    await guard.catch_up()
    before = guard.mark
    assert await guard.why_lost(Caller("alice", fingerprint("alice")), before) == ""
    await outside.remove_user("alice")
    await people.add("alice")
    await guard.catch_up()
    caller = Caller("alice", fingerprint("alice"))
    assert not service.access.why_barred(caller)
    assert await guard.why_lost(caller, before) == REMOVED_TEXT
    assert await guard.why_lost(caller, guard.mark) == ""


@pytest.mark.usefixtures("no_look")
async def test_grant_ends_by_itself(
    clock: Clock, service: Service, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session ends when its grant does, and not before; others go on."""
    until = clock.now + NEAR
    await service.guard.grant(ALICE, [make("bob", until)])
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    alice = people.on("alice", Mode.SUBSCRIBE, "build")
    expire, rung = service.access.expire, asyncio.Event()

    def ring_and_expire() -> None:
        rung.set()
        expire()

    monkeypatch.setattr(service.access, "expire", ring_and_expire)
    async with asyncio.timeout(DEADLINE):
        await rung.wait()
    assert bob.ended is None
    clock.now = until
    assert await bob.wait_over() == (Outcome.DENIED, Loss.EXPIRED.value)

    assert alice.ended is None
    assert service.access.granted_by("alice") == []


async def test_grant_ends_when_the_clock_jumps(
    clock: Clock, service: Service, people: People
) -> None:
    """A clock on the wall that is set to after a grant's end ends it, whatever its timer waits."""
    await service.guard.grant(ALICE, [make("bob", clock.now + 3600.0)])
    await service.guard.catch_up()  # or it would look at the clock for the sake of the grant
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    clock.now += 7200.0
    assert await bob.wait_over() == (Outcome.DENIED, Loss.EXPIRED.value)


@pytest.mark.usefixtures("no_look")
async def test_each_end_in_its_turn(clock: Clock, service: Service, people: People) -> None:
    """The timer is set anew for the next end, also when a later one was there first."""
    await people.add("carol")
    last = clock.now + 3600.0
    await service.guard.grant(ALICE, [make("carol", last)])
    clock.now = last - 2 * NEAR
    await service.guard.grant(ALICE, [make("bob", last - NEAR)])
    carol = people.on("carol", Mode.SUBSCRIBE, "alice/build")
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    clock.now = last - NEAR
    assert await bob.wait_over() == (Outcome.DENIED, Loss.EXPIRED.value)
    assert carol.ended is None
    clock.now = last
    assert await carol.wait_over() == (Outcome.DENIED, Loss.EXPIRED.value)


async def test_grants_outlive_the_server(clock: Clock, url: str) -> None:
    """A server that starts again knows all grants, but for those that have ended."""
    async with started(url) as service:
        await People(service).add("alice", "bob", "carol")
        await service.guard.grant(ALICE, [make("bob"), make("carol", clock.now + 3600.0)])
    clock.now += 3600.0
    async with started(url) as service:
        assert [grant.grantee for grant in service.access.granted_by("alice")] == ["bob"]


async def test_revoked_elsewhere(url: str, service: Service, people: People) -> None:
    """What another server on the database grants and takes back counts here too."""
    bob = None
    async with started(url) as other:
        await other.guard.grant(ALICE, [make("bob")])
        await wait_until(lambda: service.access.granted_by("alice"))
        bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
        await other.guard.revoke(ALICE, BUILD, ["bob"])
        assert await bob.wait_over() == (Outcome.DENIED, Loss.REVOKED.value)


async def test_user_removed_elsewhere(service: Service, people: People, outside: Store) -> None:
    """When `pipe user rm` removes a user, the user's sessions end and so does what they shared."""
    await service.guard.grant(ALICE, [make("bob")])
    alice = people.on("alice", Mode.SUBSCRIBE, "own", "bob")
    granted = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    listed = people.on("bob", Mode.SUBSCRIBE, "alice/own")
    own = people.on("bob", Mode.SUBSCRIBE, "own")
    await outside.remove_user("alice")

    assert await alice.wait_over() == (Outcome.DENIED, REMOVED_TEXT)
    assert (await granted.wait_over() or (None,))[0] is Outcome.DENIED
    assert (await listed.wait_over() or (None,))[0] is Outcome.DENIED
    assert own.ended is None
    with pytest.raises(AccessDenied, match="was removed"):
        service.access.require(alice.caller)


async def test_key_removed_elsewhere(service: Service, people: People, outside: Store) -> None:
    """When `pipe key rm` removes a key, its sessions end, and those by another key do not."""
    await service.store.add_key("alice", key("other"))
    first = people.on("alice", Mode.SUBSCRIBE, "own")
    second = people.session("alice", key_of="other")
    second.join(Mode.SUBSCRIBE, "own")
    await outside.remove_key("alice", fingerprint("other"))

    assert await second.wait_over() == (Outcome.DENIED, REMOVED_TEXT)
    assert first.ended is None


async def test_shared_key_removed_from_one(
    service: Service, people: People, outside: Store
) -> None:
    """The sessions of the user who has lost it end; the other's, and what it was granted, go on."""
    await people.add("carol")
    await outside.add_key("carol", key("bob"), shared=True)
    await service.guard.grant(ALICE, [make(fingerprint("bob"))])
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    carol = people.session("carol", key_of="bob")
    carol.join(Mode.SUBSCRIBE, "alice/build")
    shared = people.on("alice", Mode.SUBSCRIBE, "own", fingerprint("bob"))
    await outside.remove_key("bob", fingerprint("bob"))

    assert await bob.wait_over() == (Outcome.DENIED, REMOVED_TEXT)
    await service.guard.catch_up()
    assert carol.ended is None
    carol_again = people.session("carol", key_of="bob")
    carol_again.join(Mode.SUBSCRIBE, "alice/own")
    await outside.remove_key("carol", fingerprint("bob"))
    assert await carol.wait_over() == (Outcome.DENIED, REMOVED_TEXT)
    assert await carol_again.wait_over() == (Outcome.DENIED, REMOVED_TEXT)
    await service.guard.catch_up()
    assert service.access.granted_by("alice") == []
    assert service.access.shared_by_sessions(TopicName("alice", ("own",))) == frozenset()
    assert shared.ended is None


@pytest.mark.usefixtures("no_look")
async def test_name_that_is_somebody_elses_now(
    service: Service, people: People, outside: Store
) -> None:
    """Who has the name next is not taken for the one before, nor given what that one had."""
    await service.guard.grant(ALICE, [make("bob")])
    before = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    await service.guard.catch_up()  # so that the look which finds bob gone looks for nothing else
    await outside.remove_user("bob")
    await outside.add_user("bob", keys=[key("new")])
    await service.guard.catch_up()
    assert before.ended == (Outcome.DENIED, REMOVED_TEXT)
    after = people.caller("bob", key_of="new")

    service.access.require(after)
    assert not service.access.decide(after, BUILD).allowed


@pytest.mark.usefixtures("no_look")
async def test_name_that_is_somebody_elses_now_without_keys(
    service: Service, people: People, outside: Store
) -> None:
    """Who was let in by a certificate has no key in the database, and is out with the name."""
    before = people.session("bob", key_of="certificate")
    before.join(Mode.SUBSCRIBE, "own")
    await outside.remove_user("bob")
    await outside.add_user("bob", keys=[key("new")])

    await service.guard.catch_up()
    assert before.ended == (Outcome.DENIED, REMOVED_TEXT)
    service.access.require(people.caller("bob", key_of="new"))


@pytest.mark.usefixtures("no_look")
async def test_end_of_a_grant_after_a_restart(clock: Clock, url: str) -> None:
    """A grant with an end ends the sessions of the next server, too."""
    until = clock.now + 3600.0
    async with started(url) as service:
        await People(service).add("alice", "bob")
        await service.guard.grant(ALICE, [make("bob", until)])
    clock.now = until - NEAR
    async with started(url) as service:
        bob = People(service).on("bob", Mode.SUBSCRIBE, "alice/build")
        clock.now = until
        assert await bob.wait_over() == (Outcome.DENIED, Loss.EXPIRED.value)


@pytest.mark.usefixtures("no_look")
async def test_key_that_is_there_again(service: Service, people: People, outside: Store) -> None:
    """A key that was removed and added again before anybody looked has never been away."""
    session = people.on("bob", Mode.SUBSCRIBE, "own")
    await outside.remove_key("bob", fingerprint("bob"))
    await outside.add_key("bob", key("bob"))
    marker = people.on("alice", Mode.SUBSCRIBE, "own")
    await outside.remove_key("alice", fingerprint("alice"))
    await service.guard.catch_up()

    assert marker.ended == (Outcome.DENIED, REMOVED_TEXT)
    assert session.ended is None
    service.access.require(session.caller)


async def test_old_entries_are_no_news(url: str) -> None:
    """What was removed before the start ends nobody who logs in after it."""
    async with await Store.open(url) as store:
        await store.add_user("alice", keys=[key("alice")])
        await store.remove_user("alice")
        await store.add_user("alice", keys=[key("next")])
    async with started(url) as service:
        people = People(service)
        session = people.session("alice", key_of="alice")  # by a certificate, say
        session.join(Mode.SUBSCRIBE, "own")
        await people.add("marker")
        marker = people.on("marker", Mode.SUBSCRIBE, "own")
        await service.store.remove_user("marker")
        await marker.wait_over()
        assert session.ended is None


async def test_database_that_goes_away(
    service: Service, people: People, url: str, outside: Store
) -> None:
    """Live sessions go on without the database, and what happened meanwhile is made good."""
    await service.guard.grant(ALICE, [make("bob")])
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    path = url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("ALTER TABLE changes RENAME TO gone")
        with pytest.raises(StoreUnavailable):
            await service.guard.revoke(ALICE, BUILD, ["bob"])
        assert bob.ended is None
        assert service.access.decide(bob.caller, BUILD).allowed
        raw.execute("ALTER TABLE gone RENAME TO changes")
    await outside.remove_user("bob")

    assert (await bob.wait_over() or (None,))[0] is Outcome.DENIED


async def test_cancelled_command_is_made_good(service: Service, people: People) -> None:
    """A client that goes away in the middle of `revoke` leaves memory and database in step."""
    await service.guard.grant(ALICE, [make("bob")])
    bob = people.on("bob", Mode.SUBSCRIBE, "alice/build")
    task = asyncio.create_task(service.guard.revoke(ALICE, BUILD, ["bob"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    stored, _ = await GrantStore(service.store.database).load()
    if stored:
        assert bob.ended is None
    else:
        assert await bob.wait_over() == (Outcome.DENIED, Loss.REVOKED.value)


@pytest.mark.parametrize(
    "command",
    [
        "grant build carol",
        "revoke build bob",
        "keys add",
        f"keys rm {fingerprint('new')}",
        "tokens add --read build",
        "tokens rm aaaa",
        "login",
        "link build",
    ],
)
@pytest.mark.usefixtures("no_look")
async def test_who_is_gone_changes_nothing_any_more(
    service: Service, people: People, outside: Store, command: str
) -> None:
    """A command that comes before the next look leaves alone whoever has the name by now."""
    await people.add("carol")
    before = people.session("alice")
    await outside.remove_user("alice")
    await outside.add_user("alice", keys=[key("new"), key("spare")])
    await GrantStore(outside.database).put([make("bob")])
    stdin = asyncssh.generate_private_key("ssh-ed25519").export_public_key()
    request = parse(command)
    assert not isinstance(request, (Publish, Subscribe, Pipe, Chat, Logs, Top))
    asker = Asker(before.caller, before.address, before, stdin)
    with pytest.raises(AccessDenied, match="was removed"):
        await answer(request, service, asker)

    assert len(await outside.list_keys("alice")) == 2
    stored, _ = await GrantStore(outside.database).load()
    assert [one.grantee for one in stored] == ["bob"]


@pytest.mark.usefixtures("no_look")
async def test_next_login_inherits_nothing_in_postgresql(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a stamp tells of others' changes late; a login does not wait for it to tell."""
    monkeypatch.setattr(database_module, "FOREIGN_CHANGE_SECONDS", 1e9)
    url = postgres.new_database()
    async with started(url) as service, await Store.open(url) as outside:
        people = People(service)
        await people.add("alice", "bob")
        await service.guard.grant(ALICE, [make("bob")])
        await service.guard.catch_up()
        before = people.on("bob", Mode.SUBSCRIBE, "alice/build")
        await outside.remove_user("bob")
        await outside.add_user("bob", keys=[key("new")])
        await service.guard.catch_up()
        assert before.ended == (Outcome.DENIED, REMOVED_TEXT)
        after = people.caller("bob", key_of="new")
        service.access.require(after)
        assert not service.access.decide(after, BUILD).allowed


@pytest.mark.usefixtures("no_look")
async def test_removed_key_is_not_remembered_in_postgresql(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a removal is known, no login by that key is answered from memory."""
    monkeypatch.setattr(database_module, "FOREIGN_CHANGE_SECONDS", 1e9)
    url = postgres.new_database()
    async with started(url) as service, await Store.open(url) as outside:
        await People(service).add("bob")
        assert await service.store.find_key("bob", fingerprint("bob"))
        await outside.remove_key("bob", fingerprint("bob"))
        await service.guard.catch_up()
        assert await service.store.find_key("bob", fingerprint("bob")) is None


@pytest.mark.usefixtures("no_look")
async def test_admin_who_is_none_any_more(service: Service, people: People, outside: Store) -> None:
    """Without the flag an admin's sessions end; no grant in others' spaces comes before that."""
    await people.add("boss", admin=True)
    boss = people.session("boss", admin=True)
    boss.join(Mode.SUBSCRIBE, "alice/build")
    assert await outside.set_admin("boss", admin=False)
    with pytest.raises(AccessDenied, match="no admin any more"):
        await service.guard.grant(boss.caller, [make("bob")])
    await service.guard.catch_up()
    assert boss.ended == (Outcome.DENIED, DEMOTED_TEXT)
    again = people.caller("boss")
    service.access.require(again)
    assert not service.access.decide(again, BUILD).allowed
    login = await service.store.find_login("boss")
    assert login
    assert not login.user.admin
