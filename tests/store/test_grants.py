"""Grants and the log of changes, in both kinds of database."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from pipe.errors import StoreError
from pipe.language.names import EVERYONE, TopicName
from pipe.rights.grants import Grant, Operation
from pipe.store import GrantStore, Store, changes
from pipe.store import grants as grants_module
from pipe.store.changes import Change, Kind

from .conftest import new_key

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUILD = TopicName("alice", ("build",))
DEEP = TopicName("alice", ("a", "b", "c"))
A, B, C, KEY = (f"SHA256:{letter * 43}" for letter in ("a", "b", "c", "k"))


def make(
    topic: TopicName,
    grantee: str,
    operation: Operation = Operation.BOTH,
    until: float | None = None,
) -> Grant:
    """A grant by the topic's owner."""
    return Grant(topic, grantee, operation, until, topic.owner, 1234.5)


@pytest.fixture
async def grants(store: Store) -> GrantStore:
    """No grants, of alice and bob."""
    await store.add_user("alice", keys=[new_key("a" * 43)])
    await store.add_user("bob", keys=[new_key("b" * 43), new_key("c" * 43)])
    return GrantStore(store.database)


async def all_of(grants: GrantStore) -> set[Grant]:
    """Every grant that holds."""
    return set((await grants.load())[0])


async def newest(grants: GrantStore) -> int:
    """The number of the newest change."""
    return max((one.number for one in (await grants.load())[1]), default=0)


@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE, Operation.BOTH])
async def test_grants_come_back(grants: GrantStore, operation: Operation) -> None:
    """What was granted is read back as it was, whoever it is for and whatever it says."""
    until = time.time() + 1000.25
    given = {make(BUILD, who, operation, until) for who in ("bob", KEY, EVERYONE)}
    assert set(await grants.put(list(given))) == given
    await grants.put([make(DEEP, "bob")])

    assert await all_of(grants) == {*given, make(DEEP, "bob")}
    assert await grants.load_topics([DEEP, TopicName("alice", ("no",))]) == {
        DEEP: [make(DEEP, "bob")],
        TopicName("alice", ("no",)): [],
    }


async def test_new_grant_takes_the_old_ones_place(grants: GrantStore) -> None:
    """There is one grant for each topic and grantee: the last one."""
    await grants.put([make(BUILD, "bob"), make(BUILD, KEY)])
    after = await grants.put([make(BUILD, "bob", Operation.READ)])

    assert set(after) == {make(BUILD, "bob", Operation.READ), make(BUILD, KEY)}


async def test_revoking(grants: GrantStore) -> None:
    """Only what is named goes, and who had nothing is told apart."""
    await grants.put([make(BUILD, "bob"), make(BUILD, KEY)])
    await grants.put([make(DEEP, "bob")])

    assert await grants.remove(BUILD, ["bob", EVERYONE]) == ({"bob"}, (make(BUILD, KEY),))
    assert await grants.remove(BUILD, ["bob"]) == (set(), (make(BUILD, KEY),))
    assert await all_of(grants) == {make(BUILD, KEY), make(DEEP, "bob")}


async def test_only_users_can_be_given_anything(grants: GrantStore) -> None:
    """A name that nobody has is refused, and nothing is granted to the others either."""
    with pytest.raises(StoreError, match="no user 'dave'"):
        await grants.put([make(BUILD, "bob"), make(BUILD, "dave")])

    assert await all_of(grants) == set()


async def test_nobody_gives_for_a_name_that_is_free(grants: GrantStore) -> None:
    """Also an admin cannot: whoever takes the name would have given it without knowing."""
    with pytest.raises(StoreError, match="no user 'nobody'"):
        await grants.put([make(TopicName("nobody", ("x",)), "bob")])

    assert await all_of(grants) == set()


@pytest.mark.parametrize("gone", ["alice", "bob"])
async def test_granted_while_a_user_is_removed(
    store: Store, grants: GrantStore, url: str, gone: str
) -> None:
    """Whichever comes first, nothing is left for whoever takes the name next."""
    async with await Store.open(url) as other:
        for number in range(20):
            put = asyncio.create_task(grants.put([make(BUILD, "bob")]))
            await asyncio.sleep(number / 10_000)
            await other.remove_user(gone)
            await asyncio.wait({put})
            assert put.exception() is None or isinstance(put.exception(), StoreError)
            assert await all_of(grants) == set()
            await store.add_user(gone)


async def test_ended_grants_are_not_read(grants: GrantStore) -> None:
    """What has ended counts no more, and the next grant sweeps it out."""
    await grants.put([make(BUILD, "bob", until=time.time() - 1)])
    assert await all_of(grants) == set()
    assert await grants.load_topics([BUILD]) == {BUILD: []}
    assert await grants.put([make(BUILD, KEY)]) == (make(BUILD, KEY),)


