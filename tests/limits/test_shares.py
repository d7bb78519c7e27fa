"""Quotas and rates of a process that is one of several."""

from __future__ import annotations

import pytest

from pipe.errors import QuotaExceeded
from pipe.limits.penalties import Offence
from pipe.limits.quotas import BURST_SECONDS, Holder, Resource, Scope
from pipe.limits.shares import (
    SharedClaims,
    SharedPenalties,
    SharedQuotas,
    SharedRates,
    key_of,
)
from pipe.limits.sources import SECONDS_PER_DAY

ALICE = Holder(Scope.USER, "alice")
NETWORK = Holder(Scope.ADDRESS, "2001:db8::/64")


@pytest.mark.parametrize("holder", [ALICE, NETWORK])
def test_what_others_have_counts(holder: Holder) -> None:
    """A holder has here what the others leave, and gets it back when they have less."""
    told: dict[str, int] = {}
    quotas = SharedQuotas({(Resource.SESSIONS, holder.scope): 3}, told.__setitem__)
    key = key_of(Resource.SESSIONS, holder)
    quotas.tell_others(key, 2)
    quotas.take(Resource.SESSIONS, holder)
    assert quotas.held(Resource.SESSIONS, holder) == 3
    with pytest.raises(QuotaExceeded):
        quotas.take(Resource.SESSIONS, holder)
    assert told == {key: 1}

    quotas.tell_others(key, 0)
    quotas.take(Resource.SESSIONS, holder)
    quotas.give_back(Resource.SESSIONS, holder)
    quotas.give_back(Resource.SESSIONS, holder)
    assert told == {key: 0}


def test_what_is_not_known_is_left_alone() -> None:
    """A node of a later version may count what this one does not."""
    quotas = SharedQuotas({}, lambda *_: None)
    for key in ("claims/192.0.2.1", "kites/USER/alice", "odd", ""):
        quotas.tell_others(key, 1)


def test_rate_is_divided() -> None:
    """Where a user publishes in two processes, each gives half of the rate, and then all again."""
    told: list[tuple[str, int]] = []
    rates = SharedRates(1000, lambda *change: told.append(change))
    bucket = rates.join("alice", 0.0)
    assert bucket
    assert rates.join("alice", 0.0) is bucket
    bucket.take(int(1000 * BURST_SECONDS), 0.0)  # what has been saved
    rates.tell_others("rate/alice", 1, 0.0)
    whole = bucket.take(500, 0.0)
    assert whole == pytest.approx(1.1)  # 500 bytes at 500 a second, and 0.1 s
    rates.tell_others("rate/alice", 0, 0.0)
    assert bucket.wait(0.0) == pytest.approx(0.6)
    for _ in range(2):
        rates.leave("alice", 10.0)
    assert told == [("rate/alice", 1), ("rate/alice", 0)]


def test_share_is_known_before_the_first_byte() -> None:
    """Who begins to publish here while others publish elsewhere has a share from the start."""
    rates = SharedRates(1000, lambda *_: None)
    rates.tell_others("rate/alice", 3, 0.0)
    bucket = rates.join("alice", 0.0)
    assert bucket
    assert bucket.take(500, 0.0) == pytest.approx(0.1 + 250 / 250)


def test_no_rate_is_no_bucket() -> None:
    """Without a limit nothing is told."""
    told: list[tuple[str, int]] = []
    rates = SharedRates(0, lambda *change: told.append(change))
    assert rates.join("alice", 0.0) is None
    rates.leave("alice", 0.0)
    assert not told


ADDRESS = "192.0.2.1"


def test_claims_elsewhere_count() -> None:
    """An address has here what others leave; what it claims here is told, until a day is over."""
    told: list[tuple[str, int]] = []
    claims = SharedClaims(3, lambda *change: told.append(change))
    claims.tell_others(f"claims/{ADDRESS}", 1)
    for now in (0.0, 10.0):
        assert claims.allows(ADDRESS, now)
        claims.record(ADDRESS, now)
    assert not claims.allows(ADDRESS, 20.0)
    claims.tell_others(f"claims/{ADDRESS}", 0)
    claims.tell_others(f"sessions/ADDRESS/{ADDRESS}", 9)
    assert claims.allows(ADDRESS, 20.0)
    claims.give_back(ADDRESS)
    claims.forget_old(SECONDS_PER_DAY)
    assert told == [(f"claims/{ADDRESS}", count) for count in (1, 2, 1, 0)]


def penalties(charged: list[tuple[str, Offence]]) -> SharedPenalties:
    """Refused from two offences on."""
    return SharedPenalties(
        {Offence.REFUSED: 10.0}, 20.0, 60.0, lambda *offence: charged.append(offence)
    )


def test_offences_add_up_wherever_they_are_committed() -> None:
    """What is told by others counts as one's own, and is not told again."""
    charged: list[tuple[str, Offence]] = []
    here = penalties(charged)
    here.hear_of(ADDRESS, Offence.REFUSED, 0.0)
    assert not here.refuses(ADDRESS, 0.0)
    here.add(ADDRESS, Offence.REFUSED, 0.0)
    assert here.refuses(ADDRESS, 0.0)
    assert charged == [(ADDRESS, Offence.REFUSED)]


def test_the_longer_penalty_counts() -> None:
    """Who has missed offences takes penalties as they are; to hear of one twice adds nothing."""
    here, there = penalties([]), penalties([])
    for _ in range(3):
        there.add(ADDRESS, Offence.REFUSED, 0.0)
    here.add(ADDRESS, Offence.REFUSED, 100.0)
    for _ in range(2):
        for known in there.list_newest(10, 5.0):
            here.merge(*known, now=100.0)
    assert list(here.list_newest(10, 100.0)) == [(ADDRESS, 25.0, True)]
    assert not here.refuses(ADDRESS, 125.0)
    assert not list(there.list_newest(10, 30.0))
