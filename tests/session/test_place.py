"""What a session takes to be on a topic or pattern, it gives back, once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pipe.errors import AccessDenied, QuotaExceeded, UsageError
from pipe.language.names import Pattern, TopicName, parse_pattern
from pipe.language.past import Last
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.limits.turns import BUDGET_SECONDS
from pipe.rights.callers import Caller
from pipe.rights.grants import Operation
from pipe.service import Service
from pipe.session.place import Place
from pipe.settings import Settings
from pipe.store import Store
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
from tests.fakes import FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pipe.rights.access import Loss

ALICE = Caller("alice", "SHA256:alice")
BOB = Caller("bob", "SHA256:bob")
NEWS = TopicName("alice", ("news",))
HOLDERS = (Holder(Scope.USER, "alice"),)
RATE = 1 << 20


class Seat(NamedTuple):
    """A place with a member for it."""

    place: Place
    member: Member


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A service on which a user may have two topics, two patterns and a rate."""
    settings = Settings(max_topics_per_user=2, max_patterns_per_user=2, max_rate_per_user=RATE)
    async with await Store.open("sqlite://") as store:
        yield Service(settings, store)


def seat(service: Service, caller: Caller = ALICE, mode: Mode = Mode.SUBSCRIBE) -> Seat:
    """A new one, which is nowhere yet."""
    source = FakeSource(service.router) if mode is not Mode.SUBSCRIBE else None
    sink = FakeSink(service.router) if mode is not Mode.PUBLISH else None
    member = Member(mode, source=source, sink=sink)
    for port in (source, sink):
        if port:
            port.member = member
    return Seat(Place(service, caller, HOLDERS), member)


def held(service: Service, resource: Resource) -> int:
    """How many alice has."""
    return service.quotas.held(resource, *HOLDERS)


def ignore(_: Loss) -> None:
    """Losing a right is nothing to these tests."""


async def test_topic_is_there_until_the_place_is_left(service: Service) -> None:
    """Topic, quota and right are taken and given back together; leaving twice changes nothing."""
    place, member = seat(service)
    place.enter(NEWS, Subscribe("news", access=("bob",)), ignore)
    place.join(member)
    assert NEWS in service.router
    assert held(service, Resource.TOPICS) == 1
    assert service.access.shared_by_sessions(NEWS) == {"bob"}

    for _ in range(2):
        place.leave(member, 0)
        assert NEWS not in service.router
        assert not held(service, Resource.TOPICS)
        assert service.access.shared_by_sessions(NEWS) == frozenset()


async def test_no_place_without_the_right(service: Service) -> None:
    """Who is refused has taken nothing, and has nothing to give back."""
    place, member = seat(service, BOB)
    with pytest.raises(AccessDenied):
        place.enter(NEWS, Subscribe("alice/news"), ignore)
    place.leave(member, 0)
    assert not held(service, Resource.TOPICS)


async def test_no_place_above_the_quota(service: Service) -> None:
    """The right that was taken for a topic too many is given back with the place."""
    for name in ("one", "two"):
        place, member = seat(service)
        place.enter(TopicName("alice", (name,)), Subscribe(name), ignore)
        place.join(member)
    place, member = seat(service)
    with pytest.raises(QuotaExceeded):
        place.enter(NEWS, Subscribe("news", access=("bob",)), ignore)
    place.leave(member, 0)
    assert held(service, Resource.TOPICS) == 2
    assert service.access.shared_by_sessions(NEWS) == frozenset()


async def test_topic_that_was_never_opened_is_not_counted(service: Service) -> None:
    """Who is refused between entering and joining, as what it asks for is gone, gives all back."""
    for _ in range(2):
        place, member = seat(service, mode=Mode.PUBLISH)
        place.enter(NEWS, Publish("news", keep=1024, access=("bob",)), ignore)
        place.leave(member, 0)
    assert not held(service, Resource.TOPICS)
    assert service.access.shared_by_sessions(NEWS) == frozenset()
    service.keeping.take(NEWS, BOB, service.keeping.most)


async def test_rate_is_shared_while_publishing(service: Service) -> None:
    """A user's publishers have one bucket, which is forgotten, being full, with the last."""
    first, second = (seat(service, mode=Mode.PUBLISH) for _ in range(2))
    for one in (first, second):
        one.place.enter(NEWS, Publish("news"), ignore)
    buckets = [one.place.publish(0) for one in (first, second)]
    assert buckets[0] is buckets[1] is not None
    first.place.leave(first.member, 0)
    first.place.leave(first.member, 0)
    assert len(service.rates) == 1
    second.place.leave(second.member, 0)
    assert len(service.rates) == 0


@pytest.mark.parametrize(
    ("wanted", "flag"),
    [
        (Subscribe("**", access=("bob",)), "--access"),
        (Subscribe("**", whole=True), "--whole"),
        (Subscribe("**", last=Last(1)), "--last and --from"),
        (Subscribe("**", hold=1.0), "--hold"),
    ],
)
async def test_pattern_takes_no_such_flag(service: Service, wanted: Subscribe, flag: str) -> None:
    """What is for one topic is a mistake with a pattern, and is not passed over in silence."""
    pattern = parse_pattern("**", caller="alice")
    assert isinstance(pattern, Pattern)
    with pytest.raises(UsageError, match=f"{flag} (is|are) for one topic, not for a pattern"):
        seat(service).place.enter_pattern(pattern, wanted)
    assert held(service, Resource.PATTERNS) == 0


async def test_pattern_is_counted_until_its_reader_is_off(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving waits for a turn that has the time for it, and the quota is given back with it."""
    pattern = parse_pattern("**", caller="alice")
    assert isinstance(pattern, Pattern)
    seats = [seat(service) for _ in range(2)]
    for place, member in seats:
        place.enter_pattern(pattern, Subscribe("**"))
        place.join(member)
    with pytest.raises(QuotaExceeded):
        seat(service).place.enter_pattern(pattern, Subscribe("**"))

    leave = service.router.leave

    def leave_slowly(member: Member) -> None:
        leave(member)
        service.turns.use(BUDGET_SECONDS)

    monkeypatch.setattr(service.router, "leave", leave_slowly)
    service.turns.use(BUDGET_SECONDS)
    for place, member in seats:
        place.leave(member, 0)
        place.leave(member, 0)
    assert held(service, Resource.PATTERNS) == 2
    for left in (1, 0):
        await asyncio.sleep(0)
        assert held(service, Resource.PATTERNS) == left
    assert not any(member.joined for _, member in seats)


async def test_right_to_write_is_not_needed_for_ever(service: Service) -> None:
    """A pipe that has come to its end of file only reads, and stays when it may only read."""
    lost: list[Loss] = []
    owner, guest = seat(service), seat(service, BOB, Mode.PIPE)
    owner.place.enter(NEWS, Subscribe("news", access=("bob",)), ignore)
    owner.place.join(owner.member)
    guest.place.enter(NEWS, Pipe("alice/news"), lost.append)
    guest.place.write_no_more()
    [needed] = [one.needs for one in service.access._passes[NEWS] if one.caller is BOB]  # noqa: SLF001
    assert needed is Operation.READ
    owner.place.leave(owner.member, 0)
    assert len(lost) == 1
