"""All monitors of a server: what they are told, when they look, whom they tell.

`pipe.events.monitors.monitor` judges one monitor.  This keeps the time and the database for all of
them.  Rules:

- One timer serves the earliest of all deadlines; nothing polls.
- A publisher pays for one call per chunk on a watched topic, however many users watch it.  What has
  come is handed to their monitors `HANDS` at a time, in the server's turns.
- Whether a user may read the topic is asked when its rules change, when something comes, and when a
  deadline is over.  Who may not any more learns nothing: the monitor is paused, and says so.
- What a monitor remembers is stored within a second of a change, else once a minute
  (`pipe.events.monitors.saving`).  So is that the server watches: a later one knows since when
  nobody did.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import structlog

from pipe.errors import StoreUnavailable
from pipe.events.monitors.monitor import Monitor, State
from pipe.events.monitors.saving import Saver
from pipe.events.monitors.watches import Watch
from pipe.rights.callers import Caller
from pipe.rights.grants import Operation
from pipe.store.monitors import NewChange

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pipe.events.monitors.alerts import Alerts
    from pipe.events.monitors.monitor import Change
    from pipe.events.monitors.watches import Activity
    from pipe.language.monitor_requests import Terms
    from pipe.language.names import TopicName
    from pipe.rights.access import Access
    from pipe.store.monitors import MonitorStore, StoredMonitor
    from pipe.stream.router import Router

    Step: TypeAlias = Callable[[], bool | None]

log = structlog.get_logger()

KEYLESS = "monitor"
"""Stands where a caller has its key's fingerprint.  A monitor acts by its user's rights alone: what
was granted to a key is no grant to it."""

HANDS = 50
"""Monitors that are served in one step, each in some microseconds."""

TAKE_SECONDS = 0.25
"""How long a monitor that waits for a sign of life waits for the next, at least."""

TAKE_SHARE, MAX_TAKE_SECONDS = 1 / 60, 10.0
"""How late a monitor that is up hears of more bytes: a share of its window, and at most so long."""

REST_SECONDS = 0.5
"""When to look again whether deadlines are judged here."""

JUMP_SECONDS = 30.0
"""If the clock moved so much more or less than time did, the machine slept or the clock was set."""

_STALE_ENTRIES = 64
"""The queue of deadlines is rebuilt with so many entries beyond twice the number of monitors."""


@dataclass(eq=False, slots=True)
class Watched:
    """A monitor that runs."""

    number: int
    caller: Caller
    topic: TopicName
    alert: TopicName
    created: float
    monitor: Monitor
    shown: State
    """As what it is counted."""
    due: float | None = None
    """Its entry in the queue of deadlines."""
    gone: bool = False


@dataclass(eq=False, slots=True)
class _Topic:
    """Who watches a topic."""

    watch: Watch
    all: dict[Watched, None] = field(default_factory=dict)
    taken: float = 0.0
    """When it was last looked at, in the loop's time."""
    patience: float = TAKE_SECONDS
    """How long to wait from then on, if bytes come."""
    timer: asyncio.TimerHandle | None = None


