"""Hooks at work: who may deliver what, and on which topic it is published.

A delivery's rights are those of its hook's user at that moment, and for one that waits, at the
moment when it is sent.  The keys that the user logs in with do not count: a hook outlives them.
Whoever delivers is told only whether the proof is right; the user is told the rest.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import string
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pipe.events.dedupe import Sighting, sight
from pipe.events.envelope import Event
from pipe.events.hooks.deliveries import Deliveries, Delivery, Result
from pipe.events.hooks.kinds import Unreadable, delivery_id, events_of, place
from pipe.events.hooks.verify import STANDARD_PREFIX, digest
from pipe.language.hook_requests import HookKind
from pipe.language.names import TopicName
from pipe.rights.callers import Caller
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from typing import TypeAlias

    from pipe.events.telling import Tell
    from pipe.rights.access import Access
    from pipe.store import Hook, HookStore

    Admit: TypeAlias = Callable[[int], bool]
    Found: TypeAlias = tuple[Result, int]  # what came of one, and how many read it at once
    Announce: TypeAlias = Callable[[TopicName, bytes, float, Admit], Awaitable[bool | None]]
    IsNew: TypeAlias = Callable[[Sighting], Awaitable[bool]]

ID_LENGTH = 12
"""Characters of an ID: sixty bits.  It is not secret."""

SECRET_PREFIX, SECRET_LENGTH = "phs_", 43
"""How secrets begin, so that one found in the wrong place can be recognised, and 256 bits."""

STANDARD_KEY_BYTES = 32
"""Of a secret of Standard Webhooks, which asks for 24 to 64."""

TEST, TEST_REPOSITORY, TEST_TAG = "test", "hook-test", "latest"
"""What a test event is called, and the image that it is about in a space."""

NO_HOOK = "none"
"""Stands for the kind of a hook that there is not, in the metrics."""

TOUCH_SECONDS = 60.0
"""How exact a hook's time of last use is, so that many deliveries do not mean many writes."""

_EVENTS_AT_A_TIME = 8
"""Events that are published before others get their turn: each takes some 50 µs."""

_ID_ALPHABET = string.ascii_lowercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits

_WORST_FIRST = (
    Result.UNREADABLE,
    Result.FULL,
    Result.UNANSWERED,
    Result.DENIED,
    Result.PUBLISHED,
    Result.HELD,
    Result.UNHEARD,
    Result.REPEAT,
    Result.IGNORED,
)
"""Which result of several events is told of their delivery."""


class Post(NamedTuple):
    """A delivery whose proof was right."""

    headers: Mapping[str, str]
    body: bytes
    fingerprint: str


@dataclass(frozen=True, slots=True)
class _Notice:
    """What is to be published, and where."""

    topic: TopicName
    data: bytes
    number: str
    """The sender's name for it; empty: it cannot be told from others."""
    event: Event | None = None
    """Tells the same push from others, whoever tells of it."""


