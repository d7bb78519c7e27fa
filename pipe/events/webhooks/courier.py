"""One webhook at work: reads its topic, keeps what waits, and tries to send it.

It sends one at a time, and holds no task and no connection while it waits.
"""

from __future__ import annotations

import asyncio
import enum
import json
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import structlog

from pipe.events.listener import Listener
from pipe.events.webhooks.cutting import MAX_BODY_BYTES, Lines, Streams
from pipe.events.webhooks.posting import USER_AGENT, Answer, Result, content_type
from pipe.events.webhooks.schedule import Fate, Schedule, Waiting
from pipe.events.webhooks.signing import derive_secret, signed_headers
from pipe.language.webhook_requests import Posting
from pipe.store.webhooks import Health, WebhookState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from pipe.events.telling import Tell
    from pipe.events.webhooks.cutting import Body, Cutter
    from pipe.events.webhooks.posting import Poster
    from pipe.language.names import TopicName
    from pipe.metrics import Metrics
    from pipe.store.webhooks import Webhook
    from pipe.stream.chunks import Chunk
    from pipe.stream.router import Router

log = structlog.get_logger()

MAX_ALL_BYTES = 64 << 20
"""Bytes that wait in memory for all webhooks of all users."""

RECENT = 10
"""Tries to remember for each webhook, for its owner to look at."""

QUIET_SECONDS = 60.0
"""How often at most a webhook's losses are told, and how it does is stored, if that stays so."""

TOPIC, TRUNCATED, STATUS, TEST = "Pipe-Topic", "Pipe-Truncated", "Pipe-Status", "Pipe-Test"
"""Headers: the topic; how long the stream or line was, if it was cut off; the exit status that the
stream left, if it is not 0; whether it is only a test."""


class Loss(enum.Enum):
    """Why something was not sent: the ``reason`` label of the metric, and words for its owner."""

    FULL = ("full", "there was no room for more")
    GIVEN_UP = ("given-up", "the last try failed")
    BROKEN = ("broken", "there was not all of the stream")
    PAUSED = ("paused", "the webhook is paused")
    DENIED = ("denied", "you may no longer read the topic")

    def __init__(self, label: str, text: str) -> None:
        self.label = label
        self.text = text


@dataclass(slots=True)
class Shared:
    """What the webhooks of a server share."""

    router: Router
    metrics: Metrics
    may_read: Callable[[str, TopicName], bool]
    """Whether a user may read a topic now."""
    slots: Callable[[str], AbstractAsyncContextManager[None]]
    """Waits until one more POST of a user may be under way."""
    poster: Callable[[], Awaitable[Poster]]
    tell: Tell
    note_health: Callable[[str, Health], None]
    pause: Callable[[Webhook], Awaitable[None]]
    remove: Callable[[Webhook], Awaitable[None]]
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    """What secrets are derived from."""
    held: int = 0
    """Bytes that wait in memory for all webhooks."""

    def spare(self) -> int:
        """How many bytes more may wait."""
        return MAX_ALL_BYTES - self.held


class Try(NamedTuple):
    """A try, for its owner to look at."""

    time: float
    """Seconds since 1970."""
    message: str
    """The ``webhook-id``."""
    answer: Answer
    seconds: float


