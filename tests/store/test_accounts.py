"""Accounts: who gets a name or a key, and what a login asks, in both kinds of database."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipe.errors import BadName, KeyTaken, StoreError
from pipe.language.names import TopicName
from pipe.rights.grants import Grant, Operation
from pipe.store import GrantStore, Store
from pipe.store.database import FOREIGN_CHANGE_SECONDS
from pipe.store.uses import Uses

from .conftest import new_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from pipe.store import Login
    from tests.postgres import Postgres


async def test_users(store: Store) -> None:
    """A user that was added is found, listed by name, and gone after it was removed."""
    assert await store.get_user("bob") is None
    bob = await store.add_user("bob", admin=True)
    alice = await store.add_user("alice", keys=[new_key("aaaa"), new_key("bbbb")])
    assert (bob.name, bob.admin, alice.admin) == ("bob", True, False)
    assert await store.get_user("bob") == bob
    assert await store.list_users() == (alice, bob)
    assert {key.fingerprint for key in await store.remove_user("alice")} == {
        "SHA256:aaaa",
        "SHA256:bbbb",
    }
    assert await store.list_users() == (bob,)


async def test_keys(store: Store) -> None:
    """A key that was added is found under its user's name and no other."""
    await store.add_user("bob")
    await store.add_user("alice")
    added = await store.add_key("bob", new_key("aaaa"))
    assert (added.user, added.key_type, added.comment) == ("bob", "ssh-ed25519", "aaaa@host")
    assert (added.public, added.last_used) == ("ssh-ed25519 aaaa", None)
    assert await store.find_key("bob", "SHA256:aaaa") == added
    assert await store.find_key("alice", "SHA256:aaaa") is None
    assert await store.find_key("bob", "SHA256:aaa") is None
    assert await store.list_keys("alice") == ()
    assert await store.list_keys() == await store.list_keys("bob") == (added,)


async def test_uses(store: Store) -> None:
    """A key remembers when it was last used; one that is gone by then is no error."""
    await store.add_user("bob", keys=[new_key("aaaa"), new_key("bbbb")])
    store.note_use("bob", "SHA256:aaaa", 1234.5)
    store.note_use("bob", "SHA256:gone")
    first, second = await store.list_keys("bob")
    assert (first.last_used, second.last_used) == (1234.5, None)
    store.note_use("bob", "SHA256:aaaa")
    (key, _) = await store.list_keys("bob")
    assert key.last_used is not None
    assert key.last_used >= key.created


async def test_uses_are_stored_at_the_end(url: str) -> None:
    """What was noted right before the store is closed is not lost."""
    async with await Store.open(url) as store:
        await store.add_user("bob", keys=[new_key("aaaa")])
        store.note_use("bob", "SHA256:aaaa", 1234.5)
    async with await Store.open(url) as store:
        (key,) = await store.list_keys()
        assert key.last_used == 1234.5


async def test_claim(store: Store) -> None:
    """The first key gets a free name; a name or key that is taken changes nothing."""
    assert await store.claim("bob", new_key("aaaa"))
    assert not await store.claim("bob", new_key("bbbb"))
    assert not await store.claim("alice", new_key("aaaa"))
    assert [user.name for user in await store.list_users()] == ["bob"]
    assert [key.fingerprint for key in await store.list_keys()] == ["SHA256:aaaa"]


async def test_concurrent_claims_of_one_name(store: Store) -> None:
    """Of many keys that claim one name at the same moment exactly one gets it."""
    keys = [new_key(f"key{number}") for number in range(10)]
    won = await asyncio.gather(*(store.claim("bob", key) for key in keys))
    assert won.count(True) == 1
    assert [key.fingerprint for key in await store.list_keys()] == [
        keys[won.index(True)].fingerprint
    ]


async def test_concurrent_claims_of_two_stores(store: Store, url: str) -> None:
    """Two servers on one database cannot both give a name away."""
    async with await Store.open(url) as other:
        won = await asyncio.gather(
            store.claim("bob", new_key("aaaa")), other.claim("bob", new_key("bbbb"))
        )
    assert sorted(won) == [False, True]


