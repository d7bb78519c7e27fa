"""The gate: places before the login, who has to make way, and that nothing is counted twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.errors import QuotaExceeded
from pipe.limits.bounds import parse_networks
from pipe.limits.gate import Gate, Refusal, Visit
from pipe.limits.penalties import Offence, Penalties
from pipe.limits.quotas import Holder, Quotas, Resource, Scope
from pipe.limits.sources import TrustedSources


def make_gate(
    *,
    trusted: str = "127.0.0.0/8",
    quotas: Quotas | None = None,
    **options: Any,  # noqa: ANN401
) -> Gate:
    """A gate with room for 6, of which one source may take 3."""
    defaults = {"most": 6, "most_per_source": 3, "most_open": 100}
    return Gate(
        **{**defaults, **options},
        trusted=TrustedSources(parse_networks(trusted)),
        penalties=Penalties({Offence.TIMEOUT: 10.0}, 10.0, 60.0),
        quotas=quotas or Quotas({}),
    )


def enter(gate: Gate, *addresses: str) -> list[Visit]:
    """Let them in, all of them."""
    visits = []
    for address in addresses:
        visit = gate.enter(address, 0.0)
        assert isinstance(visit, Visit)
        visits.append(visit)
    return visits


def test_one_source_has_its_share() -> None:
    """Addresses of one IPv6 network share it; a login makes room."""
    gate = make_gate()
    visits = enter(gate, "2001:db8::1", "2001:db8::2", "2001:db8::3")
    assert gate.enter("2001:db8::4", 0.0) is Refusal.UNAUTHENTICATED_ADDRESS
    enter(gate, "2001:db8:0:1::1")
    visits[0].admit("alice")
    enter(gate, "2001:db8::4")
    assert (gate.waiting, gate.open) == (4, 5)


def test_taken_over_from_another_process() -> None:
    """A client that has logged in elsewhere is counted as one that has here."""
    quotas = Quotas({(Resource.CONNECTIONS, Scope.ADDRESS): 4})
    gate = make_gate(quotas=quotas, most=3, most_open=4)
    enter(gate, *["10.0.0.1"] * 3)
    visit = gate.take_over("10.0.0.1", trusted=False)
    visit.admit("alice")
    assert (gate.waiting, gate.open) == (3, 4)
    assert quotas.held(Resource.CONNECTIONS, Holder(Scope.USER, "alice")) == 1
    with pytest.raises(QuotaExceeded, match="too many connections"):
        gate.take_over("10.0.0.2", trusted=False)
    visit.leave(None, 0.0)
    assert (gate.waiting, gate.open) == (3, 3)
    gate.take_over("10.0.0.1", trusted=False)
    assert quotas.held(Resource.CONNECTIONS, Holder(Scope.ADDRESS, "10.0.0.1")) == 4


def test_crowd_makes_way() -> None:
    """Its oldest connection goes for one from a source that has none."""
    gate = make_gate()
    cut: list[int] = []
    visits = enter(gate, *["10.0.0.1"] * 3, *["10.0.0.2"] * 2, "10.0.0.3")
    for number, visit in enumerate(visits):
        visit.cut = lambda number=number: cut.append(number)  # type: ignore[misc]
    enter(gate, "10.0.0.4")
    assert cut == [0]
    assert gate.waiting == 6
    enter(gate, "10.0.0.5")
    assert len(cut) == 2
    enter(gate, "127.0.0.1")
    assert len(cut) == 3


def test_nobody_makes_way_for_one_that_has_as_many() -> None:
    """Where all have the same, who comes too late is refused."""
    gate = make_gate(most=4)
    enter(gate, *["10.0.0.1"] * 2, *["10.0.0.2"] * 2)
    assert gate.enter("10.0.0.2", 0.0) is Refusal.UNAUTHENTICATED
    enter(gate, "10.0.0.3")
    assert gate.enter("10.0.0.1", 0.0) is Refusal.UNAUTHENTICATED
    assert gate.enter("10.0.0.4", 0.0) is not Refusal.UNAUTHENTICATED
    assert gate.enter("10.0.0.5", 0.0) is Refusal.UNAUTHENTICATED


def test_trusted_sources() -> None:
    """They have no share and no penalty, never make way, and count in the sum."""
    gate = make_gate()
    visits = enter(gate, *["127.0.0.1"] * 6)
    assert gate.enter("10.0.0.1", 0.0) is Refusal.UNAUTHENTICATED
    assert gate.enter("127.0.0.1", 0.0) is Refusal.UNAUTHENTICATED
    for visit in visits:
        visit.leave(Offence.TIMEOUT, 0.0)
    enter(gate, "127.0.0.1", "")


def test_penalty() -> None:
    """What a connection did is charged to its source when it leaves, once."""
    gate = make_gate()
    [visit] = enter(gate, "10.0.0.1")
    visit.leave(Offence.TIMEOUT, 0.0)
    visit.leave(Offence.TIMEOUT, 0.0)
    assert (gate.waiting, gate.open) == (0, 0)
    assert gate.enter("10.0.0.1", 9.0) is Refusal.PENALTY
    assert gate.enter("10.0.0.1", 10.0) is not Refusal.PENALTY


def test_quotas() -> None:
    """Of an address from the start, of a user from the login on."""
    quotas = Quotas(
        {
            (Resource.CONNECTIONS, Scope.ADDRESS): 2,
            (Resource.CONNECTIONS, Scope.USER): 1,
        }
    )
    gate = make_gate(quotas=quotas)
    first, second = enter(gate, *["10.0.0.1"] * 2)
    assert gate.enter("10.0.0.1", 0.0) is Refusal.CONNECTIONS
    first.admit("alice")
    with pytest.raises(QuotaExceeded):
        second.admit("alice")
    second.leave(None, 0.0)
    first.leave(None, 0.0)
    assert quotas.held(Resource.CONNECTIONS, Holder(Scope.USER, "alice")) == 0
    assert quotas.held(Resource.CONNECTIONS, Holder(Scope.ADDRESS, "10.0.0.1")) == 0


def test_descriptors() -> None:
    """All that are open count, whoever they are."""
    gate = make_gate(most_open=2)
    [visit, _] = enter(gate, "127.0.0.1", "10.0.0.1")
    visit.admit("alice")
    assert gate.enter("127.0.0.1", 0.0) is Refusal.DESCRIPTORS
    visit.leave(None, 0.0)
    enter(gate, "127.0.0.1")


def test_visit_without_a_gate() -> None:
    """It counts nowhere."""
    visit = Visit("")
    visit.admit("alice")
    visit.cut()
    visit.leave(Offence.TIMEOUT, 0.0)


class GateMachine(RuleBasedStateMachine):
    """The gate under all that can happen to connections, in any order."""

    def __init__(self) -> None:
        super().__init__()
        limits = {(Resource.CONNECTIONS, scope): 4 for scope in Scope}
        self.quotas = Quotas(limits)
        self.gate = make_gate(quotas=self.quotas)
        self.waiting: list[Visit] = []
        self.admitted: list[Visit] = []
        self.evicted: list[Visit] = []

    @rule(address=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "127.0.0.1"]))
    def connect(self, address: str) -> None:
        """Somebody comes; who makes way had most, and more than the newcomer has now."""
        before = [self._share(visit.source) for visit in self.waiting if not visit.trusted]
        visit = self.gate.enter(address, 0.0)
        if isinstance(visit, Refusal):
            return
        evicted = len(self.evicted)
        visit.cut = lambda: self._evict(visit)
        self.waiting.append(visit)
        if len(self.evicted) > evicted:
            victim = self.evicted[-1]
            assert not victim.trusted
            assert self._share(victim.source) + 1 == max(before)
            assert visit.trusted or self._share(visit.source) <= self._share(victim.source) + 1

    def _share(self, source: str) -> int:
        return sum(visit.source == source for visit in self.waiting)

    def _evict(self, visit: Visit) -> None:
        self.waiting.remove(visit)
        self.evicted.append(visit)

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0, 100), user=st.sampled_from(["alice", "bob"]))
    def log_in(self, number: int, user: str) -> None:
        """One of those that wait logs in."""
        visit = self.waiting.pop(number % len(self.waiting))
        self.admitted.append(visit)
        try:
            visit.admit(user)
        except QuotaExceeded:
            held = self.quotas.held(Resource.CONNECTIONS, Holder(Scope.USER, user))
            assert held == 4

    @precondition(lambda self: self.waiting + self.admitted + self.evicted)
    @rule(number=st.integers(0, 100))
    def leave(self, number: int) -> None:
        """Anybody goes."""
        everybody = self.waiting + self.admitted + self.evicted
        visit = everybody[number % len(everybody)]
        for crowd in (self.waiting, self.admitted, self.evicted):
            if visit in crowd:
                crowd.remove(visit)
        visit.leave(None, 0.0)

    @invariant()
    def counts(self) -> None:
        """The gate knows what is there, and no source has more than its share."""
        assert self.gate.waiting == len(self.waiting) <= 6
        assert self.gate.open == len(self.waiting + self.admitted + self.evicted)
        for visit in self.waiting:
            assert visit.trusted or self._share(visit.source) <= 3


TestGateMachine = GateMachine.TestCase
