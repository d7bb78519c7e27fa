"""Hooks in both kinds of database: what is kept, what is found, what is counted, what goes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from pipe.errors import StoreError
from pipe.language.hook_requests import HookKind
from pipe.store import NewHook, Store
from pipe.store import hooks as hooks_module

from .conftest import new_key

PATHS = ["", "ci/", "build", "ci/build"]


def make(number: str, user: str = "alice") -> NewHook:
    """A hook of somebody's."""
    return NewHook(
        id=f"{number:a<12}",
        user=user,
        owner=user,
        path="alpine:latest",
        kind=HookKind.GITHUB,
        secret="s" * 64,
        hold=600.0,
        name="it's \U0001f600",
    )


@pytest.fixture
async def store(store: Store) -> Store:
    """No hooks, of alice and bob, who is an admin."""
    await store.add_user("alice", keys=[new_key("a")])
    await store.add_user("bob", admin=True, keys=[new_key("b")])
    return store


async def test_hooks_come_back(store: Store) -> None:
    """What was made is found by its ID as it was; until then there is none."""
    made = [
        replace(make(f"{kind.value[:4]}"), kind=kind, path=path)
        for kind, path in zip(HookKind, itertools.cycle(PATHS), strict=False)
    ]
    for new in made:
        assert await store.hooks.find(new.id) is None
        await store.hooks.add(new)
    found = [await store.hooks.find(new.id) for new in made]
    for hook, new in zip(found, made, strict=True):
        assert hook
        assert all(getattr(hook, field) == getattr(new, field) for field in NewHook.__slots__)
        assert (hook.used, hook.admin) == (None, False)
        assert hook.is_space == (new.path in {"", "ci/"})
        assert hook.target == f"alice/{new.path}"
    assert set(await store.hooks.list_hooks("alice")) == set(found)
    assert await store.hooks.list_hooks("bob") == ()


async def test_what_is_no_id(store: Store) -> None:
    """What no hook can be called is none, whatever a database would say to it."""
    for number in ("", "x", "a" * 13, "A" * 12, "\0" * 12, "é" * 12, "%" * 9000):
        assert await store.hooks.find(number) is None


async def test_admins(store: Store) -> None:
    """Whether a hook's user is an admin is so as it is now."""
    await store.hooks.add(make("x", "bob"))
    found = await store.hooks.find(make("x").id)
    assert found
    assert found.admin
    await store.set_admin("bob", admin=False)
    found = await store.hooks.find(make("x").id)
    assert found
    assert not found.admin


async def test_removed_ones_are_gone(store: Store) -> None:
    """One is named by the start of its ID, if no other of the user's begins so."""
    for number in ("aaaab", "aaaac", "zzzz"):
        await store.hooks.add(make(number))
    for start, message in (
        ("aaa", "at least 4"),
        ("aaaa", "2 hooks begin"),
        ("bbbb", "no hook begins"),
        ("aaaa%", "no hook begins"),
    ):
        with pytest.raises(StoreError, match=message):
            await store.hooks.remove("alice", start)
    with pytest.raises(StoreError, match="no hook begins"):
        await store.hooks.remove("bob", "zzzz")
    number = make("zzzz").id
    assert await store.hooks.find(number)
    assert (await store.hooks.remove("alice", "zzzz")).id == number
    assert await store.hooks.find(number) is None


async def test_they_go_with_their_user(store: Store) -> None:
    """Who comes by the name later has none of them."""
    await store.hooks.add(make("x"))
    await store.remove_user("alice")
    assert await store.hooks.find(make("x").id) is None
    with pytest.raises(StoreError, match="no user 'alice' any more"):
        await store.hooks.add(make("x"))


async def test_another_secret(store: Store) -> None:
    """A secret takes the other's place, and all else stays."""
    await store.hooks.add(make("x"))
    before = await store.hooks.find(make("x").id)
    await store.hooks.rotate("alice", make("x").id, "t" * 64)
    after = await store.hooks.find(make("x").id)
    assert before
    assert after == replace(before, secret="t" * 64)
    with pytest.raises(StoreError, match="no hook begins"):
        await store.hooks.rotate("bob", make("x").id, "u" * 64)


async def test_uses_are_stored(store: Store) -> None:
    """The time of the last use is there at the next look."""
    await store.hooks.add(make("x"))
    store.hooks.note_use(make("x").id, 5.0)
    store.hooks.note_use("gone", 6.0)
    [hook] = await store.hooks.list_hooks("alice")
    assert hook.used == 5.0


async def test_they_are_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has so many and no more; others' do not count."""
    monkeypatch.setattr(hooks_module, "MAX_HOOKS", 2)
    await store.hooks.add(make("b", "bob"))
    await store.hooks.add(make("x"))
    await store.hooks.add(make("y"))
    with pytest.raises(StoreError, match="2 hooks already"):
        await store.hooks.add(make("z"))
    await store.hooks.remove("alice", make("x").id)
    await store.hooks.add(make("z"))


async def test_lookups_are_cached(store: Store) -> None:
    """Neither a hook nor an ID that is none is looked up again until something changes."""
    await store.hooks.add(make("x"))
    numbers = [make("x").id, make("y").id]
    for number in numbers:
        await store.hooks.find(number)
    database = store.hooks._database  # noqa: SLF001 - whether it is asked
    asked: list[object] = []
    read = database.read
    database.read = lambda work: asked.append(work) or read(work)  # type: ignore[method-assign,func-returns-value]
    before = database.stamp()
    for number in numbers:
        await store.hooks.find(number)
    assert not asked or database.stamp() != before  # PostgreSQL's goes on with the time
    await store.hooks.add(make("y"))
    assert await store.hooks.find(make("y").id)