async def test_concurrent_claims_of_one_key(store: Store) -> None:
    """One key that claims two names at the same moment gets one."""
    won = await asyncio.gather(
        *(store.claim(name, new_key("aaaa")) for name in ("alice", "bob", "carol"))
    )
    assert won.count(True) == 1
    assert len(await store.list_users()) == 1


@pytest.mark.parametrize("name", ["", "root", "public", "Bob", "a/b", "é", "x" * 33])
async def test_bad_names(store: Store, name: str) -> None:
    """No way leads to a name outside the grammar."""
    with pytest.raises(BadName):
        await store.claim(name, new_key("aaaa"))
    with pytest.raises(BadName):
        await store.add_user(name)
    assert await store.list_users() == ()


async def test_no_such_user(store: Store) -> None:
    """What names a user that is not there says so and how to find the others."""
    for attempt in (
        store.remove_user("bob"),
        store.add_key("bob", new_key("aaaa")),
        store.remove_key("bob", "SHA256:aaaa"),
        store.list_keys("bob"),
    ):
        with pytest.raises(StoreError, match=r"^no user 'bob'; 'pipe user ls' lists them$"):
            await attempt


async def test_taken(store: Store) -> None:
    """A name or key that is taken is refused, and nobody learns whose key it is."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    await store.add_user("carol")
    with pytest.raises(StoreError, match=r"^user 'bob' exists already$"):
        await store.add_user("bob")
    with pytest.raises(StoreError, match=r"^user 'bob' has the key SHA256:aaaa already$"):
        await store.add_key("bob", new_key("aaaa"))
    with pytest.raises(StoreError, match=r"^key SHA256:aaaa belongs to another user$"):
        await store.add_key("carol", new_key("aaaa"))
    with pytest.raises(StoreError, match=r"^key SHA256:aaaa belongs to another user$"):
        await store.add_user("alice", keys=[new_key("bbbb"), new_key("aaaa")])
    assert [user.name for user in await store.list_users()] == ["bob", "carol"]
    assert [key.fingerprint for key in await store.list_keys()] == ["SHA256:aaaa"]


async def test_shared_key(store: Store) -> None:
    """A key that an operator gives to several users logs each of them in, and nobody else."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    await store.add_user("carol")
    await store.add_user("dave")
    shared = await store.add_key("carol", new_key("aaaa"), shared=True)
    assert (shared.user, shared.fingerprint) == ("carol", "SHA256:aaaa")
    assert await store.users_of("SHA256:aaaa") == ("bob", "carol")
    assert await store.find_key("carol", "SHA256:aaaa") == shared
    for name in ("bob", "carol"):
        login = await store.find_login(name, "SHA256:aaaa")
        assert login
        assert login.key
        assert (login.user.name, login.key.user) == (name, name)
    assert await store.find_key("dave", "SHA256:aaaa") is None

    for again in (True, False):
        with pytest.raises(StoreError, match=r"^user 'carol' has the key SHA256:aaaa already$"):
            await store.add_key("carol", new_key("aaaa"), shared=again)
    with pytest.raises(KeyTaken) as caught:
        await store.add_key("dave", new_key("aaaa"))
    assert caught.value.users == ("bob", "carol")
    assert not await store.claim("erin", new_key("aaaa"))


