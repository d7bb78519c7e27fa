"""The hub: opens the ports, starts the workers, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop

from pipe import logs
from pipe.data_dir import locked, make_data_dir
from pipe.errors import StartError
from pipe.greeting import greet
from pipe.hub.attendance import PATIENCE_SECONDS, Attendance, lease_end
from pipe.hub.census import Census
from pipe.hub.channel import Lost
from pipe.hub.counts import Counts, name_of
from pipe.hub.crew import LAY_DOWN_SECONDS, Crew
from pipe.hub.figures import Figures
from pipe.hub.homes import Homes, Watched, with_crowd
from pipe.hub.reception import SSH, WEB, Reception
from pipe.limits.listener import Listener, why_not, why_not_web
from pipe.mesh.configuration import read_mesh
from pipe.mesh.directory import WorkerId
from pipe.supervisor import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Coroutine, Mapping
    from typing import Any

    from pipe.hub.channel import Message
    from pipe.hub.crew import Worker
    from pipe.hub.nodes import Nodes
    from pipe.settings import Settings

log = structlog.get_logger()

BEGIN_SECONDS = 2.0
"""How long workers serve on that are replaced and get nobody new, before they drain: who has just
connected logs in and begins."""

LEAD_AGAIN_SECONDS = 1.0
"""When to ask again for somebody to take the duties that one worker has."""


def run(settings: Settings) -> int:
    """Serve until a signal says stop, and return the process's exit status.

    Raises:
        PipeError: the server cannot start.
    """
    logs.configure(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Hub(settings, Supervisor.take_from(os.environ)).run())


class Hub:
    """One server of several processes.

    Attributes:
        counts: what they count together.
    """

    counts: Counts

    def __init__(self, settings: Settings, supervisor: Supervisor | None = None) -> None:
        self._settings = settings
        self._supervisor = supervisor or Supervisor()
        self._mesh = read_mesh(settings)
        self._nodes: Nodes | None = None  # where there are several machines
        self._stop = asyncio.Event()
        self._stopping = False
        self._leader: Worker | None = None  # who has the duties of one
        self._port = 0
        self._web_url = settings.resolved_web_url
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = False
        self._homes = Homes()
        self._watched = Watched()
        self._attendance = Attendance(self._leads, self._attends)

    async def run(self) -> int:
        """Start, serve, drain."""
        settings = self._settings
        before = make_data_dir(settings)
        self._crew = Crew(settings.workers, self, self._mesh.node if self._mesh else "")
        self._figures = Figures(self._crew)
        self.counts = Counts(self._crew)
        self._reception = self.counts.reception = Reception(
            settings, self._find, self._figures.refused, self.counts.count, self.counts.charged
        )
        self._census = Census(settings, self._crew)
        self._links = Path(tempfile.mkdtemp(prefix="pipe-"))  # for this user alone
        async with contextlib.AsyncExitStack() as cleanup:
            cleanup.callback(shutil.rmtree, self._links, ignore_errors=True)
            cleanup.enter_context(locked(settings))
            cleanup.callback(self._figures.close)
            ssh = Listener(partial(self._reception.welcome, SSH))
            web = Listener(partial(self._reception.welcome, WEB))
            cleanup.callback(ssh.close)
            cleanup.callback(web.close)
            try:
                self._port = await ssh.bind(settings.host, settings.port)
            except OSError as error:
                raise why_not(settings.host, settings.port, error) from error
            await self._bind_web(web)
            metrics_port = 0
            if settings.metrics_port:
                server = await self._figures.serve(
                    settings.metrics_host, settings.metrics_port, self._reception.gate
                )
                cleanup.callback(server.close)
                metrics_port = server.port
            await self._join_mesh(cleanup)
            await self._crew.start()
            try:
                ssh.accept()
            except OSError as error:
                raise why_not(settings.host, settings.port, error) from error
            if self._web_url:
                web.accept()
            watch = asyncio.get_running_loop().create_task(self._census.watch())
            cleanup.callback(watch.cancel)
            self._watch_signals()
            beating = asyncio.get_running_loop().create_task(self._supervisor.beat())
            cleanup.callback(beating.cancel)
            greet(settings, self._port, self._web_url, metrics_port, before)
            self._supervisor.ready()

            await self._stop.wait()
            self._supervisor.stopping()
            log.info("stopping", workers=len(self._crew.workers), drain_seconds=settings.drain)
            ssh.close()
            web.close()
            self._reception.close()
            self._crew.stop()
            await self._crew.wait_gone()
            log.info("stopped")
        return 0

    async def _join_mesh(self, cleanup: contextlib.AsyncExitStack) -> None:
        """Become one of several machines, if that is wanted."""
        if self._mesh:
            from pipe.hub.nodes import Nodes  # without other machines the hub needs no database

            self._nodes = await Nodes.open(self._settings, self._mesh, self._crew.epoch, self)
            cleanup.push_async_callback(self._nodes.close)
            self._figures.add(self._nodes.health)

    async def _bind_web(self, web: Listener) -> None:
        """Take the port for HTTP, unless that is not wanted, as one process does."""
        settings = self._settings
        if not settings.web_port:
            return
        try:
            await web.bind(settings.web_host, settings.web_port)
        except OSError as error:
            reason = why_not_web(settings.web_host, settings.web_port, error)
            self._web_url = ""  # it may be another server's
            if "web_port" in settings.model_fields_set:
                raise reason from error
            log.warning("no web pages", reason=reason.message)

    def _watch_signals(self) -> None:
        """Stop on SIGTERM and SIGINT; on SIGHUP renew the workers, or stop if the terminal went."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            in_terminal = sys.stderr.isatty()
            loop.add_signal_handler(
                signal.SIGHUP,
                self._signalled if in_terminal else lambda: self._do(self._renew()),
            )

    def _signalled(self) -> None:
        if self._stopping:
            self._crew.stop(now=True)
        self._stopping = True
        self._stop.set()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self) -> None:
        """Start new workers with the program as it is installed now, then drain the old ones."""
        if self._renewing or self._stopping:
            log.warning("SIGHUP changes nothing", reason="workers are being replaced already")
            return
        self._renewing = True
        log.info("replacing workers", workers=len(self._crew.workers))
        self._supervisor.reloading()
        try:
            old = await self._crew.start()
        except StartError as error:
            log.error("workers not replaced", reason=error.message)
            return
        finally:
            self._renewing = False
            if not self._stopping:
                self._supervisor.ready()
        for worker in old:
            worker.leaving = True
        self.tell_of_peers()
        leader = self._leader
        if leader in old:
            if self._nodes:
                await self._nodes.lay_down()
            else:
                with contextlib.suppress(Lost):
                    await leader.channel.ask({"type": "lay down"}, patience=LAY_DOWN_SECONDS)
            if self._leader is leader:  # if it has died meanwhile, another one has them already
                self._leader = None
        self._elect()
        await asyncio.sleep(BEGIN_SECONDS)
        for worker in old:
            if not worker.draining:  # since an earlier SIGHUP, or as all stop
                self._crew.dismiss(worker)

    # -- the workers ------------------------------------------------------------------------------

    def first_message(self, worker: Worker) -> Message:
        """What a worker has to know before it can begin."""
        settings = self._settings
        if self._leader is None and not self._crew.serving:
            self._leader = worker
        mesh = self._nodes.first_message(worker.ident.number) if self._nodes else None
        return {
            "settings": settings.model_dump(mode="json", exclude_unset=True),
            "ident": worker.ident,
            "port": self._port,
            "web": bool(self._web_url),
            "leads": self._leader is worker and self._nodes is None,
            "until": lease_end(),
            "link": str(self._link_of(worker)),
            "mesh": mesh,
        }

    def _link_of(self, worker: Worker) -> Path:
        return self._links / f"{worker.ident.number}.{worker.ident.epoch}"

    def came(self, worker: Worker) -> None:
        """A worker is ready."""
        self.counts.came(worker)
        self.tell_of_peers()
        if self._nodes:
            self._nodes.came(worker)
        self._reception.place_early()
        self._elect()
        self._do(self._attendance.watch(worker))

    def went(self, worker: Worker) -> None:
        """A worker is gone."""
        self._reception.went(worker)
        self._figures.went(worker)
        self.counts.went(worker)
        if worker.is_ready:
            self._link_of(worker).unlink(missing_ok=True)
            self.tell_of_peers()
            self._homes.died(worker.ident)
            if self._nodes:
                self._nodes.went(worker.ident)
            for other in self._crew.workers.values():
                if other.is_ready:
                    self._do(self._settle(other, worker.ident))
        if self._leader is worker:
            self._leader = None
            self._elect()

    def received(self, worker: Worker, message: Message, descriptor: socket.socket | None) -> None:
        """A worker says something."""
        reception, channel = self._reception, worker.channel
        match message["type"]:
            case "move":
                self._move(worker, message, descriptor)
            case "login":
                channel.answer(message, reception.admit(worker, message["guest"], message["user"]))
            case "left":
                reception.left(worker, message["guest"], message["offence"])
            case "claim":
                self._do(self._answer_claim(worker, message))
            case "no claim":
                reception.give_back_claim(message["address"])
            case "charge":
                reception.charge(worker, message["address"], message["offence"])
            case "counts":
                self.counts.report(name_of(worker), message["counts"])
            case "last figures":
                self._figures.take(worker, message["families"])
            case "enter" | "find" | "withdraw" | "closed" if self._nodes:
                self._nodes.take(worker, message)
            case "enter":
                home = self._homes.enter(
                    message["topic"], worker.ident, self._hosts_for(message["topic"])
                )
                channel.answer(message, with_crowd(home, worker.ident, self._census.busy))
            case "watch" if self._nodes:
                self._nodes.watch(worker.ident, message["topic"], watched=message["watched"])
            case "watch":
                self._watched.note(worker.ident, message["topic"], message["watched"])
            case "find":
                channel.answer(message, self._homes.find(message["topic"]))
            case "withdraw":
                self._homes.withdraw(message["topic"], WorkerId(*message["home"]), worker.ident)
            case "closed":
                joins = {WorkerId(*asker): count for asker, count in message["joins"]}
                self._homes.closed(message["topic"], worker.ident, joins)
            case other:
                log.error("unknown message", type=other, worker=worker.ident.number)

    def _move(self, worker: Worker, message: Message, connection: socket.socket | None) -> None:
        """Hand a connection on to where its topic is at home, or back if it cannot go there."""
        home = WorkerId(*message["home"])
        if connection is None:
            log.error("connection lost on its way to another worker", reason="no descriptor left")
            self._reception.left(worker, message["guest"], None)
            self._come_not(worker, message["topic"], home)
            return
        to = self._reception.move(worker, message["guest"], self._crew.workers.get(home))
        returned = to is worker
        if returned:
            self._come_not(worker, message["topic"], home)
        news = {"type": "moved", "asker": worker.ident, "returned": returned}
        to.channel.send({**message, **news}, connection)

    def _come_not(self, asker: Worker, topic: str, home: WorkerId) -> None:
        """A client that was to move will not join at its topic's home."""
        if self._nodes:
            self._nodes.returned(topic, home, asker.ident)
        else:
            self._homes.withdraw(topic, home, asker.ident)

    def _hosts_for(self, topic: str) -> dict[WorkerId, float]:
        """The workers in which a topic may be at home, and how busy each is."""
        if self._leader and topic in self._watched:
            return {self._leader.ident: 0.0}
        return self._census.busy

    async def _settle(self, home: Worker, dead: WorkerId) -> None:
        """Tell a worker that another one is dead, and forget its joins that never came there."""
        with contextlib.suppress(Lost):
            arrived = await home.channel.ask({"type": "died", "worker": dead})
            self._homes.settle(home.ident, dead, arrived)

    @property
    def busy(self) -> Mapping[WorkerId, float]:
        """The workers that may get a topic, and how much of a core each uses."""
        return self._census.busy

    @property
    def crew(self) -> Crew:
        """All workers."""
        return self._crew

    @property
    def workers(self) -> Collection[Worker]:
        """Those that are ready."""
        return [one for one in self._crew.workers.values() if one.is_ready]

    @property
    def leader(self) -> Worker | None:
        """Who has what one worker has of this machine, if it is ready."""
        return self._leader if self._leader and self._leader.is_ready else None

    def tell_of_peers(self) -> None:
        """Tell all workers who the others are, and who has the duties of one."""
        ready = self.workers
        peers = [[one.ident, str(self._link_of(one)), one.leaving, one.build] for one in ready]
        first = self._leader.ident if self._leader else None
        if self._nodes:
            peers += self._nodes.peers
            first = self._nodes.first
        for worker in ready:
            worker.channel.send({"type": "peers", "peers": peers, "first": first})

    async def _answer_claim(self, worker: Worker, message: Message) -> None:
        worker.channel.answer(message, await self._reception.answer_claim(message))

    def _find(self, kind: str) -> list[Worker]:
        """Who can be given connections; HTTP is for whoever has the other duties."""
        serving = self._crew.serving
        newest = [one for one in serving if not one.leaving]
        if kind == WEB:
            return [one for one in newest if one is self._leader]
        return [one for one in newest if not one.still] or newest

    def _elect(self) -> None:
        """See to it that one worker has the duties of one."""
        candidates = [one for one in self._crew.serving if not one.still]
        if self._leader is None and candidates and not self._stopping:
            self._leader = candidates[0]
            self._do(self._appoint(candidates[0]))

    def _leads(self, worker: Worker) -> bool:
        """Whether a worker has the duties of one, as far as that is certain."""
        return self._nodes.leads(worker.ident) if self._nodes else worker is self._leader

    def stands_still(self, worker: Worker) -> None:
        """A worker does not do what it was told."""
        self._attendance.stands_still(worker)

    def _attends(self, worker: Worker) -> None:
        """A worker stands still, and has no duties any more when it goes on, or it does so."""
        if worker.still and worker is self._leader:
            self._leader = None
            if self._nodes:
                self._nodes.seek()
            else:
                self._do(self._tell_to_lay_down(worker))
        if self._stopping:
            self._crew.stop()  # it shall not wait for one that stands still
        self._elect()

    async def _tell_to_lay_down(self, worker: Worker) -> None:
        with contextlib.suppress(Lost):
            await worker.channel.ask({"type": "lay down"})

    async def _appoint(self, worker: Worker) -> None:
        if self._nodes:
            self._nodes.seek()
            self._reception.place_early()
            return
        order = {"type": "lead", "until": lease_end()}
        try:
            reason = await worker.channel.ask(order, patience=PATIENCE_SECONDS)
        except Lost:
            self.stands_still(worker)
            return
        if reason:
            log.error("duties not taken", worker=worker.ident.number, reason=reason)
            await asyncio.sleep(LEAD_AGAIN_SECONDS)
            if self._leader is worker:
                self._leader = None
                self._elect()
            return
        log.info("duties taken", worker=worker.ident.number)
        self._watched.keep(self._crew.workers)
        self.tell_of_peers()
        self._reception.place_early()
