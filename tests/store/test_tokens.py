"""Tokens in both kinds of database: what is kept, what is found, what is counted, what goes."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipe.errors import AccessDenied, StoreError
from pipe.rights.scopes import Reach, Right, Scope
from pipe.store import GrantStore, NewToken, Store, Token, TokenKind
from pipe.store import tokens as tokens_module
from pipe.store.changes import Kind

from .conftest import new_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

A, B = (f"SHA256:{letter * 43}" for letter in ("a", "b"))
SCOPE = Scope(
    Reach.parse(["build", "ci-*", "bob/x"], owner="alice"),
    Reach.parse(["**"], owner="alice"),
    frozenset({Right.LOGS, Right.REGISTRY}),
)
CODE, LINK, API, SESSION = TokenKind.CODE, TokenKind.LINK, TokenKind.API, TokenKind.SESSION
HOUR = 3600.0


def digest(text: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def make(
    number: str,
    kind: TokenKind = API,
    *,
    user: str = "alice",
    lasts: float = HOUR,
    made_by: str = A,
    uses: int | None = None,
) -> NewToken:
    """A token whose secret is its number."""
    now = time.time()
    return NewToken(
        id=f"{number:a<12}",
        secret=digest(number),
        user=user,
        kind=kind,
        name="it's \U0001f600",
        scope=SCOPE,
        admin=False,
        made_by=made_by,
        backing="",
        created=now,
        until=now + lasts,
        session_until=now + 2 * HOUR if kind is CODE else None,
        uses_left=uses,
    )


@pytest.fixture
async def store(store: Store) -> Store:
    """No tokens, of alice and bob, who is an admin."""
    await store.add_user("alice", keys=[new_key("a" * 43)])
    await store.add_user("bob", admin=True, keys=[new_key("b" * 43)])
    return store


def ids(tokens: Sequence[Token]) -> list[str]:
    """Which they are, as `make` was told."""
    return [one.id.rstrip("a") for one in tokens]


async def logged(store: Store) -> list[tuple[str, str]]:
    """Of which tokens the log says that they were removed."""
    changes = await GrantStore(store.database).changes_since(0)
    return [(one.user, one.subject.rstrip("a")) for one in changes if one.kind is Kind.TOKEN]


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("scope", [SCOPE, Scope(), None])
async def test_tokens_come_back(store: Store, kind: TokenKind, scope: Scope | None) -> None:
    """What was made is found by its secret as it was, until then it is unknown."""
    new = replace(make("x", kind, uses=3), scope=scope)
    assert await store.tokens.find(new.secret) is None
    await store.tokens.add(new)
    found = await store.tokens.find(new.secret)

    assert found
    assert (found.id, found.user, found.kind, found.name) == (new.id, "alice", kind, new.name)
    assert (found.scope, found.admin) == (scope, False)
    assert (found.made_by, found.backing) == (A, "")
    assert (found.created, found.until) == (new.created, new.until)
    assert (found.session_until, found.uses_left) == (new.session_until, 3)
    assert (found.used, found.used_from) == (None, "")


async def test_no_secret_is_kept(sqlite_store: Store, path: Path) -> None:
    """What a bearer shows is nowhere in the database."""
    await sqlite_store.add_user("alice", keys=[new_key("a" * 43)])
    secret = "ptk_aaaaaaaaaaaa_very-secret"
    await sqlite_store.tokens.add(replace(make("x"), secret=digest(secret)))
    files = [file.read_bytes() for file in path.parent.iterdir()]

    assert any(digest(secret).encode() in data for data in files)
    assert not any(b"very-secret" in data for data in files)


async def test_admin_is_what_its_user_is(store: Store) -> None:
    """A token for an admin's rights has them as long as its user does, and no other has them."""
    for number, user, key in (("x", "bob", B), ("y", "alice", A)):
        await store.tokens.add(replace(make(number, user=user, made_by=key), admin=True))
    await store.tokens.add(make("z", user="bob", made_by=B))

    async def admins() -> list[bool]:
        return [bool((one := await store.tokens.find(digest(n))) and one.admin) for n in "xyz"]

    assert await admins() == [True, False, False]
    await store.set_admin("bob", admin=False)
    assert await admins() == [False, False, False]