async def test_shared_key_is_used_and_removed_by_each(store: Store) -> None:
    """The time of last use, and the end, are of one user's key and not the other's."""
    await store.add_user("bob", keys=[new_key("aaaa"), new_key("bbbb")])
    await store.add_user("carol")
    await store.add_key("carol", new_key("aaaa"), shared=True)
    store.note_use("carol", "SHA256:aaaa", 5.0)
    assert [key.last_used for key in await store.list_keys("bob")] == [None, None]
    assert [key.last_used for key in await store.list_keys("carol")] == [5.0]

    assert await store.find_key("carol", "SHA256:aaaa")
    await store.remove_key("carol", "aaaa")
    assert await store.find_key("carol", "SHA256:aaaa") is None
    assert await store.find_key("bob", "SHA256:aaaa")
    await store.add_key("carol", new_key("aaaa"), shared=True)
    await store.remove_user("bob")
    assert await store.users_of("SHA256:aaaa") == ("carol",)
    # It is still somebody's, though the one who had it first is gone.
    assert not await store.claim("erin", new_key("aaaa"))
    with pytest.raises(KeyTaken):
        await store.add_user("frank", keys=[new_key("aaaa")])
    await store.remove_key("carol", "aaaa")
    assert await store.claim("erin", new_key("aaaa"))


async def test_one_key_for_two_at_once(store: Store, url: str) -> None:
    """Two servers that are asked to give one key to two users give it to one, without the word."""
    for name in ("bob", "carol"):
        await store.add_user(name)
    async with await Store.open(url) as other:
        for shared in (False, True):
            results = await asyncio.gather(
                store.add_key("bob", new_key(f"key{shared}"), shared=shared),
                other.add_key("carol", new_key(f"key{shared}"), shared=shared),
                return_exceptions=True,
            )
            refused = [one for one in results if isinstance(one, KeyTaken)]
            assert len(refused) == (0 if shared else 1)
            assert len(await store.users_of(f"SHA256:key{shared}")) == (2 if shared else 1)


async def test_remove_key(store: Store) -> None:
    """A key is named by the start of its fingerprint, with or without the name of the hash."""
    await store.add_user("bob", keys=[new_key("abcd1"), new_key("abcd2"), new_key("xyzz1")])
    await store.add_user("alice", keys=[new_key("xyzz2")])
    for start, expected in [
        ("", "at least 4 characters"),
        ("SHA256:xyz", "at least 4 characters"),
        ("abcd", "has 2 keys with the fingerprint 'SHA256:abcd'; 'pipe key ls bob' lists them"),
        ("xyzz2", "has no key"),
        ("ABCD1", "has no key"),
        ("%%%%", "has no key"),
    ]:
        with pytest.raises(StoreError, match=expected):
            await store.remove_key("bob", start)
    assert (await store.remove_key("bob", "xyzz")).fingerprint == "SHA256:xyzz1"
    assert (await store.remove_key("bob", "SHA256:abcd2")).fingerprint == "SHA256:abcd2"
    assert len(await store.list_keys()) == 2


async def test_accounts_outlive_the_server(url: str) -> None:
    """What was stored is there when the database is opened again."""
    async with await Store.open(url) as store:
        await store.claim("bob", new_key("aaaa"))
    async with await Store.open(url) as store:
        assert await store.find_key("bob", "SHA256:aaaa")


async def test_in_memory() -> None:
    """A URL without a file makes a store that is gone when it is closed."""
    async with await Store.open("sqlite://") as store:
        assert await store.claim("bob", new_key("aaaa"))


async def test_removing_a_user_removes_its_keys(sqlite_store: Store, path: Path) -> None:
    """The database itself lets no key outlive its user."""
    store = sqlite_store
    await store.claim("bob", new_key("aaaa"))
    await store.remove_user("bob")
    assert await store.list_keys() == ()
    assert await store.claim("alice", new_key("aaaa"))
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute('SELECT fingerprint, "user" FROM keys').fetchall() == [
            ("SHA256:aaaa", "alice")
        ]


async def test_ensure_user(store: Store) -> None:
    """A name is registered unless it is already, also when two ask at once; flags stay."""
    assert sorted(await asyncio.gather(*(store.ensure_user("bob") for _ in range(3)))) == [
        False,
        False,
        True,
    ]
    admin = await store.add_user("carol", admin=True)
    assert not await store.ensure_user("carol")
    assert await store.get_user("carol") == admin
    with pytest.raises(BadName):
        await store.ensure_user("root")


