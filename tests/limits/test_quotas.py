"""Quotas: counts that never pass their limit, and rates that never pass theirs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import Outcome, QuotaExceeded
from pipe.language.names import TopicName
from pipe.limits.quotas import BURST_SECONDS, Bucket, Holder, Quotas, Rates, Resource, Scope

ALICE = Holder(Scope.USER, "alice")
BOB = Holder(Scope.USER, "bob")
HOME = Holder(Scope.ADDRESS, "10.0.0.1")
NEWS = TopicName("alice", ("news",))
SPORT = TopicName("alice", ("sport",))


def quotas(most: int, resource: Resource = Resource.SESSIONS) -> Quotas:
    """Quotas that are the same for users and addresses."""
    return Quotas({(resource, scope): most for scope in Scope})


def test_one_too_many_is_refused() -> None:
    """The error says what, whose and how many, and comes with an outcome of its own."""
    counts = quotas(2)
    counts.take(Resource.SESSIONS, ALICE)
    counts.take(Resource.SESSIONS, ALICE)
    with pytest.raises(QuotaExceeded) as caught:
        counts.take(Resource.SESSIONS, ALICE)

    assert caught.value.message == "too many sessions of this user: at most 2 at once"
    assert (caught.value.resource, caught.value.outcome) == ("sessions", Outcome.LIMITED)
    counts.take(Resource.SESSIONS, BOB)
    counts.give_back(Resource.SESSIONS, ALICE)
    counts.take(Resource.SESSIONS, ALICE)


def test_no_limit() -> None:
    """0 and a resource without a limit allow any number."""
    counts = quotas(0)
    for _ in range(1000):
        counts.take(Resource.SESSIONS, ALICE, HOME)
        counts.take(Resource.CONNECTIONS, ALICE, HOME)
    assert counts.held(Resource.SESSIONS, ALICE) == 1000


@given(st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from([ALICE, BOB, HOME]), min_size=1))))
def test_all_or_none(steps: list[tuple[bool, set[Holder]]]) -> None:
    """No holder ever has more than the limit, and a refusal counts for none of them."""
    counts, expected = quotas(2), Counter[Holder]()
    taken: list[set[Holder]] = []
    for takes, holders in steps:
        if takes and all(expected[holder] < 2 for holder in holders):
            counts.take(Resource.SESSIONS, *holders)
            expected.update(holders)
            taken.append(holders)
        elif takes:
            with pytest.raises(QuotaExceeded):
                counts.take(Resource.SESSIONS, *holders)
        elif taken:
            gone = taken.pop(0)
            counts.give_back(Resource.SESSIONS, *gone)
            expected.subtract(gone)
        for holder in (ALICE, BOB, HOME):
            assert counts.held(Resource.SESSIONS, holder) == expected[holder]


def test_what_was_not_taken_is_not_given_back() -> None:
    """A count does not fall below nothing, and nothing is remembered of who has nothing."""
    counts = quotas(1)
    counts.take(Resource.SESSIONS, ALICE, HOME)
    counts.give_back(Resource.SESSIONS, ALICE, HOME)
    counts.give_back(Resource.SESSIONS, ALICE)
    assert counts._held == {}  # noqa: SLF001
    counts.take(Resource.SESSIONS, ALICE)
    with pytest.raises(QuotaExceeded):
        counts.take(Resource.SESSIONS, ALICE)


def test_topics_count_until_they_are_closed() -> None:
    """For whoever opened them; a topic that nobody opened here is no error."""
    counts = quotas(1, Resource.TOPICS)
    counts.open_topic(NEWS, ALICE, HOME)
    with pytest.raises(QuotaExceeded):
        counts.open_topic(SPORT, BOB, HOME)
    counts.close_topic(SPORT)
    counts.close_topic(NEWS)
    counts.close_topic(NEWS)
    counts.open_topic(SPORT, BOB, HOME)
    assert counts.held(Resource.TOPICS, HOME) == 1


def test_topic_is_closed_once() -> None:
    """What is said of it again takes nothing from what else its opener has."""
    counts = quotas(2, Resource.TOPICS)
    for name in (NEWS, SPORT):
        counts.open_topic(name, ALICE)
    for _ in range(2):
        counts.close_topic(NEWS)
    assert counts.held(Resource.TOPICS, ALICE) == 1


@given(
    rate=st.integers(1, 10**9),
    sizes=st.lists(st.integers(1, 1 << 15), min_size=1, max_size=50),
)
def test_rate_is_kept(rate: int, sizes: list[int]) -> None:
    """Who waits as told passes the rate by the burst and the last packet, and is never stuck."""
    now = 100.0
    bucket = Bucket(rate, now)
    sent = 0
    for size in sizes:
        sent += size
        delay = bucket.take(size, now)
        assert delay <= (size + rate) / rate + 1
        if delay:
            assert sent >= rate * BURST_SECONDS * 0.99
            now += delay
            assert bucket.wait(now) == 0
        assert sent - size <= rate * (now - 100 + BURST_SECONDS) * 1.001


def test_waits_are_as_long_as_they_must_be() -> None:
    """A second's worth goes at once; who owes waits for that, and for a tenth of a second's."""
    bucket = Bucket(1000, 7.0)
    assert bucket.is_full(7.0)
    assert bucket.take(999, 7.0) == 0
    assert not bucket.is_full(7.0)
    assert bucket.take(1, 7.0) == pytest.approx(0.1)
    assert bucket.take(500, 7.0) == pytest.approx(0.6)
    assert bucket.wait(7.2) == pytest.approx(0.4)
    assert bucket.wait(7.5) == pytest.approx(0.1)
    assert bucket.wait(7.6) == 0
    assert not bucket.is_full(8.4)
    assert bucket.is_full(8.5)
    assert bucket.take(1500, 1e6) == pytest.approx(0.6), "a rest saves up a second's worth"
    assert bucket.take(100, 1e6 + 1.0) == 0, "what has come back meanwhile counts at once"


def test_clock_that_goes_back() -> None:
    """It takes nothing from the bucket."""
    bucket = Bucket(1000, 100.0)
    assert bucket.take(500, 50.0) == 0
    assert bucket.wait(100.0) == 0


def test_coming_back_gains_nothing() -> None:
    """A user finds the bucket as it was left; once it is full, nothing of it is kept."""
    rates = Rates(1000)
    first = rates.join("alice", 0.0)
    assert first
    assert rates.join("alice", 0.0) is first
    assert first.take(3000, 0.0) > 2
    rates.leave("alice", 0.0)
    rates.leave("alice", 0.0)
    assert rates.join("alice", 0.5) is first
    assert len(rates) == 1
    assert first.wait(0.5) > 0
    rates.leave("alice", 0.5)
    rates.join("bob", 10.0)
    assert len(rates) == 1
    assert rates.join("alice", 10.0) is not first


def test_sessions_of_a_user_share_a_bucket() -> None:
    """It is the same for those who come while another is there, full or not."""
    rates = Rates(1000)
    first = rates.join("alice", 0.0)
    assert rates.join("alice", 0.0) is first
    rates.leave("alice", 0.0)
    assert len(rates) == 1
    assert rates.join("alice", 100.0) is first
    rates.leave("alice", 100.0)
    rates.leave("alice", 100.0)
    assert len(rates) == 0, "it is full, and so there is nothing to remember"
    assert rates.join("alice", 100.0) is not first


def test_buckets_are_forgotten_when_they_are_full() -> None:
    """At the next coming or going of anybody, and not before they are full."""
    rates = Rates(1000)
    for user, size in (("alice", 1000), ("bob", 500), ("carol", 100)):
        bucket = rates.join(user, 0.0)
        assert bucket
        bucket.take(size, 0.0)
    for user in ("bob", "alice", "carol"):
        rates.leave(user, 0.0)
    assert len(rates) == 3
    rates.leave("nobody", 0.4)
    assert len(rates) == 3
    dora = rates.join("dora", 0.5)
    assert len(rates) == 3, "bob's is full; carol's stands behind alice's, who is still in debt"
    rates.leave("dora", 0.9)
    assert len(rates) == 2
    assert dora
    rates.join("dora", 1.0)
    assert len(rates) == 1


def test_going_forgets_as_well() -> None:
    """Where nobody comes any more, the last to go leaves nothing of those before."""
    rates = Rates(1000)
    for user, size in (("alice", 500), ("bob", 100)):
        bucket = rates.join(user, 0.0)
        assert bucket
        bucket.take(size, 0.0)
    rates.leave("alice", 0.0)
    rates.leave("bob", 0.5)
    assert len(rates) == 0


def test_no_rate() -> None:
    """Without a limit there is no bucket."""
    rates = Rates(0)
    assert rates.join("alice", 0.0) is None
    rates.leave("alice", 0.0)
    assert len(rates) == 0
