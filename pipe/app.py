"""The whole server: puts the parts together, runs, and stops in order.

A stop has three steps.  The listening socket closes and every session is told.  Moving streams go
on until they end, for at most the ``drain`` time; a session whose topic stands still ends at once
if it only waits, and otherwise after `STILL_SECONDS` without a byte.  Whatever is left is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import structlog
import uvloop

from pipe import logs
from pipe.data_dir import locked, make_data_dir
from pipe.errors import Outcome, StartError
from pipe.events.listener import Listener
from pipe.greeting import greet
from pipe.limits.allocator import keep_large_blocks
from pipe.limits.bounds import parse_networks
from pipe.limits.memory import resident_bytes
from pipe.limits.memory_watch import watch_memory
from pipe.service import Service
from pipe.session.draining import Draining
from pipe.ssh.server import SSHServer
from pipe.store import Store
from pipe.store.web_key import load_web_key
from pipe.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipe.events.webhooks.posting import Poster
    from pipe.rights.live import LiveSession
    from pipe.settings import Settings
    from pipe.web.server import WebServer

log = structlog.get_logger()

STILL_SECONDS = 3.0
"""While draining, a stream that moves no byte for this long stands still."""

DRAIN_LOOK_SECONDS = 0.1
"""How often a drain checks whether everybody has gone; a stop is at most this late."""

ELSEWHERE_LOOK_SECONDS = 0.5
"""How long it waits until it asks other workers again how the streams move that are there."""

FULL_COLLECTION = 2
"""Python's number for it: the oldest generation, with all younger ones."""

GARBAGE_LOOK_SECONDS = 600.0
FEW_SESSIONS = 200
"""Collecting garbage with this many sessions takes some 10 ms more than with none."""

GOODBYE_SECONDS = 2.0
"""How long clients may take to read their exit status before their connections are dropped, and
webhooks to send what is due."""


def run(settings: Settings) -> int:
    """Serve until a signal says stop, and return the process's exit status.

    Raises:
        PipeError: the server cannot start.
    """
    logs.configure(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(App(settings, Supervisor.take_from(os.environ)).run())


class App:
    """One server process.

    A worker is one too (`pipe.hub.worker`): what it has from its hub it gets by the methods that
    are not private.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor | None = None) -> None:
        self._settings = settings
        self._supervisor = supervisor or Supervisor()  # a worker's looks after its hub
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._listener: Listener | None = None  # on the topic of log lines
        self._before: Collection[str] = ()  # in the data folder

    async def run(self) -> int:
        """Start, serve, drain."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as cleanup:
            self.prepare(cleanup)
            store = await Store.open(settings.resolved_database_url)
            cleanup.push_async_callback(store.close)
            service = Service(settings, store, web_key=load_web_key(settings.web_key_path))
            self.share(service)
            cleanup.push_async_callback(service.guard.close)
            await service.guard.start()
            cleanup.callback(self._stop_listening)
            cleanup.push_async_callback(service.webhooks.close)
            cleanup.push_async_callback(service.monitors.close)
            cleanup.callback(service.keeping.close)
            cleanup.callback(service.holds.close)
            await self.begin(service)
            server = SSHServer(service)
            web, metrics_port = await self.open(service, server, cleanup)
            loop = asyncio.get_running_loop()
            lag = loop.create_task(service.metrics.watch_lag())
            cleanup.callback(lag.cancel)
            memory = loop.create_task(
                watch_memory(service.router, service.memory_alarm, settings.buffer, self.resident)
            )
            cleanup.callback(memory.cancel)
            self.watch_signals(loop)
            _spare_collector()
            cleanup.callback(_release_collector)
            looking = loop.create_task(_look_for_garbage(service))
            cleanup.callback(looking.cancel)
            beating = loop.create_task(self._supervisor.beat())
            cleanup.callback(beating.cancel)
            self.greet(service, metrics_port)
            self._supervisor.ready()

            await self._stop.wait()
            self._supervisor.stopping()
            log.info("stopping", sessions=len(service.sessions), drain_seconds=settings.drain)
            server.stop_accepting()
            if web:
                web.stop_accepting()
            await self._drain(service)
            await service.webhooks.close(GOODBYE_SECONDS)
            await server.close(GOODBYE_SECONDS)
            if web:
                await web.close()
            log.info("stopped")
        return 0

    # -- what a worker has from its hub -----------------------------------------------------------

    def prepare(self, cleanup: contextlib.AsyncExitStack) -> None:
        """Make what has to be there before the database, and keep it for this server."""
        self._before = make_data_dir(self._settings)
        cleanup.enter_context(locked(self._settings))

    def share(self, service: Service) -> None:
        """Replace what several processes count together; here there is one."""

    async def begin(self, service: Service) -> None:
        """Begin with what only one process does."""
        await self.take_duties(service)

    async def open(
        self, service: Service, server: SSHServer, cleanup: contextlib.AsyncExitStack
    ) -> tuple[WebServer | None, int]:
        """Listen on all ports; return the HTTP front, and where metrics are."""
        settings = self._settings
        await server.start()
        web = await start_web(service)
        if not settings.metrics_port:
            return web, 0
        metrics = await service.metrics.serve(
            settings.metrics_host, settings.metrics_port, service.snapshot
        )
        cleanup.callback(metrics.close)
        return web, metrics.port

    def resident(self) -> int:
        """The bytes of memory that the alarm looks at."""
        return resident_bytes()

    def greet(self, service: Service, metrics_port: int) -> None:
        """Say that it serves."""
        greet(self._settings, service.port, service.web_url, metrics_port, self._before)

    def watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop on SIGTERM and SIGINT, and on SIGHUP if it means that the terminal is gone.

        Otherwise SIGHUP asks a service to read its settings again, which must not end any stream;
        nohup makes the process ignore it.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            in_terminal = sys.stderr.isatty()
            loop.add_signal_handler(signal.SIGHUP, self.stop if in_terminal else _hung_up)

    # -- what may be asked of it ------------------------------------------------------------------

    def stop(self) -> None:
        """Drain; called again, stop now."""
        (self._stop_now if self._stop.is_set() else self._stop).set()

    async def take_duties(self, service: Service) -> None:
        """Read the topic of log lines, send webhooks, keep monitors."""
        topic = self._settings.log_drain_topic
        if topic:
            self._listener = Listener(service.router, topic, service.logs.take, service.logs.ended)
            self._listener.start()
        await start_webhooks(service)
        await service.monitors.start()

    async def lay_down_duties(self, service: Service) -> None:
        """Leave all that to another process."""
        self._stop_listening()
        await service.monitors.close()
        await service.webhooks.close(GOODBYE_SECONDS)

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            listener.stop()

    async def _drain(self, service: Service) -> None:
        service.draining = True
        service.monitors.draining = True
        for session in list(service.sessions):
            session.announce("the server is shutting down; streams that are moving may finish")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain
        looking = loop.create_task(_look_elsewhere(service))
        draining = Draining(service.router, STILL_SECONDS)
        while service.sessions and loop.time() < deadline and not self._stop_now.is_set():
            now = loop.time()
            _cut(service, [one for one in service.sessions if not draining.may_finish(one, now)])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_now.wait(), DRAIN_LOOK_SECONDS)
        looking.cancel()
        _cut(service, list(service.sessions))


