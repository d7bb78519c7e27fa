"""Access: every relation to a topic, with every kind of grant, whatever came first."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pipe.errors import AccessDenied, Outcome
from pipe.language.names import EVERYONE, TopicName
from pipe.rights.access import Access, Loss, Rule
from pipe.rights.callers import Caller
from pipe.rights.grants import Operation
from tests.rights.people import (
    ALICE,
    BOB,
    BOSS,
    BOTH,
    BUILD,
    CAROL,
    CLUB,
    NOW,
    READ,
    WRITE,
    Clock,
    Visit,
    grant,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import FrameType

    TraceFunction = Callable[[FrameType, str, object], "TraceFunction | None"]

CALLERS = {"owner": ALICE, "grantee": BOB, "stranger": CAROL, "admin": BOSS}

WHO = {"name": BOB.user, "key": BOB.fingerprint, "everyone": EVERYONE, "another": "dave"}
"""How a grant or list names somebody."""


class Kind(NamedTuple):
    """What lets others in: what a grant is for and when it ends, or a session's list."""

    operation: Operation
    until: float | None = None
    list: bool = False

    @property
    def holds(self) -> bool:
        """Whether it counts now."""
        return self.until is None or self.until > NOW


KINDS = {
    "none": Kind(Operation.NONE),
    "read": Kind(READ),
    "write": Kind(WRITE),
    "both": Kind(BOTH),
    "for a while": Kind(BOTH, NOW + 1),
    "expired": Kind(BOTH, NOW),
    "list": Kind(BOTH, list=True),
}

RULES = {
    "name": Rule.USER_GRANT,
    "key": Rule.KEY_GRANT,
    "everyone": Rule.EVERYONE_GRANT,
}


def apply(access: Access, kind: Kind, who: str) -> Visit | None:
    """Let somebody in; the owner's session, where a list of one does it."""
    if kind.list:
        return Visit(access, ALICE, BUILD, READ, (who,))
    if kind.operation:
        access.set_grants(BUILD, [grant(who, kind.operation, kind.until)], Loss.REVOKED)
    return None


def take_back(access: Access, session: Visit | None) -> None:
    """Undo what `apply` did."""
    if session:
        access.release(session.held)
    access.set_grants(BUILD, [], Loss.REVOKED)


def expected(relation: str, kind: Kind, named: str, operation: Operation) -> bool:
    """What the rules say, written down once more."""
    if relation in {"owner", "admin"}:
        return True
    meant = named == "everyone" or (relation == "grantee" and named in {"name", "key"})
    return meant and kind.holds and operation in kind.operation


def may_enter(access: Access, caller: Caller, operation: Operation) -> bool:
    """Try it; who gets in leaves again."""
    try:
        access.release(access.enter(caller, BUILD, operation, exists=True))
    except AccessDenied:
        return False
    return True


CASES = list(itertools.product(CALLERS, KINDS, WHO, (READ, WRITE, BOTH)))


@pytest.mark.parametrize(("relation", "kind", "named", "operation"), CASES)
def test_every_relation_grant_and_operation(
    access: Access, relation: str, kind: str, named: str, operation: Operation
) -> None:
    """Who may do what is what the table says: before, with and after a grant, and by which rule."""
    caller = CALLERS[relation]
    privileged = relation in {"owner", "admin"}
    wanted = expected(relation, KINDS[kind], named, operation)
    assert may_enter(access, caller, operation) is privileged

    session = apply(access, KINDS[kind], WHO[named])
    assert may_enter(access, caller, operation) is wanted
    decision = access.decide(caller, BUILD, operation)
    assert decision.allowed is wanted
    if not privileged:
        allowed = Rule.OWNER_LIST if KINDS[kind].list else RULES.get(named)
        assert decision.rule is (allowed if wanted else Rule.PRIVATE)

    take_back(access, session)
    assert may_enter(access, caller, operation) is privileged


@pytest.mark.parametrize(("relation", "kind", "named", "operation"), CASES)
def test_every_session_ends_with_its_right(
    access: Access, relation: str, kind: str, named: str, operation: Operation
) -> None:
    """Whoever got in by a grant is out once it is gone, the owner and admins never."""
    caller = CALLERS[relation]
    session = apply(access, KINDS[kind], WHO[named])
    if not access.decide(caller, BUILD, operation).allowed:
        return
    visit = Visit(access, caller, BUILD, operation)
    take_back(access, session)

    loss = Loss.UNSHARED if KINDS[kind].list else Loss.REVOKED
    assert visit.losses == ([] if relation in {"owner", "admin"} else [loss])


