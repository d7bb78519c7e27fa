"""Places that stand without their client: how long, whose, and how many."""

from __future__ import annotations

import asyncio

from pipe.limits.holds import MAX_READERS_PER_USER, Ended, HeldReader, Holds
from pipe.rights.callers import Caller
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
from tests.fakes import NAME, OTHER

ALICE = Caller("alice", "SHA256:a", False)
BOB = Caller("bob", "SHA256:b", False)
LONG = 3600.0


def reader(gone: list[HeldReader], caller: Caller = ALICE) -> HeldReader:
    """One that notes that it was given up."""
    held = HeldReader(caller, Member(Mode.SUBSCRIBE), lambda: gone.append(held))
    return held


async def test_reader_is_held_for_its_time() -> None:
    """Then it is given up, once."""
    over = asyncio.Event()
    holds = Holds()
    held = HeldReader(ALICE, Member(Mode.SUBSCRIBE), over.set)
    holds.hold_reader(NAME, held, 0)
    assert holds.readers_of(NAME, "alice") == [held]
    await over.wait()
    assert not holds.readers_of(NAME, "alice")
    over.clear()
    holds.drop_reader(NAME, held)
    assert not over.is_set()


async def test_reader_is_its_users() -> None:
    """Nobody else's places are found, nor those on other topics."""
    holds = Holds()
    for name, caller in ((NAME, ALICE), (NAME, BOB), (OTHER, ALICE)):
        holds.hold_reader(name, reader([], caller), LONG)
    assert [one.caller for one in holds.readers_of(NAME, "alice")] == [ALICE]
    holds.close()
    assert not holds.readers_of(NAME, "alice")


async def test_users_readers_are_bounded() -> None:
    """So many at once; what was given up makes room."""
    holds = Holds()
    for _ in range(MAX_READERS_PER_USER):
        assert holds.may_hold_reader("alice")
        holds.hold_reader(NAME, reader([]), LONG)
    assert not holds.may_hold_reader("alice")
    assert holds.may_hold_reader("bob")
    holds.drop_reader(NAME, holds.readers_of(NAME, "alice")[0])
    assert holds.may_hold_reader("alice")
    holds.close()


async def test_places_go_with_their_user() -> None:
    """Who has no account any more holds nothing."""
    holds = Holds()
    gone: list[HeldReader] = []
    hers, his = reader(gone), reader(gone, BOB)
    holds.hold_reader(NAME, hers, LONG)
    holds.hold_reader(NAME, his, LONG)
    holds.forget(lambda caller: caller is ALICE)
    assert gone == [hers]
    holds.close()


async def test_receipt_is_known_until_its_time_is_over() -> None:
    """Whoever waits for it to be forgotten is told, also when another one takes its place."""
    told: list[object] = []
    holds = Holds(told.append)
    for _ in range(2):
        holds.hold_ended(NAME, Ended(ALICE, 0, 9, lambda: None), LONG)
    assert (told, list(holds.receipts)) == ([NAME], [NAME])
    holds.drop_ended(NAME)
    holds.drop_ended(NAME)
    assert (told, list(holds.receipts)) == ([NAME] * 2, [])