async def test_looking_up_again_asks_nobody(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is remembered until something changes; what is no token is not."""
    store = sqlite_store
    await store.add_user("alice", keys=[new_key("a" * 43)])
    await store.tokens.add(make("x"))
    read, asked = store.database.read, 0

    async def counted(work: object) -> object:
        nonlocal asked
        asked += 1
        return await read(work)  # type: ignore[arg-type]

    monkeypatch.setattr(store.database, "read", counted)
    for _ in range(10):
        assert await store.tokens.find(digest("x"))
    assert asked == 1
    for _ in range(10):
        assert not await store.tokens.find(digest("no"))
    assert asked == 11
    await store.tokens.remove("alice", "xaaa")
    assert await store.tokens.find(digest("x")) is None


async def test_uses_are_counted_down(store: Store, url: str) -> None:
    """What may be used three times is used three times, however many ask at once and where."""
    await store.tokens.add(make("x", LINK, uses=3))
    async with await Store.open(url) as other:
        results = await asyncio.gather(
            *(
                one.tokens.use(digest("x"), LINK, f"192.0.2.{number}", time.time())
                for number in range(5)
                for one in (store, other)
            )
        )

    assert [used for _, used in results].count(True) == 3
    found = await store.tokens.find(digest("x"))
    assert found
    assert found.uses_left == 0
    assert found.used
    assert found.used_from.startswith("192.0.2.")


async def test_what_is_over_or_something_else_is_not_used(store: Store) -> None:
    """A use counts only before the end, and only as what it is."""
    now = time.time()
    for number, kind, lasts in (("x", LINK, -1.0), ("y", CODE, HOUR), ("z", API, HOUR)):
        await store.tokens.add(make(number, kind, lasts=lasts, uses=None if kind is API else 1))
    for number in "xyz":
        token, used = await store.tokens.use(digest(number), LINK, "192.0.2.1", now)
        assert token
        assert not used
        assert token.uses_left == (None if number == "z" else 1)
    assert await store.tokens.use(digest("no"), LINK, "192.0.2.1", now) == (None, False)


async def test_code_is_exchanged_once(store: Store, url: str) -> None:
    """Of many who exchange one code at once, one gets a session, and it is the code's."""
    code = replace(make("x", CODE, uses=1), admin=True, user="bob", made_by=B, scope=None)
    await store.tokens.add(code)
    sessions = [make(f"s{number}", SESSION) for number in range(6)]
    async with await Store.open(url) as other:
        results = await asyncio.gather(
            *(
                (store, other)[number % 2].tokens.redeem(
                    code.secret, session, "192.0.2.1", time.time()
                )
                for number, session in enumerate(sessions)
            )
        )

    assert [made for _, made in results].count(True) == 1
    [winner] = [session for session, (_, made) in zip(sessions, results, strict=True) if made]
    [session] = await store.tokens.list_tokens()
    assert (session.id, session.kind) == (winner.id, SESSION)
    assert (session.user, session.scope, session.admin) == ("bob", None, True)
    assert (session.made_by, session.until) == (B, code.session_until)
    assert (session.session_until, session.uses_left) == (None, None)


async def test_only_codes_are_exchanged(store: Store) -> None:
    """Neither what is no code nor one that is over makes a session."""
    await store.tokens.add(make("x", LINK, uses=1))
    await store.tokens.add(make("y", CODE, uses=1, lasts=-1.0))
    for number in ("x", "y", "no"):
        new = make("s", SESSION)
        assert not (await store.tokens.redeem(digest(number), new, "", time.time()))[1]
    assert ids(await store.tokens.list_tokens()) == ["x"]


async def test_lists(store: Store) -> None:
    """What has not ended is listed, of one or of all, without the codes."""
    await store.tokens.add(make("x", LINK, uses=1))
    await store.tokens.add(make("y"))
    await store.tokens.add(make("z", lasts=-1.0))
    await store.tokens.add(make("c", CODE, uses=1))
    await store.tokens.add(make("b", user="bob", made_by=B))
    await store.tokens.use(digest("x"), LINK, "", time.time())

    assert ids(await store.tokens.list_tokens("alice")) == ["y", "x"]
    assert ids(await store.tokens.list_tokens()) == ["y", "x", "b"]
    with pytest.raises(StoreError, match="no user 'nobody'"):
        await store.tokens.list_tokens("nobody")


async def test_uses_are_noted(store: Store) -> None:
    """A token remembers when and from where it was last used; one that is gone is no error."""
    await store.tokens.add(make("x"))
    store.tokens.note_use(make("x").id, "2001:db8::1", 1234.5)
    store.tokens.note_use("gone", "192.0.2.1", 1.0)
    [found] = await store.tokens.list_tokens()
    assert (found.used, found.used_from) == (1234.5, "2001:db8::1")


async def test_uses_are_stored_at_the_end(store: Store, url: str) -> None:
    """What was noted right before the store is closed is not lost."""
    async with await Store.open(url) as other:
        await other.tokens.add(make("x"))
        other.tokens.note_use(make("x").id, "192.0.2.1", 7.0)
    [found] = await store.tokens.list_tokens()
    assert found.used == 7.0


async def test_removal(store: Store) -> None:
    """One goes by the start of its ID, with an entry in the log; others' stay."""
    for number, user, key in (("xyzt", "alice", A), ("xyzu", "alice", A), ("xyzv", "bob", B)):
        await store.tokens.add(make(number, user=user, made_by=key))
    for start, message in (
        ("xyz", "at least 4 characters"),
        ("xyzv", "no token begins with 'xyzv'"),
        ("____", "no token begins"),
        ("%%%%", "no token begins"),
    ):
        with pytest.raises(StoreError, match=message):
            await store.tokens.remove("alice", start)
    await store.tokens.add(make("xyztb"))
    with pytest.raises(StoreError, match="2 tokens begin with 'xyzt'"):
        await store.tokens.remove("alice", "xyzt")
    with pytest.raises(StoreError, match="no user 'nobody'"):
        await store.tokens.remove("nobody", "xyzt")
    assert await logged(store) == []

    assert ids(await store.tokens.remove("alice", "xyzu")) == ["xyzu"]
    assert await logged(store) == [("alice", "xyzu")]
    assert len(await store.tokens.remove("alice", None)) == 2
    assert ids(await store.tokens.list_tokens()) == ["xyzv"]
    assert len(await logged(store)) == 3


async def test_tokens_go_with_user_and_key(store: Store) -> None:
    """Those that a key made go with it, the others of its user do not; all go with the user."""
    await store.add_key("alice", new_key("b" * 43), shared=True)
    await store.tokens.add(make("x"))
    await store.tokens.add(make("y", made_by=B))
    await store.tokens.add(make("z", user="bob", made_by=B))
    filed = replace(make("f", made_by=B), backing="file")
    await store.tokens.add(filed)
    await store.remove_key("alice", "bbbb")
    assert sorted(ids(await store.tokens.list_tokens())) == ["f", "x", "z"]
    await store.remove_user("alice")
    assert ids(await store.tokens.list_tokens()) == ["z"]


async def test_nobody_makes_one_with_a_key_that_is_gone(store: Store) -> None:
    """Neither for a user who is gone, nor with a key that is another's or nobody's."""
    for token in (make("x", made_by=B), make("x", made_by="SHA256:gone")):
        with pytest.raises(AccessDenied, match="the key that you logged in with was removed"):
            await store.tokens.add(token)
    with pytest.raises(StoreError, match="no user 'nobody' any more"):
        await store.tokens.add(replace(make("x", user="nobody"), backing="file"))
    assert await store.tokens.list_tokens() == ()


@pytest.mark.parametrize("what", ["user", "key"])
async def test_exchanged_while_its_maker_is_removed(store: Store, url: str, what: str) -> None:
    """Whichever comes first, there is no session of whoever is gone."""
    async with await Store.open(url) as other:
        for number in range(20):
            await store.tokens.add(make("c", CODE, uses=1))
            session = make("s", SESSION)
            redeem = asyncio.create_task(store.tokens.redeem(digest("c"), session, "", time.time()))
            await asyncio.sleep(number / 10_000)
            if what == "user":
                await other.remove_user("alice")
                await asyncio.wait({redeem})
                await store.add_user("alice", keys=[new_key("a" * 43)])
            else:
                await other.remove_key("alice", A)
                await asyncio.wait({redeem})
                await store.add_key("alice", new_key("a" * 43))
            assert isinstance(redeem.exception(), AccessDenied | None)
            assert await store.tokens.find(digest("s")) is None


@pytest.mark.parametrize("what", ["user", "key"])
async def test_made_while_its_maker_is_removed(store: Store, url: str, what: str) -> None:
    """Whichever comes first, nothing is left for whoever takes the name, or has the key, next."""
    async with await Store.open(url) as other:
        for number in range(20):
            add = asyncio.create_task(store.tokens.add(make("x")))
            await asyncio.sleep(number / 10_000)
            if what == "user":
                await other.remove_user("alice")
            else:
                await other.remove_key("alice", A)
            await asyncio.wait({add})
            assert isinstance(add.exception(), StoreError | AccessDenied | None)
            assert await store.tokens.list_tokens() == ()
            assert await store.tokens.find(digest("x")) is None
            if what == "user":
                await store.add_user("alice", keys=[new_key("a" * 43)])
            else:
                await store.add_key("alice", new_key("a" * 43))


@pytest.mark.parametrize("kind", [API, LINK])
async def test_number_is_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: TokenKind
) -> None:
    """A user can have so many that have not ended; those that have make room for more."""
    monkeypatch.setitem(tokens_module.LIMITS, kind, 3)
    for number in ("x", "y"):
        await store.tokens.add(make(number, kind))
    await store.tokens.add(make("over", kind, lasts=-1.0))
    await store.tokens.add(make("other", SESSION))
    await store.tokens.add(make("bobs", kind, user="bob", made_by=B))
    assert await store.tokens.find(digest("over"))  # so that its bearer can be told
    await store.tokens.add(make("z", kind))
    assert not await store.tokens.find(digest("over"))
    with pytest.raises(StoreError, match="as many as there can be"):
        await store.tokens.add(make("one more", kind))

    assert await logged(store) == []
    await store.tokens.remove("alice", "xaaa")
    await store.tokens.add(make("one more", kind))