@pytest.mark.parametrize("first", ["name", "key", "everyone", "list"])
@pytest.mark.parametrize("second", ["name", "key", "everyone", "list"])
def test_one_reason_is_enough(access: Access, first: str, second: str) -> None:
    """A session stays while anything lets it stay, in whatever order that came and went."""
    if first == second:
        return
    sessions: dict[str, Visit] = {}

    def let_in(*reasons: str) -> None:
        for reason in reasons:
            if reason == "list" and reason not in sessions:
                sessions[reason] = Visit(access, ALICE, BUILD, READ, ("bob",))
        grants = [grant(WHO[reason]) for reason in reasons if reason != "list"]
        access.set_grants(BUILD, grants, Loss.REVOKED)
        if "list" not in reasons and "list" in sessions:
            access.release(sessions.pop("list").held)

    let_in(first)
    visit = Visit(access, BOB, BUILD)
    let_in(first, second)
    let_in(second)
    assert visit.losses == []
    let_in()
    assert len(visit.losses) == 1


@pytest.mark.parametrize("named", ["name", "key"])
def test_users_who_share_a_key(access: Access, named: str) -> None:
    """What is granted to a key is every user's who has it; what is granted to a name is not."""
    other = Caller("dora", BOB.fingerprint)
    access.set_grants(BUILD, [grant(WHO[named])], Loss.REVOKED)
    visits = [Visit(access, BOB, BUILD)]
    assert access.decide(other, BUILD).allowed is (named == "key")
    assert [one.grantee for one in access.granted_to(other)] == [WHO[named]] * (named == "key")
    assert not access.decide(other, TopicName("bob", ("own",))).allowed
    if named == "key":
        visits.append(Visit(access, other, BUILD))
    access.bar("bob", BOB.fingerprint)
    assert access.why_barred(BOB)
    assert not access.why_barred(other)
    access.set_grants(BUILD, [], Loss.REVOKED)

    assert [visit.losses for visit in visits] == [[Loss.REVOKED]] * len(visits)


def test_read_and_write_may_come_from_different_rules(access: Access) -> None:
    """A pipe needs both, and may have each of them from another grant, and loses both with one."""
    grants = [grant("bob", READ), grant(EVERYONE, WRITE, NOW + 5)]
    access.set_grants(BUILD, grants, Loss.REVOKED)
    visit = Visit(access, BOB, BUILD, BOTH)
    assert access.decide(BOB, BUILD, BOTH).until == NOW + 5
    access.set_grants(BUILD, grants[:1], Loss.REVOKED)

    assert visit.losses == [Loss.REVOKED]


def test_narrowing_a_grant_ends_who_needs_more(access: Access) -> None:
    """When a grant for both becomes one for reading, writers and pipes end and readers stay."""
    access.set_grants(BUILD, [grant("bob")], Loss.REVOKED)
    visits = {one: Visit(access, BOB, BUILD, one) for one in (READ, WRITE, BOTH)}
    access.set_grants(BUILD, [grant("bob", READ)], Loss.REVOKED)

    assert [visits[one].losses for one in visits] == [[], [Loss.REVOKED], [Loss.REVOKED]]


def test_who_does_no_more_needs_no_more(access: Access) -> None:
    """A publisher that has sent everything only waits for its receipt: nothing to take away."""
    access.set_grants(BUILD, [grant("bob")], Loss.REVOKED)
    visit = Visit(access, BOB, BUILD, WRITE)
    visit.held.needs = Operation.NONE
    access.set_grants(BUILD, [], Loss.REVOKED)

    assert visit.losses == []


def test_expiry(access: Access, clock: Clock) -> None:
    """A grant decides nothing from its end on, and `expire` ends the sessions that are still on."""
    access.set_grants(BUILD, [grant("bob", until=NOW + 5), grant("carol")], Loss.REVOKED)
    visits = [Visit(access, caller, BUILD) for caller in (BOB, CAROL)]
    ends = [access.next_end]
    access.expire()
    clock.now = NOW + 5
    assert not access.decide(BOB, BUILD).allowed
    access.expire()

    assert [visit.losses for visit in visits] == [[Loss.EXPIRED], []]
    assert [*ends, access.next_end] == [NOW + 5, None]
    assert list(access.grants_on(BUILD)) == ["carol"]


def test_longest_grant_decides(access: Access) -> None:
    """Of several grants the one that lasts longest is the one that is named."""
    access.set_grants(
        BUILD, [grant("bob", until=NOW + 1), grant(EVERYONE, until=NOW + 9)], Loss.REVOKED
    )
    decision = access.decide(BOB, BUILD)

    assert (decision.rule, decision.until) == (Rule.EVERYONE_GRANT, NOW + 9)


def test_renewal(access: Access, clock: Clock) -> None:
    """A new grant takes the old one's place: a session lives on past the old one's end."""
    access.set_grants(BUILD, [grant("bob", until=NOW + 5)], Loss.REVOKED)
    visit = Visit(access, BOB, BUILD)
    access.set_grants(BUILD, [grant("bob", until=NOW + 50)], Loss.REVOKED)
    clock.now = NOW + 5
    access.expire()

    assert visit.losses == []
    assert access.next_end == NOW + 50


