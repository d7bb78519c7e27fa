"""All webhooks of a server: as the database has them, each with a courier.

Users' rights are judged when something is read and again when it is sent, as of a login with no
key: grants to a key do not count, and an admin's webhook has no more rights than anybody's.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from pipe.errors import StoreError
from pipe.events.webhooks.courier import Courier, Shared
from pipe.limits.turnstile import Turnstile
from pipe.rights.callers import Caller
from pipe.store.webhooks import WebhookState, only

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from pipe.events.telling import Tell
    from pipe.events.webhooks.posting import Answer, Poster
    from pipe.language.names import TopicName
    from pipe.limits.bounds import Network
    from pipe.metrics import Metrics
    from pipe.rights.access import Access
    from pipe.store.webhooks import Webhook, WebhookStore
    from pipe.stream.router import Router

log = structlog.get_logger()

MAX_PER_USER = 4
"""POSTs of one user that are under way at once."""

MAX_AT_ONCE = 200
"""POSTs of all users that are: each takes a descriptor."""


class Webhooks:
    """The webhooks of one server.

    Args:
        router: the topics.
        access: decides rights.
        store: the webhooks in the database.
        metrics: counts.
        tell: tells users' logs.
        networks: where plain HTTP and private addresses are allowed.

    Attributes:
        make_poster: makes what sends, once it is needed; it is called on another thread, as it may
            have to import much.
        shared: what all of them share.
    """

    make_poster: Callable[[], Poster] | None = None
    rests = False  # whether another process sends them

    def __init__(
        self,
        router: Router,
        access: Access,
        store: WebhookStore,
        metrics: Metrics,
        tell: Tell,
        networks: Sequence[Network],
    ) -> None:
        self.networks = networks
        self._access = access
        self._store = store
        self._couriers: dict[str, Courier] = {}
        self._lock = asyncio.Lock()  # held from a look into the database until it is followed
        self._poster: Poster | None = None
        self._making = asyncio.Lock()
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._all_slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._testing = Turnstile()
        self.shared = Shared(
            router=router,
            metrics=metrics,
            may_read=self.may_read,
            slots=self._slot,
            poster=self._get_poster,
            tell=tell,
            note_health=store.note_health,
            pause=self._pause,
            remove=self._remove,
        )

    @property
    def waiting(self) -> int:
        """How many wait to be sent."""
        return sum(courier.waiting for courier in self._couriers.values())

    def may_read(self, user: str, topic: TopicName) -> bool:
        """Whether the webhooks of a user may read a topic now."""
        return self._access.decide(Caller(user, ""), topic).allowed

    def of(self, user: str) -> dict[str, Courier]:
        """The webhooks of a user, by their ID."""
        return {
            name: courier
            for name, courier in self._couriers.items()
            if courier.webhook.user == user
        }

    async def test(self, user: str, start: str) -> tuple[Answer, float]:
        """Send a test, even if the webhook is paused.

        Args:
            user: Whose webhook it is.
            start: All of its ID or its start.

        Returns:
            What came of it, and in how many seconds.

        Raises:
            StoreError: No webhook's ID begins so, or more than one does.
        """
        async with self._testing.turn(user):
            found = [one for name, one in self.of(user).items() if name.startswith(start)]
            only(tuple(courier.webhook for courier in found), start)
            async with self._all_slots:
                return await found[0].test()

    # -- following the database -------------------------------------------------------------------

    async def start(self) -> None:
        """Begin with all webhooks that there are.

        Raises:
            StoreUnavailable: The database cannot be read.
        """
        async with self._lock:
            self._follow(self._couriers, await self._store.list_webhooks())

    async def follow(self, user: str) -> None:
        """Follow a change of a user's webhooks.

        Raises:
            StoreUnavailable: The database cannot be read.
        """
        if self.rests:
            return
        async with self._lock:
            self._follow(self.of(user), await self._store.list_webhooks(user))

    def _follow(self, before: Iterable[str], now: Iterable[Webhook]) -> None:
        wanted = {webhook.id: webhook for webhook in now}
        for name in set(before) - wanted.keys():
            self._couriers.pop(name).stop()
        for name, webhook in wanted.items():
            if courier := self._couriers.get(name):
                courier.follow(webhook)
            else:
                self._couriers[name] = Courier(webhook, self.shared)
                self._couriers[name].start()

    async def close(self, seconds: float = 0.0) -> None:
        """Read no more, give what is due some seconds to be sent, and stop."""
        for courier in self._couriers.values():
            courier.stop_reading()
        if self._couriers and seconds:
            ends = [asyncio.ensure_future(one.finish()) for one in self._couriers.values()]
            _, late = await asyncio.wait(ends, timeout=seconds)
            for end in late:
                end.cancel()
        lost = sum(courier.stop() for courier in self._couriers.values())
        self._couriers.clear()
        if lost:
            log.warning("webhooks did not send", count=lost, reason="the server stops")
        poster, self._poster = self._poster, None
        if poster:
            await poster.close()

    async def _pause(self, webhook: Webhook) -> None:
        try:
            await self._store.set_state(webhook.user, webhook.id, WebhookState.PAUSED)
            await self.follow(webhook.user)
        except StoreError as error:  # it is gone, or its next failure tries again
            log.warning("webhook not paused", webhook=webhook.id, error=error.message)

    async def _remove(self, webhook: Webhook) -> None:
        try:
            await self._store.remove(webhook.user, webhook.id)
            await self.follow(webhook.user)
        except StoreError as error:
            log.warning("webhook not removed", webhook=webhook.id, error=error.message)

    # -- sending ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _slot(self, user: str) -> AsyncIterator[None]:
        own = self._slots.get(user)
        if own is None:
            own = self._slots[user] = asyncio.Semaphore(MAX_PER_USER)
        async with own, self._all_slots:
            yield

    async def _get_poster(self) -> Poster:
        async with self._making:
            if self._poster is None:
                if self.make_poster is None:
                    raise AssertionError
                self._poster = await asyncio.to_thread(self.make_poster)
        return self._poster
