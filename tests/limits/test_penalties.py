"""Penalties, as sshd's PerSourcePenalties has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipe.limits.penalties import Offence, Penalties

SECONDS = {Offence.REFUSED: 5.0, Offence.NO_LOGIN: 1.0, Offence.TIMEOUT: 10.0}


def penalties(least: float = 15.0, most: float = 600.0, capacity: int = 100) -> Penalties:
    """With sshd's defaults."""
    return Penalties(SECONDS, least, most, capacity)


def test_a_few_mistakes_are_forgiven() -> None:
    """Below the minimum nothing is enforced; from there on all of it is."""
    table = penalties()
    table.add("a", Offence.REFUSED, 0.0)
    table.add("a", Offence.REFUSED, 0.0)
    assert not table.refuses("a", 0.0)
    table.add("a", Offence.REFUSED, 0.0)
    assert table.refuses("a", 14.9)
    assert not table.refuses("a", 15.0)
    assert not table.refuses("b", 0.0)
    assert len(table) == 0, "what has run off is forgotten"


def test_mistakes_that_are_far_apart() -> None:
    """They never add up."""
    table = penalties()
    for number in range(100):
        table.add("a", Offence.REFUSED, number * 6.0)
        assert not table.refuses("a", number * 6.0)


def test_maximum() -> None:
    """However often, it is over some time."""
    table = penalties(most=60.0)
    for _ in range(1000):
        table.add("a", Offence.TIMEOUT, 0.0)
    assert table.refuses("a", 59.0)
    assert not table.refuses("a", 60.0)


def test_offence_that_costs_nothing() -> None:
    """An operator may switch one off."""
    table = Penalties({Offence.REFUSED: 0.0}, 0.0, 600.0)
    table.add("a", Offence.REFUSED, 0.0)
    table.add("a", Offence.TIMEOUT, 0.0)
    assert len(table) == 0


def test_oldest_are_forgotten() -> None:
    """The table has a bound; who goes on offending stays in it."""
    table = penalties(least=0.0, capacity=3)
    for source in ("a", "b", "c", "a", "d"):
        table.add(source, Offence.TIMEOUT, 0.0)
    assert len(table) == 3
    assert [source for source in "abcd" if table.refuses(source, 1.0)] == ["a", "c", "d"]


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from("abcd"), st.sampled_from(list(Offence))),
        max_size=100,
    )
)
def test_rules(offences: list[tuple[float, str, Offence]]) -> None:
    """Never refused for less than the minimum in sum, never for longer than the maximum."""
    table, now = penalties(least=15.0, most=40.0, capacity=3), 0.0
    charged = dict.fromkeys("abcd", 0.0)
    for pause, source, offence in offences:
        now += pause
        table.add(source, offence, now)
        charged[source] += SECONDS[offence]
        assert len(table) <= 3
        assert not table.refuses(source, now) or charged[source] >= 15
        assert not table.refuses(source, now + 40.0)
