"""Monitors that run: what they hear of, when they look, whom they tell, what outlives a restart."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import StoreUnavailable
from pipe.events.monitors import hub, monitor, saving
from pipe.events.monitors.alerts import Alerts
from pipe.events.monitors.hub import Monitors, Watched
from pipe.events.monitors.monitor import State
from pipe.language.monitor_requests import On, Terms
from pipe.language.names import TopicName
from pipe.rights.grants import Grant, Operation
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
from tests.e2e.processes import DEADLINE
from tests.fakes import FakeSource
from tests.sessions import People, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pipe.service import Service

BACKUP = TopicName("alice", ("backup",))
ALERTS = TopicName("alice", ("alerts",))
HOURLY = Terms(3600.0, 360.0)
QUICK = Terms(0.1, 0.1)
"""Far below what commands allow."""


class Scene:
    """A service whose alerts are kept, and users."""

    def __init__(self, service: Service, people: People) -> None:
        self.service = service
        self.people = people
        self.offset = 0.0
        self.alerts: list[tuple[TopicName, dict[str, Any]]] = []
        self.told: list[str] = []
        self.sender = Alerts(service.access, self._announce, self._tell)
        self.monitors = self.make()

    def make(self) -> Monitors:
        """Monitors of another server on the same database."""
        service = self.service
        return Monitors(
            service.store.monitors,
            service.router,
            service.access,
            self.sender,
            service.turns.do,
            lambda: time.time() + self.offset,
        )

    def _announce(self, topic: TopicName, data: bytes, hold: float) -> bool:  # noqa: ARG002
        self.alerts.append((topic, json.loads(data)))
        return True

    def _tell(self, user: str, level: str, text: str, /, **fields: object) -> None:  # noqa: ARG002
        self.told.append(user)

    async def add(
        self, user: str = "alice", topic: TopicName = BACKUP, terms: Terms = HOURLY
    ) -> Watched:
        """Somebody watches."""
        alert = TopicName(user, ("alerts",))
        watched, _ = await self.monitors.add(self.people.caller(user), topic, terms, alert)
        return watched

    def publish(self, size: int = 1, topic: TopicName = BACKUP) -> Member:
        """Somebody begins to send."""
        member = Member(Mode.PUBLISH, source=FakeSource(self.service.router), wants=0)
        member.source.member = member  # type: ignore[union-attr]
        self.service.router.join(member, topic)
        self.service.router.publish(member, Chunk(b"x" * size))
        return member

    def pub(self, status: int = 0) -> None:
        """Somebody sends, and ends."""
        member = self.publish()
        member.exit_status = status
        self.service.router.end(member)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not true():  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.005)

    async def wait_state(self, watched: Watched, state: State) -> None:
        """Wait until a monitor is so."""
        await self.until(lambda: watched.monitor.state is state)

    async def restart(self, **changes: float) -> None:
        """Let another server go on."""
        await self.monitors.close()
        self.offset += changes.get("later", 0.0)
        self.monitors = self.make()
        await self.monitors.start()

    def one(self, user: str = "alice") -> Watched:
        """A user's only monitor."""
        [watched] = self.monitors.of(user)
        return watched


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A server on which nobody watches, and whose monitors are quick to judge."""
    monkeypatch.setattr(hub, "TAKE_SECONDS", 0.01)
    monkeypatch.setattr(hub, "MAX_TAKE_SECONDS", 0.05)
    monkeypatch.setattr(monitor, "LEAST_STAY", 0.0)
    async with started() as service:
        people = People(service)
        await people.add("alice", "bob")
        scene = Scene(service, people)
        yield scene
        await scene.monitors.close()


async def test_silence(scene: Scene) -> None:
    """What comes brings it up, silence down, by one timer; each is told once, with all there is."""
    watched = await scene.add(terms=QUICK)
    assert watched.monitor.state is State.NEW
    scene.pub()
    await scene.until(lambda: scene.alerts)
    [(topic, line)] = scene.alerts
    assert topic == ALERTS
    assert list(line) == ["time", "monitor", "state", "was", "since", "last_seen", "reason"]
    assert (line["monitor"], line["state"], line["was"]) == ("alice/backup", "down", "up")
    assert line["last_seen"] < line["since"] <= line["time"]
    assert line["time"].endswith("Z")
    scene.pub()
    await scene.until(lambda: len(scene.alerts) > 1)
    assert scene.alerts[1][1]["state"] == "up"
    assert set(scene.told) == {"alice"}


async def test_ends(scene: Scene) -> None:
    """A publisher's status and a broken stream are heard of at once."""
    watched = await scene.add(terms=Terms(3600.0, 360.0, On.END))
    for status in (3, 0):
        scene.pub()
        await scene.wait_state(watched, State.UP)
        if status:
            scene.pub(status)
        else:
            scene.service.router.leave(scene.publish())
        await scene.wait_state(watched, State.DOWN)
    assert [line["reason"] for _, line in scene.alerts][::2] == [
        "a publisher ended with status 3",
        "a publisher broke off",
    ]


