"""A worker's process: a server that opens no port, and is given its connections by the hub."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from pipe import logs
from pipe.app import App, make_web
from pipe.errors import Outcome, PipeError
from pipe.hub.channel import Channel, receive_first
from pipe.hub.far import FarClaims, FarGate
from pipe.hub.figures import families_of
from pipe.hub.mates import HubDirectory, HubPeers
from pipe.hub.moves import Moves
from pipe.hub.sums import TELL_SECONDS
from pipe.language.names import parse_topic
from pipe.limits.memory import resident_bytes
from pipe.limits.penalties import Offence
from pipe.limits.quotas import most_of
from pipe.limits.shares import RATE, SharedQuotas, SharedRates
from pipe.mesh.configuration import read_mesh
from pipe.mesh.directory import WorkerId
from pipe.mesh.greeting import read_identity
from pipe.mesh.mesh import Mesh
from pipe.mesh.peers import Peer
from pipe.mesh.questions import answer_question
from pipe.mesh.unix import Sockets
from pipe.settings import Settings
from pipe.ssh.handover import BUILD

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pipe.hub.channel import Message
    from pipe.limits.gate import Visit
    from pipe.mesh.link import Link
    from pipe.mesh.mesh import Reach
    from pipe.mesh.wire import Wire
    from pipe.mesh.wires import TlsWires
    from pipe.service import Service
    from pipe.ssh.server import SSHServer
    from pipe.web.server import WebServer

log = structlog.get_logger()


def run(descriptor: int) -> int:
    """Be a worker until the hub says stop, and return the exit status.

    Args:
        descriptor: the socket to the hub.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the hub has it too, and tells what to do
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)
    first = receive_first(end)
    if first is None:
        return Outcome.UNAVAILABLE.status
    settings = Settings.model_validate(first["settings"])
    logs.configure(settings)
    node, number, _ = first["ident"]
    structlog.contextvars.bind_contextvars(worker=number, **({"node": node} if node else {}))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(WorkerApp(settings, first, end).run())