class Hooks:
    """All hooks.

    Args:
        store: the hooks.
        access: decides rights.
        announce: publishes, as `pipe.service.Service.announce`.
        is_new: recognises what is told twice, as `pipe.events.once.Once.is_new`.
        count: notes one more delivery of a kind with a result, for the metrics.
        tell: tells a user in the logs.
    """

    def __init__(
        self,
        store: HookStore,
        access: Access,
        announce: Announce,
        is_new: IsNew,
        count: Callable[[str, Result], None],
        tell: Tell,
    ) -> None:
        self._store = store
        self._access = access
        self._announce_it = announce
        self._is_new = is_new
        self._count = count
        self._tell = tell
        self.deliveries = Deliveries()

    async def deliver(self, hook: Hook, post: Post, time: float, now: float) -> None:
        """Publish what a delivery tells of.

        Args:
            hook: whose proof was right.
            post: the delivery.
            time: seconds since 1970.
            now: seconds of a clock that only goes forward.
        """
        detail = ""
        try:
            found = await self._publish_all(hook, list(_notices(hook, post, time)))
        except Unreadable as error:
            found = [(Result.UNREADABLE, 0)]
            detail = str(error)
        results = [result for result, _ in found]
        result = next((one for one in _WORST_FIRST if one in results), Result.IGNORED)
        published = sum(one in {Result.PUBLISHED, Result.HELD, Result.UNHEARD} for one in results)
        readers = max((count for _, count in found), default=0)
        size = len(post.body)
        self.note(hook, Delivery(time, result, size, published, readers, detail), now)

    def note_unknown(self) -> None:
        """Note a delivery to a hook that there is not."""
        self._count(NO_HOOK, Result.REFUSED)

    def note(self, hook: Hook, delivery: Delivery, now: float) -> None:
        """Note what came of a delivery, and tell the hook's user if it is trouble."""
        self._count(hook.kind.value, delivery.result)
        if self.deliveries.note(hook.id, delivery, now):
            reason = f": {delivery.detail}" if delivery.detail else ""
            self._tell(
                hook.user,
                "WARN",
                f"a delivery to your hook {hook.id} ({hook.kind.value}) was "
                f"{delivery.result.value}{reason}",
                hook=hook.id,
            )
        taken = delivery.result not in {Result.REFUSED, Result.LIMITED}
        if taken and delivery.time - (hook.used or 0.0) >= TOUCH_SECONDS:
            self._store.note_use(hook.id, delivery.time)

    async def test(self, hook: Hook, time: float) -> tuple[TopicName | None, Result, int]:
        """Publish a test event, and return where, what came of it, and how many read it at once."""
        event = Event(
            time,
            TEST_REPOSITORY,
            TEST_TAG,
            by=hook.user,
            source=hook.kind.value,
            id=make_id(),
            event=TEST,
        )
        notice = _notice_of(hook, event)
        if notice is None:
            return None, Result.IGNORED, 0
        caller = _caller(hook)
        if not self._may_write(caller, notice.topic):
            return notice.topic, Result.DENIED, 0
        return notice.topic, *await self._announce(hook, caller, notice)

    async def _publish_all(self, hook: Hook, notices: list[_Notice]) -> list[Found]:
        """Publish what may be and is new; other workers are asked about all of it at once."""
        caller = _caller(hook)
        found: dict[int, Found] = {}  # by place
        left = list(range(len(notices)))

        def drop(places: Iterable[int], result: Result) -> None:
            found.update(dict.fromkeys(places, (result, 0)))
            left[:] = [place for place in left if place not in found]

        drop((at for at in left if not self._may_write(caller, notices[at].topic)), Result.DENIED)
        for sighted in (partial(_number_of, hook), _push_of):
            asked = {at: sighting for at in left if (sighting := sighted(notices[at]))}
            news = await asyncio.gather(*map(self._is_new, asked.values()))
            drop((at for at, new in zip(asked, news, strict=True) if not new), Result.REPEAT)
        topics: dict[TopicName, dict[int, _Notice]] = {}
        for at in left:
            topics.setdefault(notices[at].topic, {})[at] = notices[at]
        tasks = []
        async with asyncio.TaskGroup() as group:
            for some in topics.values():
                tasks.append(group.create_task(self._announce_in_order(hook, caller, some)))
                if len(tasks) % _EVENTS_AT_A_TIME == 0:
                    await asyncio.sleep(0)
        for task in tasks:
            found.update(task.result())
        return [found[at] for at in range(len(notices))]

    async def _announce_in_order(
        self, hook: Hook, caller: Caller, notices: Mapping[int, _Notice]
    ) -> dict[int, Found]:
        """Publish what comes on one topic, until its worker is found not to answer."""
        found: dict[int, Found] = dict.fromkeys(notices, (Result.UNANSWERED, 0))
        for number, (at, notice) in enumerate(notices.items(), start=1):
            found[at] = await self._announce(hook, caller, notice)
            if found[at][0] is Result.UNANSWERED:
                break
            if number % _EVENTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
        return found

    async def _announce(self, hook: Hook, caller: Caller, notice: _Notice) -> Found:
        read: list[int] = []

        def admit(readers: int) -> bool:
            read.append(readers)
            return self._may_write(caller, notice.topic)

        taken = await self._announce_it(notice.topic, notice.data, hook.hold, admit)
        if not taken:
            return Result.UNANSWERED if taken is None else Result.FULL, 0
        if not read:
            return Result.HELD, 0
        return Result.PUBLISHED if read[0] else Result.UNHEARD, read[0]

    def _may_write(self, caller: Caller, topic: TopicName) -> bool:
        if self._access.why_barred(caller):
            return False
        return self._access.decide(caller, topic, Operation.WRITE).allowed


def make_id() -> str:
    """Make an ID."""
    return _random(_ID_ALPHABET, ID_LENGTH)


def make_secret(kind: HookKind) -> tuple[str, str]:
    """Make a secret: what is shown, once, and what is stored."""
    if kind is HookKind.STANDARD:
        key = base64.b64encode(secrets.token_bytes(STANDARD_KEY_BYTES)).decode()
        shown = f"{STANDARD_PREFIX}{key}"
    else:
        shown = f"{SECRET_PREFIX}{_random(_SECRET_ALPHABET, SECRET_LENGTH)}"
    return shown, shown if kind.is_signed else digest(shown)


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _caller(hook: Hook) -> Caller:
    """The hook's user, with what does not depend on a key."""
    return Caller(hook.user, "", hook.admin)


def _notices(hook: Hook, post: Post, time: float) -> Iterator[_Notice]:
    """What a delivery tells of.

    Raises:
        Unreadable: it is not what its kind sends.
    """
    number = delivery_id(hook.kind, post.headers, post.fingerprint)
    if not hook.kind.tells_of_images:
        yield _Notice(_topic_of(hook), post.body, number)
        return
    for event in events_of(hook.kind, post.headers, post.body, number, time):
        found = _notice_of(hook, event)
        if found:
            unsigned = event.id if hook.kind is HookKind.DISTRIBUTION else number
            yield replace(found, number=f"{unsigned} {event.repository}:{event.tag}")


def _notice_of(hook: Hook, event: Event) -> _Notice | None:
    """Where an event is published, and as what; None if no topic can have its name."""
    if hook.is_space:
        placed = place(event, hook.owner, hook.path)
        if placed is None:
            return None
        topic, here = placed
        return _Notice(topic, here.line(), "", here)
    topic = _topic_of(hook)
    if event.topic == topic:
        return _Notice(topic, event.line(), "", event)
    # The sender's repository is not the user of that name here, who may be told of the same push.
    known = replace(event, repository=f"{topic} {event.repository}")
    return _Notice(topic, event.line(), "", known)


def _number_of(hook: Hook, notice: _Notice) -> Sighting | None:
    """How it is recognised by its number; senders choose theirs, so each hook has its own."""
    return Sighting(f"{hook.id} {notice.topic} {notice.number}") if notice.number else None


def _push_of(notice: _Notice) -> Sighting | None:
    """How it is recognised as a push, whoever tells of it."""
    return sight(notice.event) if notice.event else None


def _topic_of(hook: Hook) -> TopicName:
    return TopicName(hook.owner, tuple(hook.path.split("/")))