@pytest.mark.parametrize("kind", [SESSION, CODE])
async def test_oldest_login_makes_room(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: TokenKind
) -> None:
    """One more browser logs the oldest one out, and the log says so."""
    monkeypatch.setitem(tokens_module.LIMITS, kind, 2)
    for number in ("x", "y", "z"):
        await store.tokens.add(make(number, kind, uses=1))

    assert [bool(await store.tokens.find(digest(number))) for number in "xyz"] == [
        False,
        True,
        True,
    ]
    assert await logged(store) == [("alice", "x")]


async def test_many_at_once_stay_within_the_bound(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also two servers that add at the same moment count together."""
    monkeypatch.setitem(tokens_module.LIMITS, API, 5)
    async with await Store.open(url) as other:
        results = await asyncio.gather(
            *(
                one.tokens.add(make(f"{name}{number}"))
                for number in range(5)
                for name, one in (("x", store), ("y", other))
            ),
            return_exceptions=True,
        )
    assert sum(isinstance(one, StoreError) for one in results) == 5
    assert len(await store.tokens.list_tokens()) == 5


async def test_what_has_ended_is_kept_for_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day nobody need be told any more, and the next one that is made sweeps it out."""
    await store.tokens.add(make("x", lasts=-1.0))
    await store.tokens.add(make("y"))
    assert await store.tokens.find(digest("x"))
    monkeypatch.setattr(tokens_module, "KEPT_SECONDS", 0.0)
    await store.tokens.add(make("z"))
    assert await store.tokens.find(digest("x")) is None
    assert await store.tokens.find(digest("y"))