async def test_login(store: Store) -> None:
    """A login learns whether the name is free, taken, or the key's."""
    assert await store.find_login("bob", "SHA256:aaaa") is None
    bob = await store.add_user("bob", admin=True, keys=[new_key("aaaa")])
    await store.add_user("alice", keys=[new_key("bbbb")])
    (key,) = await store.list_keys("bob")
    login = await store.find_login("bob", "SHA256:aaaa")
    assert login is not None
    assert (login.user, login.key) == (bob, key)
    for fingerprint in ("SHA256:bbbb", "SHA256:gone", ""):
        login = await store.find_login("bob", fingerprint)
        assert login is not None
        assert (login.user, login.key) == (bob, None)


async def test_repeated_logins_do_not_ask_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is remembered: a second login with a key is answered from memory."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    # PostgreSQL's memory lasts a second of the clock, which may end between two calls.
    monkeypatch.setattr("pipe.store.database.FOREIGN_CHANGE_SECONDS", 1e9)
    found = await store.find_login("bob", "SHA256:aaaa")
    alone = await store.find_login("bob")

    async def never(_work: object) -> None:
        raise AssertionError

    monkeypatch.setattr(store.database, "read", never)
    assert await store.find_login("bob", "SHA256:aaaa") == found
    assert await store.find_login("bob") == alone


async def test_own_changes_count_at_once(store: Store) -> None:
    """What this server changes is what the next login finds."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    for _ in range(5):
        assert await store.find_key("bob", "SHA256:aaaa")
        await store.remove_key("bob", "aaaa")
        assert await store.find_key("bob", "SHA256:aaaa") is None
        await store.add_key("bob", new_key("aaaa"))
    assert await store.find_key("bob", "SHA256:aaaa")
    await store.remove_user("bob")
    assert await store.find_login("bob", "SHA256:aaaa") is None


async def test_foreign_changes_count_at_the_next_login(
    sqlite_store: Store, sqlite_url: str
) -> None:
    """What another process changes in an SQLite file is what the next login finds."""
    await sqlite_store.add_user("bob")
    async with await Store.open(sqlite_url) as other:
        for _ in range(5):
            await other.add_key("bob", new_key("aaaa"))
            assert await sqlite_store.find_key("bob", "SHA256:aaaa")
            assert await sqlite_store.find_key("bob", "SHA256:aaaa")
            await other.remove_key("bob", "aaaa")
            assert await sqlite_store.find_key("bob", "SHA256:aaaa") is None


async def test_foreign_changes_in_postgresql(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process changes in PostgreSQL is found when the memory's second is over."""
    clock = 100.0
    monkeypatch.setattr("pipe.store.database.time.monotonic", lambda: clock)
    url = postgres.new_database()
    async with await Store.open(url) as store, await Store.open(url) as other:
        await store.add_user("bob", keys=[new_key("aaaa")])
        assert await store.find_key("bob", "SHA256:aaaa")
        await other.remove_key("bob", "aaaa")
        clock += FOREIGN_CHANGE_SECONDS
        assert await store.find_key("bob", "SHA256:aaaa") is None


async def test_strangers_fill_no_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups of names that are free and keys that are nobody's are not remembered."""
    monkeypatch.setattr("pipe.store.database.FOREIGN_CHANGE_SECONDS", 1e9)
    await store.add_user("bob", keys=[new_key("aaaa")])
    await store.find_key("bob", "SHA256:aaaa")
    read = store.database.read
    asked = []

    async def count(work: Callable[[Connection], Login | None]) -> Login | None:
        asked.append(work)
        return await read(work)

    monkeypatch.setattr(store.database, "read", count)
    for number in range(10):
        await store.find_login("bob", f"SHA256:{number}")
        await store.find_login(f"nobody{number}", "SHA256:aaaa")
    assert len(asked) == 20
    await store.find_key("bob", "SHA256:aaaa")
    assert len(asked) == 20