async def test_many_watch_one_topic(scene: Scene) -> None:
    """All of them hear of it, and the router tells one watcher."""
    public = TopicName("public", ("news",))
    names = [f"user{number}" for number in range(hub.HANDS + 10)]
    await scene.people.add(*names)
    everyone = [await scene.add(name, public) for name in names]
    scene.publish(topic=public)
    for watched in everyone:
        await scene.wait_state(watched, State.UP)
    assert len(scene.service.router._watchers) == 1  # noqa: SLF001
    assert scene.monitors.states == {
        **dict.fromkeys((state.value for state in State), 0),
        "up": len(names),
    }


async def test_who_may_not_read_learns_nothing(scene: Scene) -> None:
    """A monitor whose user lost the right is paused, and says so; what comes is not noted."""
    guard, caller = scene.service.guard, scene.people.caller("alice")
    await guard.grant(caller, [Grant(BACKUP, "bob", Operation.READ, None, "alice", 0.0)])
    watched = await scene.add("bob")
    scene.pub()
    await scene.wait_state(watched, State.UP)
    seen = watched.monitor.seen
    await guard.revoke(caller, BACKUP, ["bob"])
    scene.monitors.review([BACKUP])  # as the service does with its own
    assert watched.monitor.state is State.PAUSED
    scene.pub()
    assert watched.monitor.seen == seen
    assert [line["state"] for _, line in scene.alerts] == ["paused"]


async def test_who_may_not_write_gets_no_alert_there(scene: Scene) -> None:
    """An alert goes where its user may write at that time; the user's log is told in any case."""
    caller, other = scene.people.caller("alice"), TopicName("bob", ("pager",))
    watched, _ = await scene.monitors.add(caller, BACKUP, QUICK, other)
    scene.pub()
    await scene.wait_state(watched, State.DOWN)
    assert scene.alerts == []
    assert scene.sender.sent["denied"] == 1
    assert scene.told == ["alice"]


async def test_removed(scene: Scene) -> None:
    """Nothing is left of a monitor, neither at the router nor in the count nor in the queue."""
    watched = await scene.add(terms=QUICK)
    scene.pub()
    await scene.wait_state(watched, State.UP)
    assert await scene.monitors.remove("alice", BACKUP)
    assert not await scene.monitors.remove("alice", BACKUP)
    assert scene.monitors.of("alice") == []
    assert scene.monitors.states.total() == 0
    assert not scene.service.router._watchers  # noqa: SLF001


async def test_gone_with_its_user(scene: Scene) -> None:
    """A removed user's monitors end at once, and the name's next holder has none of them."""
    running = scene.service.monitors  # those that the service tells of removals
    await running.add(scene.people.caller("alice"), BACKUP, HOURLY, ALERTS)
    await running.add(scene.people.caller("bob"), TopicName("bob", ("x",)), HOURLY, ALERTS)
    await scene.service.store.remove_user("alice")
    await scene.service.guard.catch_up()
    assert running.of("alice") == []
    await scene.service.store.add_user("alice")
    await running.save()
    assert running.of("alice") == []
    assert len(running.of("bob")) == 1


async def test_no_admin_any_more(scene: Scene) -> None:
    """An admin's monitors of others' topics go on until the admin is none, and are told so."""
    await scene.people.add("boss", admin=True)
    running, store = scene.service.monitors, scene.service.store
    caller = scene.people.caller("boss", admin=True)
    await running.add(caller, BACKUP, HOURLY, TopicName("boss", ("alerts",)))
    scene.pub()
    await scene.until(lambda: running.of("boss")[0].monitor.state is State.UP)
    await store.set_admin("boss", admin=False)
    await scene.service.guard.catch_up()
    await scene.until(lambda: running.of("boss"))
    [watched] = running.of("boss")
    assert watched.monitor.state is State.PAUSED
    assert watched.monitor.seen


async def test_restart(scene: Scene) -> None:
    """Another server goes on with what was seen, to the last moment, and with what was told."""
    watched = await scene.add(terms=Terms(3600.0, 360.0, On.END))
    scene.pub()
    await scene.wait_state(watched, State.UP)
    scene.pub(3)
    await scene.wait_state(watched, State.DOWN)
    scene.publish(7)  # not even looked at yet
    seen = watched.monitor.seen
    await scene.restart()
    again = scene.one()
    assert again.monitor.state is State.DOWN
    assert again.monitor.seen is not None
    assert seen is not None
    assert again.monitor.seen >= seen
    assert len(scene.alerts) == 1
    scene.pub()
    await scene.wait_state(again, State.UP)
    assert [line["state"] for _, line in scene.alerts] == ["down", "up"]


async def test_another_server_goes_on_and_gives_back(scene: Scene) -> None:
    """Where the duties come back, monitors go on as the other server has left them, heard once."""
    watched = await scene.add()
    scene.pub()
    await scene.wait_state(watched, State.UP)
    here, there = scene.monitors, scene.make()
    await here.close()
    await here.close()
    assert not scene.service.router.watched_names
    await there.start()
    scene.monitors = there
    await there.pause(scene.one())
    await there.close()
    scene.monitors = here
    await here.start()
    again = scene.one()
    assert again.monitor.state is State.PAUSED
    await here.resume(again)
    scene.pub()
    await scene.wait_state(again, State.UP)
    assert here.states.total() == 1
    assert scene.service.router.watched_names == (BACKUP,)
    await scene.restart()
    assert scene.one().monitor.state is State.UP