class WorkerApp(App):
    """A server whose ports the hub has.

    Args:
        settings: as the hub has them.
        first: what the hub says at the start.
        end: the socket to it.
    """

    def __init__(self, settings: Settings, first: Message, end: socket.socket) -> None:
        super().__init__(settings)
        self._first = first
        self._end = end
        ident = WorkerId(*first["ident"])
        self.peers = HubPeers(Peer(ident, Path(first["link"]), build=BUILD.hex()))
        self.directory: HubDirectory
        self._counts: dict[str, int] = {}  # what the hub has not been told
        self._leads_until = 0.0  # has the duties of one, by the monotonic clock
        self._duties = asyncio.Lock()  # one order after the other is followed
        self._resident = 0  # bytes of all processes, as the hub has told
        self._service: Service
        self._mesh: Mesh
        self._moves: Moves
        self._server: SSHServer
        self._web: WebServer | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Start, serve, drain."""
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._end, self._receive, self._orphaned)
        self.directory = HubDirectory(self._channel)
        try:
            status = await super().run()
        except PipeError as error:
            self._channel.send(
                {"type": "failed", "text": error.message, "outcome": error.outcome.name}
            )
            await self._channel.wait_sent()
            return error.outcome.status
        families = families_of(self._service.metrics.registry)
        self._channel.send({"type": "last figures", "families": families})
        await self._channel.wait_sent()
        return status

    def _orphaned(self) -> None:
        """The hub is gone, so nobody is let in, counted or told to stop: end at once."""
        link = Path(self._first["link"])
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
            link.parent.rmdir()  # the last one can
        os._exit(Outcome.UNAVAILABLE.status)

    # -- what one process does by itself ----------------------------------------------------------

    def prepare(self, cleanup: contextlib.AsyncExitStack) -> None:
        """Do nothing: the hub has made the data folder, and keeps it."""

    def share(self, service: Service) -> None:
        """Have the hub count what all workers count together."""
        self._service = service
        self._quotas = SharedQuotas(most_of(self._settings), self._count)
        self._rates = SharedRates(self._settings.max_rate_per_user, self._count)
        service.quotas, service.rates = self._quotas, self._rates
        service.gate = self._gate = FarGate(self._settings, self._channel)
        service.claims = FarClaims(self._channel)
        service.monitors.may_act = self._leads
        service.port = self._first["port"]

    async def begin(self, service: Service) -> None:
        """Take the duties of one, if this worker has them."""
        service.webhooks.rests = not self._first["leads"]
        if self._first["leads"]:
            self._leads_until = self._first.get("until", math.inf)  # a hub of before tells none
            await self.take_duties(service)

    async def open(
        self,
        service: Service,
        server: SSHServer,
        cleanup: contextlib.AsyncExitStack,
    ) -> tuple[WebServer | None, int]:
        """Open no port but the one for other workers."""
        server.prepare()
        self._server = server
        await self._join(service, server, cleanup)
        if self._first["web"]:
            self._web = make_web(service)
            await self._web.prepare()
        else:
            service.web_url = ""
        service.metrics.add(service.snapshot)
        service.metrics.registry.register(self._mesh.figures)
        return self._web, 0

    async def _join(
        self, service: Service, server: SSHServer, cleanup: contextlib.AsyncExitStack
    ) -> None:
        """Be one of several in which topics are at home."""
        self._moves = Moves(service, server, self._gate, self._channel, self.peers)
        sockets = Sockets(self.peers, service.turns.use)
        reach, wires = self._reach(sockets)
        answer = partial(answer_question, service)
        self._mesh = Mesh(service, self.peers, self.directory, reach, answer, self._moves.carry)
        self._moves.mesh = self._mesh
        links = await sockets.listen(self._mesh.accept)
        cleanup.callback(self._mesh.close)
        cleanup.callback(links.close)
        if wires:
            await wires.listen(*self._first["mesh"]["place"])
            self._mesh.figures.refused = lambda: wires.refused
            cleanup.push_async_callback(wires.close)
        service.elsewhere = self._mesh

    def _reach(self, sockets: Sockets) -> tuple[Reach, TlsWires | None]:
        """How other workers are reached, and what takes links from other machines, if any are."""
        configuration, mesh = read_mesh(self._settings), self._first["mesh"]
        if configuration is None:
            return sockets, None
        from pipe.mesh.certificates import contexts
        from pipe.mesh.ways import Ways
        from pipe.mesh.wires import TlsWires

        def accept(sender: WorkerId, wire: Wire) -> Link:
            link = self._mesh.accept(sender)
            link.attach(wire)
            return link

        wires = TlsWires(
            self.peers.own.worker,
            read_identity(mesh["identity"]),
            contexts(configuration.files),
            accept,
            self._service.turns.use,
        )
        return Ways(self.peers, sockets, wires), wires

    def resident(self) -> int:
        """The bytes of all processes where they are near the alarm, else of this one."""
        return max(resident_bytes(), self._resident)

    def watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: signals are for the hub."""

    def greet(self, service: Service, metrics_port: int) -> None:  # noqa: ARG002
        """Tell the hub that this worker is ready."""
        self._channel.send({"type": "ready", "build": BUILD.hex()})

    # -- what the hub says ------------------------------------------------------------------------

    def _receive(self, message: Message, descriptor: socket.socket | None) -> None:
        match message["type"]:
            case "ssh" if descriptor:
                visit = self._visit(message)
                self._do(self._serve(descriptor, visit))
            case "moved":
                self._do(self._moves.take(message, descriptor))
            case "web" if descriptor and self._web:
                descriptor.setblocking(False)
                self._web.parts.door.receive(descriptor, self._visit(message))
            case "ssh" | "web":  # there was no descriptor left for it
                log.error("connection lost on its way to this worker")
                self._visit(message).leave(None, self._loop.time())
            case "cut":
                self._gate.cut(message["guest"])
            case "figures":
                figures = families_of(self._service.metrics.registry)
                self._channel.answer(message, figures)
            case "others":
                self._hear_of_others(message["counts"])
            case "offences":
                self._hear_of_offences(message["charges"])
            case "penalties":
                for source, seconds, enforced in message["penalties"]:
                    self._gate.merge_penalty(source, seconds, enforced, self._loop.time())
            case "status":
                self._channel.answer(message, self._mesh.figures.list_links())
            case "memory":
                self._resident = message["resident"]
            case "peers":
                self.peers.take(message["peers"], message["first"])
            case "died":
                self._do(self._bury(message))
            case "topics":
                self._channel.answer(message, self._topics())
            case "look":
                self._mesh.watches.look(parse_topic(message["topic"], caller=""))
            case "usurped":
                self._end_topic(message["topic"])
            case "stop":
                self.stop()
            case "attend":
                self._leads_until = message.get("until", self._leads_until)
                self._channel.answer(message, True)
            case "lead":
                self._do(self._lead(message))
            case "lay down":
                self._do(self._lay_down(message))
            case other:
                log.error("unknown message", type=other)
                if descriptor:
                    descriptor.close()

    def _count(self, key: str, count: int) -> None:
        """Tell the hub soon."""
        if not self._counts:
            self._loop.call_later(TELL_SECONDS, self._tell)
        self._counts[key] = count

    def _tell(self) -> None:
        counts, self._counts = self._counts, {}
        self._channel.send({"type": "counts", "counts": counts})

    def _hear_of_others(self, counts: dict[str, int]) -> None:
        now = self._loop.time()
        for key, count in counts.items():
            if key.startswith(f"{RATE}/"):
                self._rates.tell_others(key, count, now)
            else:
                self._quotas.tell_others(key, count)

    def _hear_of_offences(self, charges: list[tuple[str, str, int]]) -> None:
        """Addresses have offended at other workers, or on other machines."""
        for source, offence, times in charges:
            for _ in range(times):
                self._gate.hear_of(source, Offence[offence], self._loop.time())

    async def _bury(self, message: Message) -> None:
        """Another worker is dead: tell which of its joins have come."""
        dead = WorkerId(*message["worker"])
        await self.peers.bury(dead)
        self._channel.answer(message, self.directory.arrived_from(dead))

    def _end_topic(self, name: str) -> None:
        """Another machine has a topic that was at home here: it has one home only."""
        text = "the stream broke: this machine was cut off from the others for too long"
        with self._service.router.at_once():
            for session in list(self._service.sessions):
                member = session.member
                if member and member.topic and str(member.topic.name) == name:
                    session.cut(Outcome.BROKEN, text)

    def _topics(self) -> list[str]:
        """What has to stay at home here."""
        names = {*self._service.router.names(), *self._service.holds.receipts}
        return list(map(str, names))

    def _visit(self, message: Message) -> Visit:
        return self._gate.receive(message["guest"], message["source"], trusted=message["trusted"])

    async def _serve(self, connection: socket.socket, visit: Visit) -> None:
        connection.setblocking(False)
        protocol = self._server.receive(visit)
        evicted: list[bool] = []  # before it can be told
        cut, visit.cut = visit.cut, lambda: evicted.append(True)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
            visit.cut = cut
            if evicted:
                cut()
        except OSError as error:  # it is gone already
            log.debug("connection without a request", error=str(error))
            connection.close()
            visit.leave(None, self._loop.time())

    def _leads(self) -> bool:
        """Whether the duties of one are this worker's, and not another's by now."""
        return time.monotonic() < self._leads_until

    async def _lead(self, message: Message) -> None:
        """Take the duties of one; the hub hears why not."""
        async with self._duties:
            self._leads_until = message.get("until", math.inf)
            if not self._leads():
                self._channel.answer(message, "it was told too long ago")
                return
            self._service.webhooks.rests = False
            try:
                await self.take_duties(self._service)
            except PipeError as error:
                await self._rest()  # some are taken
                self._channel.answer(message, error.message)
            else:
                self._channel.answer(message, "")

    async def _lay_down(self, message: Message) -> None:
        async with self._duties:
            await self._rest()
        self._channel.answer(message, True)

    async def _rest(self) -> None:
        """Have no duties; what is known of them is stored unless another one has them."""
        self._service.webhooks.rests = True
        await self.lay_down_duties(self._service)
        self._leads_until = 0.0

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