async def test_a_flurry_of_uses_is_one_transaction(sqlite_store: Store) -> None:
    """Times of last use are written together, so that logins do not wait for the disk."""
    keys = [new_key(f"key{number}") for number in range(50)]
    await sqlite_store.add_user("bob", keys=keys)
    before = sqlite_store.database.stamp()
    for key in keys:
        sqlite_store.note_use("bob", key.fingerprint, 1.5)
    assert sqlite_store.database.stamp() == before
    await sqlite_store.flush_uses()
    after = sqlite_store.database.stamp()
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert (after[0], after[-1]) == (before[0] + 1, before[-1] + 1)
    assert {key.last_used for key in await sqlite_store.list_keys()} == {1.5}


async def test_uses_are_stored_by_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask for what was noted to be stored."""
    monkeypatch.setattr("pipe.store.uses.USES_DELAY", 0.0)
    stored = asyncio.Event()
    flush = Uses.flush

    async def watched(uses: Uses[object, object]) -> None:
        await flush(uses)
        stored.set()

    monkeypatch.setattr(Uses, "flush", watched)
    await store.add_user("bob", keys=[new_key("aaaa")])
    store.note_use("bob", "SHA256:aaaa", 7.0)
    await stored.wait()
    (key,) = await store.list_keys()
    assert key.last_used == 7.0


async def test_named_key_yields_to_whoever_proves_it(store: Store) -> None:
    """A key that was only named is no obstacle, and belongs to the first who logs in with it."""
    for name in ("alice", "bob", "carol"):
        await store.add_user(name)
        await store.add_key(name, new_key("k"), proved=False)
    named = await store.find_key("bob", "SHA256:k")
    assert named
    assert not named.proved
    assert await store.prove("bob", "SHA256:k")

    assert await store.users_of("SHA256:k") == ("bob",)
    assert not await store.prove("alice", "SHA256:k")
    proved = await store.find_key("bob", "SHA256:k")
    assert proved
    assert proved.proved
    with pytest.raises(KeyTaken):
        await store.add_key("alice", new_key("k"), proved=False)
    assert not await store.claim("dora", new_key("k"))


async def test_named_key_yields_to_a_claim_and_to_the_operator(store: Store) -> None:
    """Who proves it with a first login has it, and so has whom an operator gives it to."""
    await store.add_user("mallory")
    for name in ("k", "l", "m"):
        await store.add_key("mallory", new_key(name), proved=False)
    assert await store.claim("alice", new_key("k"))
    await store.add_user("bob", keys=[new_key("l")])
    await store.add_key("bob", new_key("m"))

    assert await store.list_keys("mallory") == ()
    assert len(await store.list_keys()) == 3


async def test_a_key_is_proved_once(store: Store, url: str) -> None:
    """Of two users who log in with one key at the same instant exactly one has it."""
    async with await Store.open(url) as other:
        for number in range(10):
            key = new_key(f"k{number}")
            for name in ("alice", "bob"):
                await store.ensure_user(name)
                await store.add_key(name, key, proved=False)
            proved = await asyncio.gather(
                store.prove("alice", key.fingerprint), other.prove("bob", key.fingerprint)
            )
            assert sorted(proved) == [False, True]
            [owner] = await store.users_of(key.fingerprint)
            assert owner == ("alice", "bob")[proved.index(True)]


async def test_naming_a_key_takes_nothing_from_it(store: Store) -> None:
    """Who names another's key and removes it again does not end what was granted to it."""
    grants = GrantStore(store.database)
    for name in ("alice", "mallory"):
        await store.add_user(name)
    topic, key = TopicName("alice", ("x",)), new_key("k" * 43)
    granted = Grant(topic, key.fingerprint, Operation.READ, None, "alice", 1.0)
    await grants.put([granted])
    await store.add_key("mallory", key, proved=False)
    await store.remove_key("mallory", key.fingerprint)
    await store.add_key("mallory", key, proved=False)
    await store.remove_user("mallory")

    assert (await grants.load())[0] == (granted,)
