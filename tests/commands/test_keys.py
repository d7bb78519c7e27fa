"""``keys``, ``keys add``, ``keys rm``: the caller's keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncssh
import pytest

from pipe.commands import keys as keys_module
from pipe.commands.layout import WIDTH
from pipe.errors import AccessDenied, Outcome, PipeError, StoreError, StoreUnavailable, UsageError
from pipe.rights.access import REMOVED_TEXT
from pipe.stream.ports import Mode
from tests.sessions import fingerprint, key

if TYPE_CHECKING:
    from tests.sessions import People

SPARE = asyncssh.generate_private_key("ssh-ed25519", comment="spare key")
SPARE_LINE = SPARE.export_public_key()


async def test_list(people: People) -> None:
    """Each key has a line; the one that logged in is marked, and comments are escaped."""
    await people.service.store.add_key("alice", key("other", "\x1b]52;c;evil\x07 \u202eliame"))
    text = await people.run("alice", "keys")
    lines = text.splitlines()

    assert lines[0].split() == ["FINGERPRINT", "COMMENT"]
    assert lines[1].split() == ["ADDED", "LAST", "USED", "TYPE"]
    assert {line.split()[0] for line in lines[2::2]} == {fingerprint("alice"), fingerprint("other")}
    assert lines[2] == f"{fingerprint('alice')}  alice@host"
    assert " now " in lines[3]
    assert max(map(len, (await people.run("bob", "keys")).splitlines())) <= WIDTH
    assert text.replace("\n", "").isprintable()
    assert r"\x1b]52;c;evil\x07 \u202eliame" in text


async def test_list_for_programs(people: People) -> None:
    """`keys --json` has one object a line."""
    [row] = map(json.loads, (await people.run("alice", "keys --json")).splitlines())

    assert row["fingerprint"] == fingerprint("alice")
    assert row["current"] is True
    assert row["comment"] == "alice@host"


async def test_add(people: People) -> None:
    """A key from stdin logs its user in from then on."""
    text = await people.run("alice", "keys add", SPARE_LINE)

    assert SPARE.get_fingerprint() in text
    added = await people.service.store.find_key("alice", SPARE.get_fingerprint())
    assert added
    assert added.comment == "spare key"


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "there is no public key"),
        (b"\xff\xfe nonsense", "not a public key that works here"),
        (b"ssh-ed25519 nonsense\n", "not a public key that works here"),
        (SPARE.export_private_key(), "this is a private key, keep it secret"),
        (SPARE_LINE * 2, "more than one line"),
    ],
)
async def test_add_nonsense(people: People, stdin: bytes, message: str) -> None:
    """What is no public key is refused with one line."""
    with pytest.raises(UsageError, match=message) as caught:
        await people.run("alice", "keys add", stdin)

    assert caught.value.message.isprintable()


async def test_key_of_somebody_else(people: People) -> None:
    """A key belongs to one user only, and nobody is told to whom."""
    await people.run("bob", "keys add", SPARE_LINE)
    await people.service.store.prove("bob", SPARE.get_fingerprint())
    with pytest.raises(StoreError, match=r"belongs to another user$") as caught:
        await people.run("alice", "keys add", SPARE_LINE)

    assert "bob" not in caught.value.message


async def test_key_that_somebody_else_has_only_named(people: People) -> None:
    """Who adds another's public key keeps nobody from adding it who has the private one."""
    await people.run("bob", "keys add", SPARE_LINE)
    await people.run("alice", "keys add", SPARE_LINE)
    await people.run("bob", f"keys rm {SPARE.get_fingerprint()}")

    assert await people.service.store.users_of(SPARE.get_fingerprint()) == ("alice",)