async def test_server_that_stood_still_stores_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another server has stored meanwhile is not replaced by what was so before."""
    monkeypatch.setattr(saving, "SOON_SECONDS", 3600.0)
    watched = await scene.add()
    scene.pub()
    await scene.wait_state(watched, State.UP)
    here, there = scene.monitors, scene.make()
    here.may_act = lambda: False
    await there.start()
    scene.monitors = there
    await there.pause(scene.one())
    await here.close()
    await scene.restart()
    assert scene.one().monitor.state is State.PAUSED


async def test_server_that_may_not_act_judges_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is heard and no deadline looked at until it may, and then it is as ever."""
    monkeypatch.setattr(hub, "REST_SECONDS", 0.01)
    asked = 0

    def may_act() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    scene.monitors.may_act = may_act
    watched = await scene.add(terms=QUICK)
    scene.pub()
    await scene.until(lambda: asked == 5)
    assert watched.monitor.state is State.NEW
    await scene.until(lambda: scene.alerts)
    assert [line["state"] for _, line in scene.alerts] == ["down"]


async def test_away(scene: Scene) -> None:
    """What should have come while no server was there is unknown, and nobody watched then."""
    watched = await scene.add()
    scene.pub()
    await scene.wait_state(watched, State.UP)
    await scene.restart(later=10 * 3600.0)
    assert scene.one().monitor.state is State.UNKNOWN
    assert scene.alerts == []
    rows = await scene.service.store.monitors.history(watched.number)
    assert [state for _, state in rows] == ["up"]
    watches = await scene.service.store.monitors.watched()
    assert sum(until - began for began, until in watches) < 3600.0


async def test_a_stop_is_no_failure(scene: Scene) -> None:
    """Streams that the server cuts as it stops do not count as broken."""
    watched = await scene.add(terms=Terms(3600.0, 360.0, On.END))
    scene.pub()
    await scene.wait_state(watched, State.UP)
    member = scene.publish()
    scene.monitors.draining = True
    scene.service.router.leave(member)
    await scene.restart()
    assert scene.one().monitor.state is State.UP


async def test_the_clock_jumps(scene: Scene) -> None:
    """A machine that slept counts as a server that was away: nothing is down at once."""
    watched = await scene.add()
    scene.pub()
    await scene.wait_state(watched, State.UP)
    scene.offset = 10 * 3600.0
    scene.publish(topic=BACKUP)
    await scene.until(lambda: watched.monitor.seen and watched.monitor.seen > time.time() + 3600)
    scene.offset = 0.0
    scene.publish(topic=BACKUP)
    await scene.until(lambda: watched.monitor.seen and watched.monitor.seen < time.time() + 3600)
    assert scene.alerts == []


async def test_pause_outlives_a_crash(scene: Scene) -> None:
    """It is stored before the user is told; a paused topic costs its publishers nothing."""
    watched = await scene.add()
    await scene.monitors.pause(watched)
    assert not scene.service.router._watchers  # noqa: SLF001
    [stored] = await scene.service.store.monitors.load("alice")
    assert json.loads(stored.memory)["state"] == "paused"
    scene.pub()
    await scene.monitors.resume(watched)
    scene.pub()
    await scene.wait_state(watched, State.UP)


async def test_the_queue_of_deadlines_is_bounded(scene: Scene) -> None:
    """However often a deadline changes, the queue has few entries that are stale."""
    watched = await scene.add()
    scene.pub()
    await scene.wait_state(watched, State.UP)
    for every in range(4000, 3800, -1):
        await scene.add(terms=Terms(float(every), 100.0))
    assert len(scene.monitors._due) < 100  # noqa: SLF001


async def test_the_database_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitors go on without it, and what has changed is stored once it is back."""
    watched = await scene.add(terms=QUICK)
    store = scene.service.store.monitors
    save = store.save

    async def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "save", fail)
    scene.pub()
    await scene.until(lambda: scene.alerts)
    with pytest.raises(StoreUnavailable):
        await scene.monitors.save()
    monkeypatch.setattr(store, "save", save)
    await scene.monitors.save()
    rows = await store.history(watched.number)
    assert [state for _, state in rows] == ["up", "down"]


async def test_uptime(scene: Scene) -> None:
    """A summary has what happened to the last moment, and is made anew after a minute."""
    service = scene.service
    caller = scene.people.caller("alice")
    watched, _ = await service.monitors.add(caller, BACKUP, HOURLY, ALERTS)
    scene.pub()
    await scene.wait_state(watched, State.UP)
    summary = (await service.summaries.of("alice", latest=True))[watched.number]
    assert summary.spans["24h"].ratio == 1.0
    assert summary.days[-1] == 1.0
    assert summary.days[-2] is None
    assert await service.summaries.of("alice") is await service.summaries.of("alice")
