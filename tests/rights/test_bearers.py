"""Who has been let in by a token: found by it, and told of once when the time is over."""

from __future__ import annotations

from pipe.rights.bearers import Bearers
from pipe.rights.callers import Caller


def bearer(token: str, until: float | None = None) -> Caller:
    """Somebody who came with a token."""
    return Caller("alice", "SHA256:a", token=token, until=until)


def test_logins_of_a_token() -> None:
    """Those of one token are found together, until they have gone."""
    bearers = Bearers()
    assert bearers.next_end is None
    first, second, other = bearer("one"), bearer("one"), bearer("two")
    for caller in (first, second, other):
        bearers.add(caller)
    assert bearers.of("one") == [first, second]
    for _ in range(2):  # once more does nothing
        bearers.remove(first)

    assert bearers.of("one") == [second]
    bearers.remove(second)
    assert bearers.of("one") == []
    assert len(bearers) == 1


def test_ends_come_in_their_order() -> None:
    """Whose time is over is told of once, and not at all after having gone."""
    bearers = Bearers()
    late, early, gone, lasting = bearer("a", 9.0), bearer("b", 3.0), bearer("c", 4.0), bearer("d")
    for caller in (late, early, gone, lasting):
        bearers.add(caller)
    bearers.remove(gone)

    assert bearers.next_end == 3.0
    assert bearers.take_ended(2.9) == []
    assert bearers.take_ended(5.0) == [early]
    assert bearers.take_ended(5.0) == []
    assert bearers.take_ended(9.0) == [late]
    assert len(bearers) == 3  # they are still there, until they leave


def test_those_who_come_and_go_leave_nothing() -> None:
    """The queue of ends does not grow with those who have gone."""
    bearers = Bearers()
    staying = bearer("one", 50.0)
    bearers.add(staying)
    for number in range(10_000):
        caller = bearer("one", 100.0 + number)
        bearers.add(caller)
        bearers.remove(caller)

    assert len(bearers._ends) < 100  # noqa: SLF001
    assert bearers.take_ended(1e9) == [staying]