async def test_number_of_grants_is_bounded(
    grants: GrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user can give so many grants, and others as many again; replacing one is no further one."""
    monkeypatch.setattr(grants_module, "MAX_GRANTS", 3)
    await grants.put([make(BUILD, who) for who in ("bob", KEY, EVERYONE)])
    await grants.put([make(BUILD, "bob")])
    with pytest.raises(StoreError, match="as many as there can be; take some back with revoke"):
        await grants.put([make(DEEP, "bob")])
    other = TopicName("bob", ("x",))
    await grants.put([make(other, "alice")])

    assert len(await all_of(grants)) == 4


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("bob", {make(BUILD, A), make(BUILD, EVERYONE)}),
        ("alice", {make(TopicName("bob", ("x",)), EVERYONE)}),
    ],
)
async def test_grants_go_with_a_user(
    store: Store, grants: GrantStore, gone: str, left: set[Grant]
) -> None:
    """What a user gave, was given, or had for a key, goes with the user."""
    await grants.put([make(BUILD, who) for who in ("bob", B, A, EVERYONE)])
    await grants.put([make(TopicName("bob", ("x",)), who) for who in ("alice", A, EVERYONE)])
    await store.remove_user(gone)

    assert await all_of(grants) == left


async def test_grants_go_with_a_key(store: Store, grants: GrantStore) -> None:
    """What was granted to a key goes with it, and nothing else."""
    await grants.put([make(BUILD, who) for who in ("bob", B, C)])
    await store.remove_key("bob", "bbbb")

    assert await all_of(grants) == {make(BUILD, "bob"), make(BUILD, C)}


async def test_grants_stay_with_a_shared_key(store: Store, grants: GrantStore, url: str) -> None:
    """What was granted to a key goes with the last user who had it, however they lose it."""
    await store.add_user("dora")
    for remove_user in (True, False):
        await store.add_key("dora", new_key("b" * 43), shared=True)
        await grants.put([make(BUILD, B)])
        if remove_user:
            await store.remove_user("bob")
        else:
            await store.remove_key("bob", "bbbb")
        assert await all_of(grants) == {make(BUILD, B)}
        await store.remove_key("dora", "bbbb")
        assert await all_of(grants) == set()
        if remove_user:
            await store.add_user("bob", keys=[new_key("b" * 43)])

    await store.add_key("bob", new_key("b" * 43))
    await store.add_key("dora", new_key("b" * 43), shared=True)
    await grants.put([make(BUILD, B)])
    async with await Store.open(url) as other:
        await asyncio.gather(store.remove_key("bob", "bbbb"), other.remove_key("dora", "bbbb"))
    assert await all_of(grants) == set()


async def test_last_key_is_kept(store: Store, grants: GrantStore) -> None:
    """Of two who remove the last two keys at the same moment, one is told that it is the last."""
    assert await all_of(grants) == set()
    results = await asyncio.gather(
        store.remove_key("bob", "bbbb", keep_last=True),
        store.remove_key("bob", "cccc", keep_last=True),
        return_exceptions=True,
    )

    [error] = [one for one in results if isinstance(one, BaseException)]
    assert isinstance(error, StoreError)
    assert "the last one that is known to be bob's" in error.message
    assert len(await store.list_keys("bob")) == 1


async def test_last_proved_key_is_kept(store: Store, grants: GrantStore) -> None:
    """One that was only named is no reason to let the last one go that has logged in."""
    assert await all_of(grants) == set()
    await store.remove_key("bob", "cccc", keep_last=True)
    await store.add_key("bob", new_key("eeee"), proved=False)
    with pytest.raises(StoreError, match="the last one that is known to be bob's"):
        await store.remove_key("bob", "bbbb", keep_last=True)

    await store.remove_key("bob", "eeee", keep_last=True)
    await store.add_key("bob", new_key("eeee"), proved=False)
    await store.remove_key("bob", "bbbb")
    with pytest.raises(StoreError, match="the last one"):
        await store.remove_key("bob", "eeee", keep_last=True)


async def test_changes_are_logged(store: Store, grants: GrantStore) -> None:
    """Whatever is taken away leaves an entry, and what changes nothing leaves none."""
    before = await newest(grants)
    await grants.put([make(DEEP, "bob")])
    await grants.remove(DEEP, ["bob"])
    await grants.remove(DEEP, ["bob"])
    await store.remove_key("bob", "bbbb")
    await store.remove_user("bob")
    logged = await grants.changes_since(before)

    assert [(one.kind, one.user, one.subject) for one in logged] == [
        (Kind.GRANTS, "alice", "a/b/c"),
        (Kind.GRANTS, "alice", "a/b/c"),
        (Kind.KEY, "bob", B),
        (Kind.KEY, "bob", C),
        (Kind.USER, "bob", ""),
    ]
    assert await newest(grants) == logged[-1].number


async def test_changes_are_read_in_order(store: Store, grants: GrantStore) -> None:
    """Entries come in their order; of older ones only the latest come again."""
    for _ in range(2):
        await grants.put([make(BUILD, "bob")])
    first, second = await grants.changes_since(0)
    assert first.number < second.number

    def note_many(connection: Connection) -> None:
        changes.note(connection, Kind.KEY, [("bob", str(n)) for n in range(changes.LOOK_BACK)])

    await store.database.write(note_many)
    again: tuple[Change, ...] = await grants.changes_since(await newest(grants))
    assert len(again) == changes.LOOK_BACK
    assert [one.subject for one in again] == [str(n) for n in range(changes.LOOK_BACK)]


async def test_old_changes_are_dropped(
    store: Store, grants: GrantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry stays for a while, and a number is never given twice."""
    await grants.put([make(BUILD, "bob")])
    [old] = await grants.changes_since(0)
    monkeypatch.setattr(changes, "KEPT_SECONDS", -1.0)
    await grants.put([make(BUILD, "bob")])
    assert await grants.changes_since(0) == ()
    monkeypatch.undo()
    await store.remove_key("bob", "bbbb")
    [new] = await grants.changes_since(0)

    assert new.number == old.number + 2