def test_loading_ends_what_is_gone(access: Access) -> None:
    """When all grants are read anew, who has lost one is out, and who has kept one stays."""
    other = TopicName("alice", ("other",))
    access.load([grant("bob"), grant("carol"), grant("bob", topic=other)])
    visits = [Visit(access, BOB, BUILD), Visit(access, CAROL, BUILD), Visit(access, BOB, other)]
    access.load([grant("carol")])

    assert [len(visit.losses) for visit in visits] == [1, 0, 1]


# -- public topics ------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [None, "name", "key", "everyone", "another"])
@pytest.mark.parametrize("relation", ["owner", "grantee", "stranger", "admin"])
def test_public_topics(access: Access, relation: str, listed: str | None) -> None:
    """A public topic is open, or open to its creator, the creator's list, and admins."""
    grantees = None if listed is None else (WHO[listed],)
    Visit(access, ALICE, CLUB, READ, grantees, exists=False)
    wanted = (
        listed in {None, "everyone"}
        or relation in {"owner", "admin"}
        or (relation == "grantee" and listed in {"name", "key"})
    )

    assert access.decide(CALLERS[relation], CLUB, BOTH).allowed is wanted


@pytest.mark.parametrize("created_with", [None, ("bob",), ("bob", "carol")])
def test_only_the_creator_sets_the_list(
    access: Access, created_with: tuple[str, ...] | None
) -> None:
    """Who joins cannot set, widen or narrow it, listed or not; saying the same is no harm."""
    Visit(access, ALICE, CLUB, READ, created_with, exists=False)
    for grantees in (("bob",), ("dave",), ("bob", "carol"), ("bob", "carol", "alice")):
        if created_with and {*created_with, "alice"} == {*grantees, "bob"}:
            continue
        with pytest.raises(AccessDenied):
            access.enter(BOB, CLUB, READ, grantees, exists=True)
    assert access.decide(CAROL, CLUB).allowed is (created_with != ("bob",))
    if created_with:
        access.enter(ALICE, CLUB, READ, created_with, exists=True)


def test_the_list_ends_with_the_topic(access: Access) -> None:
    """Once a public topic is empty its list is gone; while it is not, the list holds."""
    visit = Visit(access, ALICE, CLUB, READ, ("bob",), exists=False)
    access.release(visit.held)
    assert not access.decide(CAROL, CLUB).allowed
    access.closed(CLUB)

    assert access.decide(CAROL, CLUB).allowed


def test_one_of_many_creators_wins(access: Access) -> None:
    """Of a hundred who create one public topic with lists of their own exactly one gets in."""
    results: list[bool] = []
    for number in range(100):
        caller = Caller(f"user{number}", f"SHA256:{number:043}")
        try:
            access.enter(caller, CLUB, READ, (f"friend{number}",), exists=bool(results))
        except AccessDenied:
            results.append(False)
        else:
            results.append(True)

    assert results == [True, *[False] * 99]


# -- denials, lists, patterns -------------------------------------------------------------------


def test_denial_does_not_tell_what_exists(access: Access) -> None:
    """The words are the same whether the topic exists, and whether its owner does."""
    Visit(access, ALICE, BUILD, BOTH, ("dave",))
    messages = []
    for topic, exists in ((BUILD, True), (BUILD, False), (TopicName("nobody", ("x",)), False)):
        with pytest.raises(AccessDenied) as caught:
            access.enter(BOB, topic, READ, exists=exists)
        messages.append(caught.value.message.replace(str(topic), "X"))
        assert caught.value.outcome is Outcome.DENIED

    assert messages == ["access denied: X is not shared with you"] * 3


@pytest.mark.parametrize(
    ("has", "wants", "words"),
    [
        (READ, WRITE, "to read, not to write"),
        (READ, BOTH, "to read, not to write"),
        (WRITE, READ, "to write, not to read"),
    ],
)
def test_denial_says_what_is_allowed(
    access: Access, has: Operation, wants: Operation, words: str
) -> None:
    """Who may do one thing and not the other is told so."""
    access.set_grants(BUILD, [grant("bob", has)], Loss.REVOKED)
    with pytest.raises(AccessDenied, match=f"alice/build is shared with you {words}$"):
        access.enter(BOB, BUILD, wants, exists=True)


@pytest.mark.parametrize("caller", [BOB, BOSS])
def test_only_the_owner_brings_a_list(access: Access, caller: Caller) -> None:
    """Who may use another's topic cannot share it further, not even an admin."""
    access.set_grants(BUILD, [grant("bob")], Loss.REVOKED)
    with pytest.raises(AccessDenied, match="only alice can share alice/build"):
        access.enter(caller, BUILD, READ, ("carol",), exists=True)

    assert not access.decide(CAROL, BUILD).allowed


