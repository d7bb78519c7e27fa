"""This machine's hub among those of the other machines.

Hubs tell each other who is there, and PostgreSQL where topics are at home; links are the workers'
own (`pipe.mesh.ways`).  What of all machines one worker does alone, as webhooks and monitors, is a
row in the same table: so it is never two who can both reach the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pipe import __version__
from pipe.errors import StoreUnavailable
from pipe.hub.attendance import PATIENCE_SECONDS, lease_end
from pipe.hub.channel import Lost
from pipe.hub.contact import Contact
from pipe.hub.crew import LAY_DOWN_SECONDS
from pipe.hub.exchange import Exchange
from pipe.hub.health import Health
from pipe.hub.homes import choose, with_crowd
from pipe.language.names import escape
from pipe.language.places import Place
from pipe.mesh.certificates import ends_of
from pipe.mesh.directory import WorkerId
from pipe.mesh.homes import SharedHomes
from pipe.mesh.hubs import Hubs
from pipe.mesh.identity import PROTOCOL, Identity
from pipe.mesh.ledger import About
from pipe.ssh.server import load_host_key
from pipe.store.database import Database
from pipe.store.homes import HomeRow, HomeStore

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Mapping
    from typing import Self

    from pipe.hub.channel import Message
    from pipe.hub.counts import Counts
    from pipe.hub.crew import Crew, Worker
    from pipe.mesh.configuration import MeshConfiguration
    from pipe.settings import Settings

log = structlog.get_logger()

TEND_SECONDS = 2.0
"""How often the table hears that this machine is there, and lost calls are made up for."""

LOOK_SECONDS = 1.0
"""How long workers have to say which topics they have."""

STOPPED_SECONDS = 5.0
"""A hub that has stood still for so long does not know who is first, until it has asked.  Another
machine may have its duties after `pipe.mesh.homes.BURIED_SECONDS`."""

DUTIES = "/duties"
"""The row of who has the duties of one; no topic has such a name."""


class Owner(Protocol):
    """The hub, as this sees it."""

    @property
    def busy(self) -> Mapping[WorkerId, float]:
        """The workers that may get a topic, and how much of a core each uses."""

    @property
    def crew(self) -> Crew:
        """All workers."""

    @property
    def counts(self) -> Counts:
        """What they count together."""

    @property
    def workers(self) -> Collection[Worker]:
        """Those that are ready."""

    @property
    def leader(self) -> Worker | None:
        """Who has the duties of one if this machine has them."""

    def stands_still(self, worker: Worker) -> None:
        """A worker does not do what it was told."""

    def tell_of_peers(self) -> None:
        """Other machines' workers, or who has the duties, are not what they were."""


