"""Monitors in the database: what is kept, what is bounded, what goes with whom."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from pipe.errors import StoreError
from pipe.language.monitor_requests import On, Terms
from pipe.language.names import TopicName
from pipe.store import monitors
from pipe.store.monitors import Feeds, NewChange

from .conftest import new_key

if TYPE_CHECKING:
    from pipe.store import Store

TERMS = Terms(3600.0, 360.0, On.END, 60.0, 1 << 50, 1 << 40)
BACKUP = TopicName("alice", ("backup", "db"))
ALERTS = TopicName("alice", ("alerts",))


def change(monitor: int, made: float, state: str = "up") -> NewChange:
    """An entry of a history."""
    return NewChange(monitor, made, state, "down", "why")


async def test_as_it_was_put(store: Store) -> None:
    """A monitor has the terms that it was given, also those of the largest size."""
    await store.add_user("alice", True, [new_key("a")])
    made = await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    assert (made.user, made.admin, made.topic, made.terms) == ("alice", True, BACKUP, TERMS)
    assert (made.alert, made.memory) == (ALERTS, "{}")
    assert await store.monitors.load() == (made,)
    assert await store.monitors.load("bob") == ()


async def test_put_again(store: Store) -> None:
    """It is the same monitor with other terms: what it remembers and its history stay."""
    await store.add_user("alice")
    made = await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    await store.monitors.save({made.number: '{"seen": 1}'}, [change(made.number, 1.0)])
    terms = Terms(60.0, 30.0)
    again = await store.monitors.put("alice", BACKUP, terms, BACKUP, "{}")
    assert again == dataclasses.replace(made, terms=terms, alert=BACKUP, memory='{"seen": 1}')
    assert len(await store.monitors.history(made.number)) == 1


async def test_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has so many and no more, is told how to make room, and may still change one."""
    monkeypatch.setattr(monitors, "MAX_MONITORS", 2)
    await store.add_user("alice")
    await store.add_user("bob")
    for name in ("a", "b"):
        await store.monitors.put("alice", TopicName("alice", (name,)), TERMS, ALERTS, "{}")
    with pytest.raises(StoreError, match="you have 2 monitors, which is as many"):
        await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    await store.monitors.put("alice", TopicName("alice", ("a",)), TERMS, ALERTS, "{}")
    await store.monitors.put("bob", BACKUP, TERMS, ALERTS, "{}")
    assert await store.monitors.remove("alice", TopicName("alice", ("a",)))
    assert not await store.monitors.remove("alice", TopicName("alice", ("a",)))
    await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")


async def test_gone_with_the_user(store: Store) -> None:
    """Monitors, their history and their addresses go; what is saved late goes nowhere."""
    await store.add_user("alice")
    made = await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    await store.monitors.save({}, [change(made.number, 1.0)])
    await store.monitors.put_feeds(Feeds("alice", "s", "f", "b", "p"))
    await store.remove_user("alice")
    await store.monitors.save({made.number: "{}"}, [change(made.number, 2.0)])
    assert await store.monitors.load() == ()
    assert await store.monitors.history(made.number) == []
    assert await store.monitors.find_feeds("feed", "f") is None
    with pytest.raises(StoreError, match="no user 'alice' any more"):
        await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    await store.add_user("alice")
    again = await store.monitors.put("alice", BACKUP, TERMS, ALERTS, "{}")
    assert again.number > made.number


async def test_history_is_bounded(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest stay, of each monitor for itself."""
    monkeypatch.setattr(monitors, "MAX_CHANGES", 3)
    await sqlite_store.add_user("alice")
    store = sqlite_store.monitors
    one = await store.put("alice", BACKUP, TERMS, ALERTS, "{}")
    other = await store.put("alice", ALERTS, TERMS, BACKUP, "{}")
    for number in range(5):
        await store.save({}, [change(one.number, float(number))])
    await store.save({}, [change(other.number, 0.0)])
    assert await store.history(one.number) == [(2.0, "up"), (3.0, "up"), (4.0, "up")]
    assert await store.history(other.number) == [(0.0, "up")]
    newest = await store.newest("alice", 2)
    assert [(entry.topic, entry.made) for entry in newest] == [(ALERTS, 0.0), (BACKUP, 4.0)]


async def test_history_of_a_year(sqlite_store: Store) -> None:
    """Of what is older the last entry stays, as it says how it was since."""
    await sqlite_store.add_user("alice")
    store = sqlite_store.monitors
    made = await store.put("alice", BACKUP, TERMS, ALERTS, "{}")
    late = 2 * monitors.KEPT_SECONDS
    times = [1.0, 2.0, 3.0, late]
    await store.save({}, [change(made.number, when) for when in times])
    assert await store.history(made.number) == [(3.0, "up"), (late, "up")]


async def test_when_a_server_watched(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of each start is known, but of those that lasted a moment, and of very old ones."""
    monkeypatch.setattr(monitors, "MAX_WATCHES", 3)
    store, day = sqlite_store.monitors, 86_400.0
    for begin, end in ((0.0, day), (10 * day, 10 * day + 5), (11 * day, 12 * day)):
        number = await store.begin_watch(begin)
        await store.keep_watch(number, end)
    number = await store.begin_watch(13 * day)
    assert await store.watched() == [(0.0, day), (11 * day, 12 * day), (13 * day, 13 * day)]
    await store.keep_watch(number, 14 * day)
    await store.begin_watch(15 * day)
    assert [began for began, _ in await store.watched()] == [11 * day, 13 * day, 15 * day]
    await store.begin_watch(14 * day + monitors.KEPT_SECONDS + 1)
    assert len(await store.watched()) == 1


async def test_addresses(store: Store) -> None:
    """They are found by what is known of each secret, and new ones take the place of the old."""
    await store.add_user("alice")
    assert await store.monitors.feeds_of("alice") is None
    first, second = (Feeds("alice", *(f"{n}{kind}" for kind in "sfbp")) for n in "12")
    await store.monitors.put_feeds(first)
    assert await store.monitors.find_feeds("badge", "1b") == first
    assert await store.monitors.find_feeds("feed", "1b") is None
    await store.monitors.put_feeds(second)
    assert await store.monitors.find_feeds("badge", "1b") is None
    assert await store.monitors.feeds_of("alice") == second