class Monitors:
    """All monitors of one server.

    Args:
        store: Where they are kept.
        router: Says what comes.
        access: Says who may read and write what.
        alerts: Tells people.
        later: Takes a step repeatedly until it returns False.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        store: MonitorStore,
        router: Router,
        access: Access,
        alerts: Alerts,
        later: Callable[[Step], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._router = router
        self._access = access
        self._alerts = alerts
        self._later = later
        self._clock = clock
        self._users: dict[str, dict[TopicName, Watched]] = {}
        self._topics: dict[TopicName, _Topic] = {}
        self._due: list[tuple[float, int, Watched]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._ticking = False
        self._saver = Saver(store, clock, self._reload, lambda: self.may_act())
        self._reloading: asyncio.Task[None] | None = None
        self._to_reload: set[str] = set()
        self._clocks: tuple[float, float] | None = None
        self._closed = False
        self.may_act: Callable[[], bool] = lambda: True  # not while another server watches
        self.draining = False  # so that streams break off which the server itself cuts
        self.states: Counter[str] = Counter({state.value: 0 for state in State})

    # -- the server -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Go on with what is in the database.

        Raises:
            StoreUnavailable: It cannot be read.
        """
        self._closed = False
        self._saver.open()
        self._look_at_clocks()
        stored = await self._store.load()
        if not stored:
            return
        now = self._clock()
        away = now - max((until for _, until in await self._store.watched()), default=now)
        await self._saver.begin(now)
        for one in stored:
            self._go_on(one, now)
        for watched in self._everyone():
            self._note(watched, watched.monitor.come_back(now, max(0.0, away)))

    async def close(self) -> None:
        """Store what can be stored, and watch no more; calling this again does nothing.

        Another server may go on with them, and `start` here goes on after that.  If it has done so
        already, nothing is stored.
        """
        if self._closed:
            return
        self._closed = True
        for topic in list(self._topics.values()):
            if topic.timer and self.may_act():
                activity, waiting = topic.watch.collect(), list(topic.all)
                while self._hand_on(activity, self._clock(), waiting):
                    pass
        self._forget()
        if self._reloading:
            await asyncio.wait({self._reloading})
        await self._saver.close()
        self._forget()  # who was added meanwhile

    def _forget(self) -> None:
        """Let go of all monitors: what is stored may become another server's."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        for name, topic in self._topics.items():
            self._router.unwatch(name, topic.watch)
            if topic.timer:
                topic.timer.cancel()
        for one in self._everyone():
            one.gone, one.due = True, None
        self._topics.clear()
        self._users.clear()
        self._due.clear()
        self._to_reload.clear()
        self.states.update({state: -count for state, count in self.states.items()})

    async def save(self) -> None:
        """Store everything now, so that the database has all that happened.

        Raises:
            StoreUnavailable: It is away.
        """
        await self._saver.save()

    def follow_removals(self) -> None:
        """Let go of the monitors of accounts that were removed or changed, and read them again."""
        for user, found in list(self._users.items()):
            if self._access.why_barred(next(iter(found.values())).caller):
                for one in list(found.values()):
                    self._drop(one)
                self._to_reload.add(user)
        if self._to_reload and not self._closed:
            self._reloading = asyncio.get_running_loop().create_task(self._reload_or_wait())

    def review(self, topics: Collection[TopicName]) -> None:
        """Ask again who may read these topics, after their rules changed."""
        for name in topics:
            topic = self._topics.get(name)
            for watched in list(topic.all) if topic else ():
                self._lock_out_strangers(watched)

    @property
    def began(self) -> float | None:
        """Since when this server watches, in seconds since 1970; None if it does not."""
        return self._saver.began

    # -- what users do ----------------------------------------------------------------------------

    def of(self, user: str) -> list[Watched]:
        """A user's monitors, by topic."""
        found = self._users.get(user, {})
        return [found[topic] for topic in sorted(found)]

    async def add(
        self, caller: Caller, topic: TopicName, terms: Terms, alert: TopicName
    ) -> tuple[Watched, bool]:
        """Watch a topic for a user who may read it, or change the terms.

        Returns:
            The monitor, and whether it is new.

        Raises:
            AccessDenied: The caller was removed meanwhile.
            StoreError: The user has as many as allowed, the database is away.
        """
        memory = json.dumps(Monitor(terms, self._clock()).dump())
        stored = await self._store.put(caller.user, topic, terms, alert, memory)
        now = self._clock()
        await self._saver.begin(now)
        if self._access.why_barred(caller):
            self._to_reload.add(caller.user)  # it runs if the user is still there
            self._access.require(caller)
        found = self._users.get(caller.user, {}).get(topic)
        if found:
            found.alert = alert
            self._note(found, found.monitor.change_terms(now, terms))
            return found, False
        return self._go_on(stored, now), True

    async def remove(self, user: str, topic: TopicName) -> bool:
        """Watch a topic no more, and return whether it was watched."""
        removed = await self._store.remove(user, topic)
        found = self._users.get(user, {}).get(topic)
        if found:
            self._drop(found)
            self._saver.forget(found.number)
        return removed or bool(found)

    async def pause(self, watched: Watched) -> None:
        """Expect nothing."""
        self._note(watched, watched.monitor.pause(self._clock()))
        await self.save()

    async def resume(self, watched: Watched) -> None:
        """Expect it again; the user may read the topic."""
        self._note(watched, watched.monitor.resume(self._clock()))
        await self.save()

    def caller_like(self, caller: Caller) -> Caller:
        """As whom a user's monitors are judged: with the user's rights, and not those of a key."""
        return Caller(caller.user, KEYLESS, caller.admin, lent=True)

    # -- who runs ---------------------------------------------------------------------------------

    def _everyone(self) -> list[Watched]:
        return [one for found in self._users.values() for one in found.values()]

    def _go_on(self, stored: StoredMonitor, now: float) -> Watched:
        found = self._users.setdefault(stored.user, {})
        caller = next((one.caller for one in found.values()), None)
        monitor = Monitor(stored.terms, now, json.loads(stored.memory))
        watched = found[stored.topic] = Watched(
            stored.number,
            caller or Caller(stored.user, KEYLESS, stored.admin, lent=True),
            stored.topic,
            stored.alert,
            stored.created,
            monitor,
            monitor.state,
        )
        self.states[watched.shown.value] += 1
        self._note(watched, None)
        return watched

    def _drop(self, watched: Watched) -> None:
        watched.gone = True
        watched.due = None
        self.states[watched.shown.value] -= 1
        user = watched.caller.user
        del self._users[user][watched.topic]
        if not self._users[user]:
            del self._users[user]
        self._unwatch(watched)

    def _unwatch(self, watched: Watched) -> None:
        topic = self._topics.get(watched.topic)
        if topic is None or watched not in topic.all:
            return
        del topic.all[watched]
        if not topic.all:
            del self._topics[watched.topic]
            self._router.unwatch(watched.topic, topic.watch)
            if topic.timer:
                topic.timer.cancel()

    def _watch(self, watched: Watched) -> None:
        name = watched.topic
        topic = self._topics.get(name)
        if topic is None:
            watch = Watch(self._clock, partial(self._came, name))
            topic = self._topics[name] = _Topic(watch)
            self._router.watch(name, watch)
        if watched not in topic.all:
            topic.all[watched] = None
            topic.patience = TAKE_SECONDS

    async def _reload_or_wait(self) -> None:
        try:
            await self._saver.save()
            await self._reload()
        except StoreUnavailable:
            pass  # the next save tries again
        except Exception:
            log.exception("monitors cannot be read")

    async def _reload(self) -> None:
        """Read again whose accounts were removed or changed; who was removed has none."""
        for user in list(self._to_reload):
            stored = await self._store.load(user)
            self._to_reload.discard(user)
            for one in stored:
                if one.topic not in self._users.get(user, {}):
                    self._lock_out_strangers(self._go_on(one, self._clock()))

    # -- what comes -------------------------------------------------------------------------------

    def _came(self, name: TopicName, *, ends: bool) -> None:
        """Look at a topic soon, as bytes have come there, or a publisher has ended."""
        topic = self._topics[name]
        loop = asyncio.get_running_loop()
        at = topic.taken + (TAKE_SECONDS if ends else topic.patience)
        if topic.timer:
            topic.timer.cancel()
        # Even if that is now: this is in the middle of the router's work.
        topic.timer = loop.call_later(max(0.0, at - loop.time()), self._take, name)

    def _take(self, name: TopicName) -> None:
        topic = self._topics[name]
        if not self.may_act():
            topic.timer = asyncio.get_running_loop().call_later(REST_SECONDS, self._take, name)
            return
        topic.timer = None
        topic.taken = asyncio.get_running_loop().time()
        topic.patience = min(map(_patience, topic.all))
        self._look_at_clocks()
        waiting = list(topic.all)
        activity = topic.watch.collect()
        self._later(partial(self._hand_on, activity, self._clock(), waiting))

    def _hand_on(self, activity: Activity, now: float, waiting: list[Watched]) -> bool:
        for watched in waiting[:HANDS]:
            if not watched.gone:
                self._tell_monitor(watched, activity, now)
        del waiting[:HANDS]
        return bool(waiting)

    def _tell_monitor(self, watched: Watched, activity: Activity, now: float) -> None:
        monitor = watched.monitor
        if self._lock_out_strangers(watched):
            return
        if activity.size:
            self._note(watched, monitor.publish(now, activity.size, min(now, activity.last)))
        if activity.end and not (activity.end.broken and self.draining):
            status, broken = activity.end
            self._note(watched, monitor.end(now, status, broken=broken))

    def _lock_out_strangers(self, watched: Watched) -> bool:
        """Pause a monitor whose user may not read the topic, and return whether that is so."""
        if self._access.decide(watched.caller, watched.topic, Operation.READ).allowed:
            return False
        self._note(watched, watched.monitor.lock_out(self._clock()))
        return True

    # -- time -------------------------------------------------------------------------------------

    def _schedule(self, watched: Watched) -> None:
        at = watched.monitor.next_at
        if at is None:
            watched.due = None
        if at is None or (watched.due is not None and watched.due <= at):
            return
        watched.due = at
        heapq.heappush(self._due, (at, next(self._numbers), watched))
        if len(self._due) > 2 * self.states.total() + _STALE_ENTRIES:
            self._due = [(at, number, one) for at, number, one in self._due if one.due == at]
            heapq.heapify(self._due)
        if self._due[0][2] is watched:
            self._arm()

    def _arm(self) -> None:
        """Set the timer to the earliest deadline."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._due and not self._ticking and not self._closed:
            delay = max(0.0, self._due[0][0] - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.may_act():
            self._timer = asyncio.get_running_loop().call_later(REST_SECONDS, self._tick)
            return
        self._look_at_clocks()
        if not self._ticking:
            self._ticking = True
            self._later(self._serve_due)

    def _serve_due(self) -> bool:
        """Let those look whose deadline is over."""
        now = self._clock()
        for _ in range(HANDS):
            if not self._due or self._due[0][0] > now:
                self._ticking = False
                self._arm()
                return False
            at, _, watched = heapq.heappop(self._due)
            if watched.due != at or watched.gone:
                continue  # an entry from before
            watched.due = None
            if not self._lock_out_strangers(watched):
                self._note(watched, watched.monitor.look(now))
        return True

    def _look_at_clocks(self) -> None:
        """Notice that the machine has slept, or that the clock was set."""
        wall, passed = self._clock(), asyncio.get_running_loop().time()
        before, self._clocks = self._clocks or (wall, passed), (wall, passed)
        jump = (wall - before[0]) - (passed - before[1])
        if abs(jump) < JUMP_SECONDS:
            return
        log.warning("clock jumped", seconds=round(jump), reason="nobody watched meanwhile")
        for watched in self._everyone():
            self._note(watched, watched.monitor.come_back(wall, jump))

    # -- what changes -----------------------------------------------------------------------------

    def _note(self, watched: Watched, change: Change | None) -> None:
        """Note that a monitor was told something, and what came of it."""
        monitor = watched.monitor
        if monitor.state is not watched.shown:
            self.states[watched.shown.value] -= 1
            self.states[monitor.state.value] += 1
            watched.shown = monitor.state
        if monitor.state is State.PAUSED:
            self._unwatch(watched)
        else:
            self._watch(watched)
        self._schedule(watched)
        lasting = None
        if change and change.lasting:
            lasting = NewChange(
                watched.number, change.at, change.state.value, change.was.value, change.reason
            )
        self._saver.note(watched.number, monitor, lasting)
        if change and change.alert:
            self._alerts.send(watched.caller, watched.topic, watched.alert, change)


def _patience(watched: Watched) -> float:
    """How many seconds after the last look a monitor wants to hear of bytes."""
    if watched.shown is not State.UP:
        return TAKE_SECONDS
    return max(TAKE_SECONDS, min(MAX_TAKE_SECONDS, watched.monitor.terms.every * TAKE_SHARE))