async def start_web(service: Service) -> WebServer | None:
    """Listen for HTTP too, unless that is not wanted.

    Raises:
        StartError: it cannot.
    """
    settings = service.settings
    if not settings.web_port:
        return None
    web = make_web(service)
    try:
        await web.start()
    except StartError as error:
        service.web_url = ""  # it may be another server's
        if "web_port" in settings.model_fields_set:
            raise
        log.warning("no web pages", reason=error.message)
        return None
    return web


def make_web(service: Service) -> WebServer:
    """Make the HTTP front.

    Raises:
        StartError: it would send tokens over a network in the open.
    """
    from pipe.web.server import WebServer  # aiohttp takes some 10 MiB of memory

    keep_large_blocks()
    return WebServer(service, service.tokens)


async def start_webhooks(service: Service) -> None:
    """Send what topics get to the webhooks that there are; this does not need the web pages.

    Raises:
        StartError: it cannot.
    """
    settings, webhooks = service.settings, service.webhooks

    def make_poster() -> Poster:
        from pipe.web.outgoing import Outgoing  # aiohttp takes some 10 MiB of memory

        return Outgoing(parse_networks(settings.webhook_networks))

    webhooks.shared.key = service.web_key
    webhooks.make_poster = make_poster
    await webhooks.start()


async def _look_elsewhere(service: Service) -> None:
    """Know how streams move that are at home in other workers, again and again."""
    while service.elsewhere:
        await service.elsewhere.look_at_streams()
        await asyncio.sleep(ELSEWHERE_LOOK_SECONDS)


def _cut(service: Service, sessions: list[LiveSession]) -> None:
    """End sessions in one step, so that none is told to wait or that another of them broke."""
    with service.router.at_once():
        for session in sessions:
            session.cut(Outcome.SHUTDOWN)


def _spare_collector() -> None:
    """Let the garbage collector examine long-lived objects only once.

    Scanning a server's modules takes 20 to 50 ms and 5,000 sessions 80 ms, while all streams stand
    still.  So later collections skip what a full one has found in use.  That misses only cycles
    that become garbage later; sessions and connections leave none, and `_look_for_garbage` finds
    the rest.
    """
    gc.callbacks.append(_leave_out)
    gc.collect()


def _leave_out(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == FULL_COLLECTION:
        gc.freeze()


def _release_collector() -> None:
    gc.callbacks.remove(_leave_out)
    gc.unfreeze()


async def _look_for_garbage(service: Service) -> None:
    """Examine everything again now and then, when few sessions make it quick."""
    while True:
        await asyncio.sleep(GARBAGE_LOOK_SECONDS)
        if len(service.sessions) <= FEW_SESSIONS:
            gc.unfreeze()
            gc.collect()


def _hung_up() -> None:
    log.warning(
        "SIGHUP changes nothing",
        reason="settings are read at the start, so restart to change them;"
        " files of keys and CAs are read again by themselves",
    )