class Courier:
    """One webhook, until `stop`.

    Attributes:
        webhook: as the database has it.
        health: how it does; newer than what the database has.
        recent: the last tries.
        dropped: how many were not sent since the server started.
    """

    def __init__(self, webhook: Webhook, shared: Shared) -> None:
        self.webhook = webhook
        self.health = webhook.health
        self.recent: deque[Try] = deque(maxlen=RECENT)
        self.dropped = 0
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._run = secrets.token_hex(6)
        self._number = 0
        self._schedule = Schedule()
        self._cutter: Cutter | None = None
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._counted = 0
        self._noted = float("-inf")
        self._untold: Counter[tuple[str, str]] = Counter()
        self._quiet: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """How many wait to be sent."""
        return len(self._schedule)

    # -- coming and going -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read the topic, unless the webhook is paused."""
        if self.webhook.state is WebhookState.PAUSED:
            return
        shared, topic = self._shared, self.webhook.topic
        since = self.health.failing_since
        ago = None if since is None else max(0.0, time.time() - since)
        self._schedule = Schedule(None if ago is None else self._loop.time() - ago)
        if self.webhook.posting is Posting.LINE:
            self._cutter = Lines(self._emit, self._break, shared.spare, self._has_room)
        else:
            self._cutter = Streams(self._emit, self._break, shared.spare)
        self._listener = Listener(
            shared.router, topic, self._take, self._ended, self._admits, self._begin_late
        )
        self._listener.start()

    def _begin_late(self) -> None:
        if self._cutter:
            self._cutter.begin_late()

    def follow(self, webhook: Webhook) -> None:
        """Follow a change in the database."""
        before, self.webhook = self.webhook.state, webhook
        if before is webhook.state:
            return
        self.health = webhook.health
        if webhook.state is WebhookState.PAUSED:
            self._lose(self._halt(), Loss.PAUSED)
        else:
            self.start()

    def stop_reading(self) -> None:
        """Read no more, and go on with what waits."""
        if self._listener:
            self._listener.stop()
            self._listener = None

    async def finish(self) -> None:
        """Wait until nothing is left that is due."""
        while self._task:
            await asyncio.wait({self._task})

    def stop(self) -> int:
        """End at once, and return how many waited."""
        count = self._halt()
        self._be_quiet()
        self._tell_all()
        self._be_quiet()
        return count

    def _halt(self) -> int:
        self.stop_reading()
        self._cutter = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if task and task is not asyncio.current_task():
            task.cancel()
        count = self._schedule.clear()
        self._account()
        return count

    def _admits(self, topic: TopicName) -> bool:
        return self._shared.may_read(self.webhook.user, topic)

    # -- inside the fan-out -----------------------------------------------------------------------

    def _take(self, chunk: Chunk) -> None:
        if self._cutter:
            self._cutter.feed(bytes(chunk.data))
            self._account()

    def _ended(self, status: int, broken: bool) -> None:
        if self._cutter:
            self._cutter.end(status, broken=broken)
            self._account()

    def _has_room(self) -> bool:
        return self._schedule.has_room and self._shared.spare() > 0

    def _emit(self, body: Body) -> bool:
        self._number += 1
        headers = {}
        if body.size > len(body.data):
            headers[TRUNCATED] = str(body.size)
            self._tell_soon("webhook cut off", f"at most {MAX_BODY_BYTES} bytes are sent", 1)
        if body.status:
            headers[STATUS] = str(body.status)
        one = Waiting(self._loop.time(), self._number, body.data, headers)
        if len(body.data) > self._shared.spare() or not self._schedule.add(one):
            self._lose(1, Loss.FULL)
        elif self._task is None:
            self._wake()
        return self._has_room()

    def _break(self, count: int) -> None:
        streams = self.webhook.posting is Posting.NONE
        self._lose(count, Loss.BROKEN if streams or self._has_room() else Loss.FULL)

    def _account(self) -> None:
        """Count the bytes in memory among those of all webhooks."""
        count = self._schedule.bytes + (self._cutter.held if self._cutter else 0)
        self._shared.held += count - self._counted
        self._counted = count

    # -- sending ----------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Send what is due, or set the timer for it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        at = self._schedule.next_time()
        if at is None or self._task is not None:
            return
        if at <= self._loop.time():
            self._task = self._loop.create_task(self._work())
        else:
            self._timer = self._loop.call_at(at, self._wake)

    async def _work(self) -> None:
        task = asyncio.current_task()
        try:
            while self._task is task and (one := self._schedule.take(self._loop.time())):
                await self._send(one)
        finally:
            if self._task is task:
                self._task = None
                self._wake()

    async def _send(self, one: Waiting) -> None:
        webhook, shared = self.webhook, self._shared
        async with shared.slots(webhook.user):
            if not shared.may_read(webhook.user, webhook.topic):
                self._lose(self._schedule.clear(), Loss.DENIED)
                self._account()
                return
            answer = await self.post(f"msg_{self._run}_{one.number}", one.headers, one.data)
        if answer.result is Result.DELIVERED:
            self._succeed()
        elif answer.result is Result.GONE:
            self._tell("webhook removed", reason=f"its receiver {answer.text}")
            self._schedule.failed(self._loop.time())
            await shared.remove(webhook)
        elif self._fail(answer) is Fate.PAUSE:
            self._tell("webhook paused", reason="nothing has arrived for a day")
            await shared.pause(webhook)

    async def post(self, message: str, headers: dict[str, str], body: bytes) -> Answer:
        """Send a body once, and note what came of it."""
        webhook, shared = self.webhook, self._shared
        secret = derive_secret(shared.key, webhook.id)
        started, now = self._loop.time(), time.time()
        signed = {
            "Content-Type": content_type(body),
            "User-Agent": USER_AGENT,
            TOPIC: str(webhook.topic),
            **headers,
            **signed_headers(secret, message, int(now), body),
        }
        try:
            poster = await shared.poster()
            answer = await poster.post(webhook.user, webhook.url, signed, body)
        except Exception:
            log.exception("webhook not sent", user=webhook.user, webhook=webhook.id)
            answer = Answer(Result.FAILED, "something went wrong in this server")
        self.recent.append(Try(now, message, answer, self._loop.time() - started))
        shared.metrics.webhook_attempts.labels(answer.result.value).inc()
        return answer

    async def test(self) -> tuple[Answer, float]:
        """Send a test, and return what came of it in how many seconds."""
        body = {"event": "test", "webhook": self.webhook.id, "topic": str(self.webhook.topic)}
        message = f"msg_test_{secrets.token_hex(6)}"
        answer = await self.post(message, {TEST: "true"}, json.dumps(body).encode())
        return answer, self.recent[-1].seconds

    def _succeed(self) -> None:
        recovered = self._schedule.failing_since is not None
        self._schedule.succeeded()
        self._account()
        if recovered:
            self._tell("webhook works again", "INFO")
        self._note(Health(time.time(), None, ""), now=recovered)

    def _fail(self, answer: Answer) -> Fate:
        first = self._schedule.failing_since is None
        fate = self._schedule.failed(self._loop.time(), answer.retry_after)
        self._account()
        if first:
            self._tell("webhook fails", reason=answer.text)
        if fate is not Fate.AGAIN:
            self._lose(1, Loss.GIVEN_UP)
        since = time.time() if first else self.health.failing_since
        self._note(Health(self.health.succeeded, since, answer.text), now=first)
        return fate

    def _note(self, health: Health, *, now: bool) -> None:
        """Have how it does stored, now and then or because that has changed."""
        self.health = health
        at = self._loop.time()
        if now or at - self._noted >= QUIET_SECONDS:
            self._noted = at
            self._shared.note_health(self.webhook.id, health)

    # -- telling ----------------------------------------------------------------------------------

    def _tell(self, event: str, level: str = "WARN", **fields: object) -> None:
        self._shared.tell(self.webhook.user, level, event, webhook=self.webhook.id, **fields)

    def _lose(self, count: int, why: Loss) -> None:
        """Count what is not sent."""
        if count:
            self.dropped += count
            self._shared.metrics.webhook_dropped.labels(why.label).inc(count)
            self._tell_soon("webhook did not send", why.text, count)

    def _tell_soon(self, event: str, reason: str, count: int) -> None:
        """Tell of something that may happen often: soon, but not again and again."""
        self._untold[event, reason] += count
        if self._quiet is None:
            self._quiet = self._loop.call_soon(self._tell_all)

    def _be_quiet(self) -> None:
        if self._quiet:
            self._quiet.cancel()
            self._quiet = None

    def _tell_all(self) -> None:
        self._quiet = None
        if not self._untold:
            return
        for (event, reason), count in self._untold.items():
            self._tell(event, count=count, reason=reason)
        self._untold.clear()
        self._quiet = self._loop.call_later(QUIET_SECONDS, self._tell_all)