def test_pattern_admits_what_may_be_read(access: Access) -> None:
    """What a pattern takes in is judged each time, for reading."""
    admits = access.enter_pattern(BOB)
    assert not admits(BUILD)
    access.set_grants(BUILD, [grant("bob", WRITE)], Loss.REVOKED)
    assert not admits(BUILD)
    access.set_grants(BUILD, [grant("bob", READ)], Loss.REVOKED)
    assert admits(BUILD)
    access.set_grants(BUILD, [], Loss.REVOKED)
    assert not admits(BUILD)


def test_changes_are_told_in_one_piece(clock: Clock) -> None:
    """All that one change takes away is told at once, with the topics, so that it is one step."""
    told: list[tuple[Collection[TopicName], list[Caller], Loss]] = []
    access = Access(
        clock,
        lambda topics, lost, loss: told.append((topics, [one.caller for one in lost], loss)),
    )
    other = TopicName("alice", ("other",))
    access.load([grant("bob"), grant("carol"), grant("bob", topic=other)])
    for caller, topic in ((BOB, BUILD), (CAROL, BUILD), (BOB, other)):
        access.enter(caller, topic, READ, exists=True)
    told.clear()
    access.load([])

    assert told == [([BUILD, other], [BOB, CAROL, BOB], Loss.REVOKED)]


def test_grants_are_found_from_both_sides(access: Access) -> None:
    """The owner sees what was given, the grantee what was received, by name, key or as anyone."""
    other = TopicName("alice", ("a", "b"))
    access.set_grants(BUILD, [grant("bob"), grant(EVERYONE)], Loss.REVOKED)
    access.set_grants(other, [grant(BOB.fingerprint, topic=other)], Loss.REVOKED)

    given = [(str(one.topic), one.grantee) for one in access.granted_by("alice")]
    assert given == [
        ("alice/a/b", BOB.fingerprint),
        ("alice/build", EVERYONE),
        ("alice/build", "bob"),
    ]
    received = [(str(one.topic), one.grantee) for one in access.granted_to(BOB)]
    assert received == [
        ("alice/build", "bob"),
        ("alice/a/b", BOB.fingerprint),
        ("alice/build", EVERYONE),
    ]
    assert access.granted_to(ALICE) == []


def test_guests_of_a_list_cost_no_more_for_being_many(access: Access) -> None:
    """When a list ends all its guests are judged again, each with the same few steps."""

    def steps(guests: int) -> int:
        topic = TopicName("alice", (f"with-{guests}",))
        first = access.enter(ALICE, topic, READ, ("bob",), exists=False)
        for _ in range(guests):
            access.enter(BOB, topic, READ, exists=True)
        access.enter(ALICE, topic, READ, ("bob",), exists=True)
        count = 0

        def step(frame: FrameType, *_: object) -> TraceFunction:
            nonlocal count
            frame.f_trace_opcodes = True
            count += 1
            return step

        before = sys.gettrace()
        sys.settrace(step)
        try:
            access.release(first)
        finally:
            sys.settrace(before)
        return count

    assert steps(400) <= 2.2 * steps(200)


def test_list_of_two_sessions_lasts_as_long_as_one_of_them(access: Access) -> None:
    """Whom two sessions share a topic with stays until both are gone."""
    both = access.enter(ALICE, BUILD, READ, ("bob",), exists=False)
    more = access.enter(ALICE, BUILD, READ, ("bob", "carol"), exists=True)
    assert access.shared_by_sessions(BUILD) == {"bob", "carol"}
    access.release(more)
    assert access.decide(BOB, BUILD).allowed
    assert not access.decide(CAROL, BUILD).allowed
    access.forget("bob")
    assert not access.decide(BOB, BUILD).allowed
    access.release(both)
    assert access.shared_by_sessions(BUILD) == frozenset()


def test_nothing_is_remembered_of_who_has_gone(access: Access) -> None:
    """A login that was over is forgotten when it is gone, a topic when its last session is."""
    visits = [access.enter(ALICE, BUILD, READ, exists=bool(number)) for number in range(2)]
    access.dismiss(ALICE, "over")
    assert access.why_barred(ALICE) == "over"
    access.logged_out(ALICE)
    assert not access.why_barred(ALICE)
    access.logged_out(ALICE)
    assert access._dismissed == {}  # noqa: SLF001
    access.release(visits[0])
    assert list(access._passes) == [BUILD]  # noqa: SLF001
    access.release(visits[1])
    access.release(visits[1])
    assert access._passes == {}  # noqa: SLF001