async def test_too_many_keys(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of keys has a bound."""
    monkeypatch.setattr(keys_module, "MAX_KEYS", 1)
    with pytest.raises(StoreError, match="as many as there can be; remove one"):
        await people.run("alice", "keys add", SPARE_LINE)


async def test_remove(people: People) -> None:
    """A key is removed by the start of its fingerprint, and its sessions end with a line."""
    await people.service.store.add_key("alice", key("other"))
    with_other = people.caller("alice", key_of="other")
    by_first = people.on("alice", Mode.SUBSCRIBE, "build")
    session = type(by_first)(people.service, with_other)
    session.join(Mode.SUBSCRIBE, "own")
    text = await people.run("alice", "keys rm other")

    assert fingerprint("other") in text
    assert session.ended == (Outcome.DENIED, REMOVED_TEXT)
    assert by_first.ended is None
    with pytest.raises(AccessDenied, match="was removed"):
        type(by_first)(people.service, with_other).join(Mode.SUBSCRIBE, "own")


async def test_remove_the_one_in_use(people: People) -> None:
    """Removing the key of this very session still gets its answer; others with it end."""
    await people.service.store.add_key("alice", key("other"))
    session = people.on("alice", Mode.SUBSCRIBE, "build")
    assert "removed key" in await people.run("alice", f"keys rm {fingerprint('alice')}")

    assert session.ended == (Outcome.DENIED, REMOVED_TEXT)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("ali", "give at least 4 characters"),
        ("SHA256:ali", "give at least 4 characters"),
        ("carol", "no key of yours starts with 'SHA256:carol'"),
        ("same", "2 of your keys start with 'SHA256:same'"),
        ("'\x1b[2J\x1b'", r"no key of yours starts with 'SHA256:\\x1b\[2J"),
    ],
)
async def test_remove_what_is_not_there(people: People, argument: str, message: str) -> None:
    """What names no key, or more than one, removes none."""
    for name in ("same1", "same2"):
        await people.service.store.add_key("alice", key(name))
    with pytest.raises(UsageError, match=message):
        await people.run("alice", f"keys rm {argument}")

    assert len(await people.service.store.list_keys("alice")) == 3


async def test_last_key(people: People) -> None:
    """The last key stays, unless its owner insists."""
    command = f"keys rm {fingerprint('alice')}"
    with pytest.raises(PipeError, match=r"nobody can log in as alice any more: .* give --force"):
        await people.run("alice", command)
    assert len(await people.service.store.list_keys("alice")) == 1
    await people.run("alice", f"{command} --force")

    assert await people.service.store.list_keys("alice") == ()


async def test_last_key_that_is_known_to_work(people: People) -> None:
    """A key that was only named may have a slip in it, so it does not count as one that is left."""
    command = f"keys rm {fingerprint('alice')}"
    await people.run("alice", "keys add", SPARE_LINE)
    with pytest.raises(PipeError, match=r"no other key of yours has logged in yet: .* --force"):
        await people.run("alice", command)
    assert len(await people.service.store.list_keys("alice")) == 2

    await people.service.store.prove("alice", SPARE.get_fingerprint())
    await people.run("alice", command)
    [left] = await people.service.store.list_keys("alice")
    assert left.fingerprint == SPARE.get_fingerprint()


async def test_named_key_goes_at_once(people: People) -> None:
    """A key with a slip in it can be removed, and by force also the one beside it."""
    store = people.service.store
    await people.run("alice", "keys add", SPARE_LINE)
    await people.run("alice", f"keys rm {SPARE.get_fingerprint()}")
    assert [one.fingerprint for one in await store.list_keys("alice")] == [fingerprint("alice")]

    await people.run("alice", "keys add", SPARE_LINE)
    await people.run("alice", f"keys rm {fingerprint('alice')} --force")
    assert [one.fingerprint for one in await store.list_keys("alice")] == [SPARE.get_fingerprint()]


async def test_key_that_is_kept_elsewhere(people: People) -> None:
    """Who came with a certificate or a key of the operator's files is told that it is not here."""
    text = await people.run("bob", "keys", key_of="certificate")

    assert text.endswith(
        "you logged in with a key that is not kept here, but in a certificate or in a\n"
        f"file of the operator's: {fingerprint('certificate')}\n"
    )


async def test_database_that_is_away(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are told that, and not where the database is."""

    async def away(_work: object) -> None:
        raise StoreUnavailable("cannot use postgresql://db.internal/pipe: refused")

    monkeypatch.setattr(people.service.store.database, "read", away)
    monkeypatch.setattr(people.service.store.database, "write", away)
    for command in ("keys", "keys add", "keys rm 1234", "grant x bob", "revoke x bob"):
        with pytest.raises(StoreUnavailable, match=r"^the accounts database does not") as caught:
            await people.run("alice", command, SPARE_LINE)
        assert caught.value.outcome is Outcome.UNAVAILABLE
