"""Who has how much kept, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from pipe.errors import QuotaExceeded
from pipe.limits.keeping import Keeping
from pipe.rights.callers import Caller
from tests.fakes import NAME, OTHER

ALICE = Caller("alice", "SHA256:a", False)
BOB = Caller("bob", "SHA256:b", False)


def keeping(most_of_all: int = 0) -> tuple[Keeping, list[object]]:
    """One with small limits, and what it lets go."""
    gone: list[object] = []
    return Keeping(10, 15, most_of_all, gone.append), gone


def test_topic_has_a_bound() -> None:
    """A topic keeps no more than one may."""
    with pytest.raises(QuotaExceeded, match="at most 10: use a smaller"):
        keeping()[0].take(NAME, ALICE, 11)


def test_user_has_a_bound() -> None:
    """All topics of a user count together, until they are closed."""
    kept, _ = keeping()
    kept.take(NAME, ALICE, 10)
    with pytest.raises(QuotaExceeded, match="at most 15 together"):
        kept.take(OTHER, ALICE, 6)
    kept.take(OTHER, BOB, 6)
    kept.closed(OTHER)
    kept.closed(NAME)
    kept.take(OTHER, ALICE, 10)


def test_only_growth_counts() -> None:
    """Who wants less than is kept already takes nothing; who wants more, the difference."""
    kept, _ = keeping(most_of_all=12)
    kept.take(NAME, ALICE, 8)
    kept.take(NAME, BOB, 5)
    kept.take(NAME, BOB, 10)
    kept.take(OTHER, BOB, 2)
    with pytest.raises(QuotaExceeded, match="no memory left"):
        kept.take(OTHER, BOB, 3)


async def test_topic_is_let_go_after_its_time() -> None:
    """Once, and later if it was asked for again."""
    let_go = asyncio.Queue[object]()
    kept = Keeping(10, 15, 0, let_go.put_nowait)
    kept.linger(NAME, 3600)
    kept.linger(NAME, 0)
    assert await let_go.get() == NAME
    kept.close()
    assert let_go.empty()


async def test_user_who_is_gone_keeps_nothing() -> None:
    """What lingers and counts for somebody who is gone is let go at once."""
    kept, gone = keeping()
    kept.take(NAME, ALICE, 10)
    kept.take(OTHER, BOB, 10)
    kept.linger(NAME, 3600)
    kept.linger(OTHER, 3600)
    kept.forget(lambda caller: caller.user == "alice")
    assert gone == [NAME]
    kept.close()