class Nodes:
    """The other machines.  Make it with `Nodes.open`.

    Attributes:
        first: who has the duties of one, of all machines.
        identity: what all machines have in common.
        health: how this machine is.
    """

    def __init__(
        self,
        configuration: MeshConfiguration,
        identity: Identity,
        database: Contact,
        hubs: Hubs,
        owner: Owner,
    ) -> None:
        self.first: WorkerId | None = None
        self.identity = identity
        self._configuration = configuration
        self._node = configuration.node
        self._database = database
        self._table = HomeStore(database)
        self._hubs = hubs
        self._owner = owner
        ends = ends_of(configuration.files)
        self._exchange = Exchange(
            hubs.me,
            hubs,
            owner.counts,
            owner.counts.reception,
            lambda: About(__version__, ends["node"], len(owner.crew.serving)),
        )
        self.health = Health(self._node, owner.crew, self._exchange, database, ends)
        self._homes = SharedHomes(self._node, self._table, time.monotonic, self._usurped)
        self._seeking = asyncio.Lock()
        self._led: WorkerId | None = None  # who was told to take the duties
        self._confirmed = False  # that it is first
        self._asked = time.monotonic()  # when that was last wanted
        self._watched: dict[str, WorkerId] = {}  # by the worker that has the duties
        self._held: dict[str, WorkerId] = {}  # those of these that are at home there
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._nodes: frozenset[str] = frozenset()

    @classmethod
    async def open(
        cls, settings: Settings, configuration: MeshConfiguration, epoch: int, owner: Owner
    ) -> Self:
        """Become one of the machines.

        Args:
            settings: of this one.
            configuration: what they say about the mesh.
            epoch: before those of all workers.
            owner: the hub.

        Raises:
            PipeError: this machine and another one cannot be one service, or it cannot begin.
        """
        me = WorkerId(configuration.node, 0, epoch)
        host_key = load_host_key(settings.host_key_path).get_fingerprint()
        async with contextlib.AsyncExitStack() as cleanup:
            database = await Database.open(settings.resolved_database_url)
            cleanup.push_async_callback(database.close)
            contact = Contact(database)
            table = HomeStore(contact)
            identity = Identity(PROTOCOL, await table.database_id(), host_key)
            hubs = await Hubs.open(
                me, identity, configuration.files, configuration.listen, configuration.join
            )
            cleanup.push_async_callback(hubs.close)
            await hubs.check()
            await table.renew(me.node)
            await table.bury_earlier(me.node, epoch)
            nodes = cls(configuration, identity, contact, hubs, owner)
            cleanup.callback(nodes._exchange.close)
            hubs.listen(nodes._exchange.heard)
            owner.counts.exchange = nodes._exchange
            await nodes.health.listen(settings.data_dir)
            hubs.appear()
            hubs.members.follow(nodes._changed, nodes._gone)
            nodes._changed()
            nodes._do(nodes._tend())
            cleanup.pop_all()
        return nodes

    async def close(self) -> None:
        """Leave; the workers are gone."""
        self._closing = True
        self.health.close()
        self._exchange.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):
            await self._table.bury_earlier(self._node, time.time_ns())  # beyond any epoch
        await self._hubs.close()
        await self._database.close()

    # -- the hub's workers ------------------------------------------------------------------------

    def first_message(self, number: int) -> Message:
        """What a worker has to know of the mesh before it can begin."""
        return {"identity": self.identity, "place": self._place(number)}

    @property
    def peers(self) -> list[list[Any]]:
        """The workers of other machines, as workers are told of them."""
        places = self._hubs.members.places.items()
        return [[worker, place, False] for worker, place in places if place and self._far(worker)]

    def came(self, worker: Worker) -> None:
        """A worker of this machine is ready."""
        self._hubs.appear(worker.ident, self._place(worker.ident.number))
        self.seek()

    def went(self, worker: WorkerId) -> None:
        """A worker of this machine is gone."""
        self._hubs.vanish(worker)
        self._do(self._bury(worker))

    def take(self, worker: Worker, message: Message) -> None:
        """Do what a worker says about a topic."""
        self._do(self._take(worker, message))

    def watch(self, worker: WorkerId, topic: str, *, watched: bool) -> None:
        """A worker needs a topic for its duties, or no longer does.

        Such a topic gets its home there, as if somebody were always about to join it.  One that is
        at home elsewhere gets it once it has been closed there.
        """
        if watched:
            self._watched[topic] = worker
            before = self._held.get(topic)
            if before and before != worker:  # it had the duties before
                del self._held[topic]
                self._do(self._homes.withdraw(topic, before, before))
            self._do(self._hold(topic))
        elif self._watched.get(topic) == worker:
            del self._watched[topic]
            if self._held.pop(topic, None):
                self._do(self._homes.withdraw(topic, worker, worker))

    def _watch_no_more(self, worker: WorkerId) -> None:
        """Let go of the topics of a worker that does not do so itself."""
        for topic in [topic for topic, one in self._watched.items() if one == worker]:
            self.watch(worker, topic, watched=False)

    async def _hold(self, topic: str) -> None:
        worker = self._watched.get(topic)
        if worker is None or topic in self._held:
            return
        self._held[topic] = worker  # so that nobody else begins
        held = False
        try:
            if await self._homes.find(topic) in {None, worker}:
                home = (await self._homes.enter(topic, worker, worker)).worker
                held = home == worker and self._held.get(topic) == worker
                if not held:
                    await self._homes.withdraw(topic, home, worker)
        except StoreUnavailable:
            return
        finally:
            if not held and self._held.get(topic) == worker:
                del self._held[topic]
                self._have_looked(topic, worker)

    def _have_looked(self, topic: str, watcher: WorkerId) -> None:
        """Tell a worker that a topic which it watches may be at home elsewhere."""
        for worker in self._owner.workers:
            if worker.ident == watcher:
                worker.channel.send({"type": "look", "topic": topic})

    def returned(self, topic: str, home: WorkerId, asker: WorkerId) -> None:
        """A client that should have moved has not."""
        self._do(self._homes.withdraw(topic, home, asker))

    async def _take(self, worker: Worker, message: Message) -> None:
        topic, homes = message["topic"], self._homes
        try:
            match message["type"]:
                case "enter":
                    choice = choose(worker.ident, self._owner.busy)
                    home = await homes.enter(topic, worker.ident, choice)
                    if worker.ended.is_set():
                        await homes.withdraw(topic, home.worker, worker.ident)
                    worker.channel.answer(message, with_crowd(home, worker.ident, self._owner.busy))
                case "find":
                    worker.channel.answer(message, await homes.find(topic))
                case "withdraw":
                    await homes.withdraw(topic, WorkerId(*message["home"]), worker.ident)
                case _:  # it is closed
                    joins = {WorkerId(*asker): count for asker, count in message["joins"]}
                    await homes.closed(topic, worker.ident, joins)
        except StoreUnavailable as error:
            worker.channel.answer(message, error.message)

    async def _bury(self, worker: WorkerId) -> None:
        for topics in (self._watched, self._held):
            for topic in [topic for topic, one in topics.items() if one == worker]:
                del topics[topic]
        await self._homes.died(worker)
        await self._seek()

    def _place(self, number: int) -> Place:
        host, port = self._configuration.listen
        return Place(host, port + number)

    def _usurped(self, topic: str, home: WorkerId) -> None:
        self._held.pop(topic, None)
        for worker in self._owner.workers:
            if worker.ident == home:
                worker.channel.send({"type": "usurped", "topic": topic})
                log.warning("topic lost", topic=topic, reason="another machine has it by now")

    # -- the other machines -----------------------------------------------------------------------

    def _far(self, worker: WorkerId) -> bool:
        return worker.node != self._node

    def _changed(self) -> None:
        others = self._hubs.members.others
        for worker in others:
            if self._far(worker):
                self._homes.appeared(worker)
                if worker.number == 0:
                    self._exchange.appeared(worker)
        nodes = frozenset(escape(one.node) for one in others if self._far(one) and not one.number)
        for node in nodes - self._nodes:
            log.info("node is there", node=node)
        for node in self._nodes - nodes:
            log.warning("node is gone", node=node)
        self._nodes = nodes
        self._owner.tell_of_peers()

    def _gone(self, worker: WorkerId) -> None:
        """Nobody sees a worker any more; links end by themselves, as they may still be good."""
        if self._far(worker):
            self._do(self._homes.died(worker))
            self._exchange.vanished(worker)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            try:
                await self._tend_once()
            except Exception:  # it has to go on, or others bury this machine
                log.exception("the mesh has failed")

    async def _tend_once(self) -> None:
        opened = await self._look()
        await self._homes.tend(lambda topic, home: _is_open(opened, topic, home))
        if not self._seeking.locked():
            self.seek()  # which may wait for a worker that stands still
        for topic in self._watched.keys() - self._held.keys():
            await self._hold(topic)

    async def _look(self) -> dict[WorkerId, frozenset[str] | None]:
        """Ask all workers which topics they have; None if one does not say."""

        async def ask(worker: Worker) -> frozenset[str] | None:
            with contextlib.suppress(Lost, TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    return frozenset(await worker.channel.ask({"type": "topics"}))
            return None

        workers = list(self._owner.workers)
        answers = await asyncio.gather(*map(ask, workers))
        return {worker.ident: answer for worker, answer in zip(workers, answers, strict=True)}

    # -- the duties of one ------------------------------------------------------------------------

    def seek(self) -> None:
        """See to it that somebody has the duties of one."""
        self._do(self._seek())

    def leads(self, worker: WorkerId) -> bool:
        """Whether a worker of this machine is first of all machines, as far as that is certain.

        This is asked about every second.
        """
        now = time.monotonic()
        if now - self._asked > STOPPED_SECONDS:
            self._confirmed = False
        self._asked = now
        return worker == self._led and self._confirmed and self._homes.trusted

    async def lay_down(self) -> None:
        """Have the worker that has them, if it is here, leave the duties to another one."""
        async with self._seeking:
            if self._led:
                led = self._led
                await self._tell_to_lay_down()
                with contextlib.suppress(StoreUnavailable):
                    await self._release(led)

    async def _seek(self) -> None:
        async with self._seeking:
            leader = self._owner.leader
            began = time.monotonic()
            with contextlib.suppress(StoreUnavailable):
                first = await self._find_first(leader)
                self._confirmed = time.monotonic() - began < STOPPED_SECONDS
                if self._led and self._led != first:
                    await self._tell_to_lay_down()
                if leader and leader.ident == first and self._led != first:
                    await self._tell_to_lead(leader)
                if self.first != first:
                    self.first = first
                    self._owner.tell_of_peers()

    async def _find_first(self, leader: Worker | None) -> WorkerId | None:
        row = await self._table.find(DUTIES)
        mine = leader.ident if leader else None
        if row and row.node == self._node and _worker(row) != mine:  # it died or is replaced
            await self._release(_worker(row))
            row = None
        if row is None and mine:
            row = await self._table.claim(DUTIES, HomeRow(*mine))
        return _worker(row) if row else None

    async def _release(self, worker: WorkerId) -> None:
        joins: int | None = 0
        while joins is not None:
            joins = await self._table.release(DUTIES, HomeRow(*worker, joins))

    async def _tell_to_lead(self, leader: Worker) -> None:
        self._led = leader.ident
        order = {"type": "lead", "until": lease_end()}
        try:
            reason = await leader.channel.ask(order, patience=PATIENCE_SECONDS)
        except Lost:
            self._owner.stands_still(leader)  # unless it has ended
            await self._tell_to_lay_down()
            await self._release(leader.ident)
            return
        if reason:
            log.error("duties not taken", worker=leader.ident.number, reason=reason)
            self._led = None
            await self._release(leader.ident)
        else:
            log.info("duties taken", worker=leader.ident.number)

    async def _tell_to_lay_down(self) -> None:
        led, self._led = self._led, None
        for worker in self._owner.workers:
            if worker.ident == led:
                if worker.still:
                    self._watch_no_more(led)
                patience = 0.0 if worker.still else LAY_DOWN_SECONDS
                with contextlib.suppress(Lost):
                    await worker.channel.ask({"type": "lay down"}, patience=patience)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        if self._closing:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the mesh has failed", exc_info=error)


def _is_open(opened: Mapping[WorkerId, frozenset[str] | None], topic: str, home: WorkerId) -> bool:
    """Whether a topic exists; one of a worker that does not say is taken to."""
    if home not in opened:
        return False
    names = opened[home]
    return names is None or topic in names


def _worker(row: HomeRow) -> WorkerId:
    return WorkerId(row.node, row.number, row.epoch)
