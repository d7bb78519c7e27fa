"""The parts that every front and every command share.

A front (SSH today) turns a request into a member of a topic.  This holds what it needs for that:
the router, the access rules, the accounts, the settings, the counters and the live sessions.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from pipe.chat.room import Rooms
from pipe.errors import Outcome, PipeError, QuotaExceeded
from pipe.events.announcer import Announcer
from pipe.events.dedupe import Seen
from pipe.events.hooks.deliveries import Result
from pipe.events.hooks.hub import NO_HOOK, Hooks
from pipe.events.logs.drain import LogDrain
from pipe.events.monitors.alerts import Alerts
from pipe.events.monitors.hub import Monitors
from pipe.events.monitors.summaries import Summaries
from pipe.events.once import Once
from pipe.events.webhooks.hub import Webhooks
from pipe.language.hook_requests import HookKind
from pipe.language.requests import Publish, ssh_command
from pipe.limits.bounds import parse_networks
from pipe.limits.gate import Gate, make_gate
from pipe.limits.holds import Holds
from pipe.limits.keeping import ALARM_SHARE, Keeping
from pipe.limits.memory import MemoryAlarm, default_threshold
from pipe.limits.quotas import Quotas, Rates, Resource, most_of
from pipe.limits.sources import ClaimLimit, OwnClaims
from pipe.limits.turns import Turns
from pipe.limits.turnstile import Turnstile
from pipe.metrics import Metrics, Snapshot
from pipe.rights.access import Access
from pipe.store.admission import Tokens
from pipe.store.changes import Kind
from pipe.store.guard import Guard
from pipe.store.web_key import make_web_key
from pipe.stream.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pipe.elsewhere import Elsewhere
    from pipe.language.names import TopicName
    from pipe.limits.quotas import Holder
    from pipe.limits.sources import Claims
    from pipe.rights.access import Loss, Pass
    from pipe.rights.callers import Caller
    from pipe.rights.live import LiveSession
    from pipe.settings import Settings
    from pipe.store import Store
    from pipe.stream.topics import Member

log = structlog.get_logger()

MAX_ANNOUNCING = 100
"""Announcements that are on their way to other workers; each holds at most half a mebibyte."""


class Login(NamedTuple):
    """Who has logged in on a connection, and whom it counts for."""

    caller: Caller
    address: str
    holders: tuple[Holder, ...]


class TunnelServer(Protocol):
    """Serves HTTP inside the connections of another front."""

    def carry(self, transport: asyncio.Transport, login: Login) -> asyncio.Protocol:
        """Begin to serve one, and return what is told of its input."""


@dataclass(slots=True)
class Service:
    """One server's shared parts."""

    settings: Settings
    store: Store
    access: Access = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    router: Router = field(init=False)
    announcer: Announcer = field(init=False)
    hooks: Hooks = field(init=False)
    alerts: Alerts = field(init=False)  # of monitors
    monitors: Monitors = field(init=False)
    summaries: Summaries = field(init=False)  # of monitors
    guard: Guard = field(init=False)
    tokens: Tokens = field(init=False)
    logs: LogDrain = field(init=False)
    once: Once = field(init=False)
    quotas: Quotas = field(init=False)
    gate: Gate = field(init=False)
    claims: Claims = field(init=False)
    rates: Rates = field(init=False)
    keeping: Keeping = field(init=False)
    holds: Holds = field(init=False)
    sessions: dict[LiveSession, None] = field(default_factory=dict)
    turnstile: Turnstile = field(default_factory=Turnstile)  # of commands
    joining: Turnstile = field(default_factory=Turnstile)  # of readers on patterns
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one `ls` at a time
    turns: Turns = field(default_factory=Turns)
    rooms: Rooms = field(default_factory=lambda: Rooms(time.monotonic))  # of chats
    connections: int = 0
    lanes: Counter[str] = field(default_factory=lambda: Counter({"fast": 0, "asyncssh": 0}))
    paused_seconds: float = 0.0
    orphans: int = 0
    memory_alarm: MemoryAlarm = field(init=False)
    webhooks: Webhooks = field(init=False)
    port: int = 0
    web_url: str = field(init=False)  # where the web pages are; empty: there are none
    tunnels: TunnelServer | None = None  # unless there is no HTTP inside connections
    elsewhere: Elsewhere | None = None  # unless this is the only worker
    web_key: bytes = field(default_factory=make_web_key)
    draining: bool = False
    _announcing: set[asyncio.Task[bool | None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.access = Access(clock=time.time, changed=self._rules_changed)
        self.router = Router(
            closed=self.forget_topic,
            clock=time.monotonic,
            later=self.turns.do,
            lingers=lambda name, seconds: self.keeping.linger(name, seconds),
        )
        self.holds = Holds(self._receipt_gone)
        self.announcer = Announcer(self.router)
        self.logs = LogDrain(self.turns.do)
        self.once = Once(Seen(), self.logs, lambda: self.elsewhere)
        self.guard = Guard(self.access, self.store, self.expel, self.logs.forget)
        self.alerts = Alerts(self.access, self.announce_soon, self.tell_owner)
        self.monitors = Monitors(
            self.store.monitors,
            self.router,
            self.access,
            self.alerts,
            self.turns.do,
        )
        self.summaries = Summaries(self.store.monitors, self.monitors, time.time)
        self.tokens = Tokens(self.access, self.guard, self.store.tokens)
        self.hooks = self._make_hooks()
        settings = self.settings
        self.webhooks = Webhooks(
            self.router,
            self.access,
            self.store.webhooks,
            self.metrics,
            self.tell_owner,
            parse_networks(settings.webhook_networks),
        )
        self.guard.call(Kind.WEBHOOK, self.webhooks.follow)
        self.quotas = Quotas(most_of(settings))
        self.web_url = settings.resolved_web_url
        self.gate = make_gate(settings, self.quotas)
        self.claims = OwnClaims(ClaimLimit(settings.claims_per_day), time.monotonic)
        self.rates = Rates(settings.max_rate_per_user)
        self.memory_alarm = MemoryAlarm(settings.memory_alarm or default_threshold())
        self.keeping = Keeping(
            settings.max_keep,
            settings.max_keep_per_user,
            int(self.memory_alarm.threshold * ALARM_SHARE),
            self.router.let_go,
        )

    def _make_hooks(self) -> Hooks:
        deliveries = self.metrics.hook_deliveries
        deliveries.labels(NO_HOOK, Result.REFUSED.value)
        for kind, result in itertools.product(HookKind, Result):
            deliveries.labels(kind.value, result.value)
        return Hooks(
            self.store.hooks,
            self.access,
            self.announce,
            self.once.is_new,
            lambda kind, result: deliveries.labels(kind, result.value).inc(),
            self.tell_owner,
        )

    async def announce(
        self,
        topic: TopicName,
        data: bytes,
        hold: float = 0.0,
        admit: Callable[[int], bool] = lambda _: True,
    ) -> bool | None:
        """Publish a short stream where its topic is at home; see `Announcer.announce`.

        In another worker it is not asked again, when its hold is over, whether it may be sent.

        Returns:
            False if there is no room for it; None if the other worker does not answer, so that it
            may be published or not.
        """
        if self.elsewhere is None or topic in self.router:
            return self.announcer.announce(topic, data, hold, admit)
        try:
            visit = await self.elsewhere.find(Publish(str(topic)), topic)
            try:
                if not visit.far:
                    return self.announcer.announce(topic, data, hold, admit)
                taken, readers = await visit.announce(data, hold)
            finally:
                visit.settle()
        except PipeError as error:
            log.warning("announcement not answered for", error=error.message)
            return None
        if readers is not None:
            admit(readers)
        return taken

    def announce_soon(self, topic: TopicName, data: bytes, hold: float = 0.0) -> bool:
        """The same without waiting; False if too much waits already."""
        if self.elsewhere is None or topic in self.router:
            return self.announcer.announce(topic, data, hold)
        if len(self._announcing) >= MAX_ANNOUNCING:
            return False
        task = asyncio.get_running_loop().create_task(self.announce(topic, data, hold))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)
        return True

    def open_topic(self, name: TopicName, holders: tuple[Holder, ...]) -> None:
        """Count a topic that the next join opens; do nothing if it exists.

        Raises:
            QuotaExceeded: one of the holders has opened as many as it may.
        """
        if name in self.router:
            return
        try:
            self.quotas.open_topic(name, *holders)
        except QuotaExceeded as error:
            self.access.closed(name)  # drop the list that it would have had
            self.metrics.refused.labels(error.resource).inc()
            raise

    def take(self, resource: Resource, holders: tuple[Holder, ...]) -> None:
        """Count one more of a resource that sessions hold, until it is given back to the quotas.

        Raises:
            QuotaExceeded: one of the holders has as many as it may.
        """
        try:
            self.quotas.take(resource, *holders)
        except QuotaExceeded as error:
            self.metrics.refused.labels(error.resource).inc()
            raise

    def leave_in_turn(self, member: Member, holders: tuple[Holder, ...]) -> None:
        """Remove a reader from its pattern when there is time.

        It has to leave every topic.  What it gets until then goes nowhere.
        """
        self.turns.do(partial(self._let_leave, member, holders))

    def _let_leave(self, member: Member, holders: tuple[Holder, ...]) -> None:
        try:
            self.router.leave(member)
        finally:
            self.quotas.give_back(Resource.PATTERNS, *holders)

    def forget_topic(self, name: TopicName) -> None:
        """Count a topic no longer: it has closed, or was not opened in the end."""
        self.quotas.close_topic(name)
        self.keeping.closed(name)
        self.access.closed(name)
        if self.elsewhere:
            self.elsewhere.closed(name)

    def _receipt_gone(self, name: TopicName) -> None:
        """A receipt is kept no longer, so that its topic need not come back to this worker."""
        if self.elsewhere and name not in self.router:
            self.elsewhere.closed(name)

    def _rules_changed(self, topics: Collection[TopicName], lost: list[Pass], loss: Loss) -> None:
        """End what is no longer allowed, and let patterns join what now is, in one step."""
        with self.router.at_once():
            for topic in topics:
                self.router.review(topic)
            for one in lost:
                one.lost(loss)
        self.monitors.review(topics)

    def expel(self, spare: LiveSession | None = None) -> None:
        """End the sessions of callers whose account, key or token is gone.

        Args:
            spare: the session that removed it, which still has to answer.
        """
        with self.router.at_once():
            for session in list(self.sessions):
                text = self.access.why_barred(session.caller)
                if text and session is not spare:
                    session.cut(Outcome.DENIED, text)
        self.keeping.forget(self.access.why_barred)
        self.holds.forget(self.access.why_barred)
        self.monitors.follow_removals()

    def tell_owner(self, user: str, level: str, msg: str, /, **fields: object) -> None:
        """Tell a user in ``logs`` what has happened; quick, and never a loop: nothing is logged.

        Args:
            user: who it is about, and who is told.
            level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
            msg: what has happened, in the words of the log.
            fields: the rest, which the user may know.
        """
        self.once.tell(user, level, msg, fields)

    def sessions_on(self, topic: TopicName) -> list[tuple[LiveSession, Member]]:
        """The sessions on a topic now, patterns included, each with its member."""
        there = set(self.router.members(topic))
        return [(session, session.member) for session in self.sessions if session.member in there]

    def ssh_command(self, user: str = "") -> str:
        """The command that reaches this server as this user, or as anybody, to paste in a shell."""
        port = self.settings.public_port or self.port
        return ssh_command(self.settings.resolved_public_host, port, user)

    def snapshot(self) -> Snapshot:
        """All gauges and plain counters, as of now."""
        return Snapshot(
            router=self.router.statistics(),
            connections=self.connections,
            lanes=dict(self.lanes),
            unauthenticated=self.gate.waiting,
            tasks=len(asyncio.all_tasks()),
            memory_alarm=self.memory_alarm.active,
            monitors=dict(self.monitors.states),
            monitor_alerts=dict(self.alerts.sent),
            paused_seconds=self.paused_seconds
            + sum(session.paused_seconds for session in self.sessions),
            log_lines=dict(self.logs.counts),
            webhooks_waiting=self.webhooks.waiting,
            kept_bytes=self.router.kept_bytes,
        )
