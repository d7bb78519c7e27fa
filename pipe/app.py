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
import shlex
import signal
import stat
import sys
from typing import TYPE_CHECKING

import structlog
import uvloop

from pipe import __version__, logs
from pipe.errors import Outcome, StartError
from pipe.events.listener import Listener
from pipe.language.names import escape
from pipe.limits.allocator import keep_large_blocks
from pipe.limits.bounds import parse_networks
from pipe.limits.memory_watch import watch_memory
from pipe.service import Service
from pipe.settings import LogFormat, Signup
from pipe.ssh.server import SSHServer
from pipe.store import Store
from pipe.store.web_key import load_web_key

if TYPE_CHECKING:
    from pipe.events.webhooks.posting import Poster
    from pipe.rights.live import LiveSession
    from pipe.settings import Settings
    from pipe.stream.topics import Member
    from pipe.web.server import WebServer

log = structlog.get_logger()

STILL_SECONDS = 3.0
"""While draining, a stream that moves no byte for this long stands still."""

DRAIN_LOOK_SECONDS = 0.1
"""How often a drain checks whether everybody has gone; a stop is at most this late."""

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
        return runner.run(App(settings).run())


class App:
    """One server process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def run(self) -> int:
        """Start, serve, drain."""
        settings = self._settings
        _make_data_dir(settings)
        store = await Store.open(settings.resolved_database_url)
        async with contextlib.AsyncExitStack() as cleanup:
            cleanup.push_async_callback(store.close)
            service = Service(settings, store, web_key=load_web_key(settings.web_key_path))
            cleanup.push_async_callback(service.guard.close)
            await service.guard.start()
            self._drain_logs(service, cleanup)
            await start_webhooks(service)
            cleanup.push_async_callback(service.webhooks.close)
            cleanup.push_async_callback(service.monitors.close)
            cleanup.callback(service.keeping.close)
            cleanup.callback(service.holds.close)
            await service.monitors.start()
            server = SSHServer(service)
            await server.start()
            web = await start_web(service)
            loop = asyncio.get_running_loop()
            metrics_port = 0
            if settings.metrics_port:
                metrics = await service.metrics.serve(
                    settings.metrics_host, settings.metrics_port, service.snapshot
                )
                cleanup.callback(metrics.close)
                metrics_port = metrics.port
            lag = loop.create_task(service.metrics.watch_lag())
            cleanup.callback(lag.cancel)
            memory = loop.create_task(
                watch_memory(service.router, service.memory_alarm, settings.buffer)
            )
            cleanup.callback(memory.cancel)
            self._watch_signals(loop)
            _spare_collector()
            cleanup.callback(_release_collector)
            looking = loop.create_task(_look_for_garbage(service))
            cleanup.callback(looking.cancel)
            self._greet(service, metrics_port)

            await self._stop.wait()
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

    def _drain_logs(self, service: Service, cleanup: contextlib.AsyncExitStack) -> None:
        """Read the topic of log lines, if there is one."""
        topic = self._settings.log_drain_topic
        if topic:
            listener = Listener(service.router, topic, service.logs.take, service.logs.ended)
            listener.start()
            cleanup.callback(listener.stop)

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop on SIGTERM and SIGINT, and on SIGHUP if it means that the terminal is gone.

        Otherwise SIGHUP asks a service to read its settings again, which must not end any stream;
        nohup makes the process ignore it.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            in_terminal = sys.stderr.isatty()
            loop.add_signal_handler(signal.SIGHUP, self._signalled if in_terminal else _hung_up)

    def _signalled(self) -> None:
        (self._stop_now if self._stop.is_set() else self._stop).set()

    def _greet(self, service: Service, metrics_port: int) -> None:
        settings = self._settings
        log.info(
            "serving",
            version=__version__,
            data=str(settings.data_dir.absolute()),
            ssh=_place(settings.host, service.port),
            web=service.web_url or "none",
            metrics=f"http://{_place(settings.metrics_host, metrics_port)}/metrics"
            if metrics_port
            else "none",
            signup=settings.resolved_signup.value,
            lane=settings.lane.value,
        )
        if settings.log_format is LogFormat.CONSOLE:
            sys.stderr.write(_invitation(service))

    async def _drain(self, service: Service) -> None:
        service.draining = True
        service.monitors.draining = True
        for session in list(service.sessions):
            session.announce("the server is shutting down; streams that are moving may finish")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain
        moved: dict[LiveSession, tuple[int, float]] = {}
        while service.sessions and loop.time() < deadline and not self._stop_now.is_set():
            now = loop.time()
            sessions = [s for s in service.sessions if not _may_finish(service, s, moved, now)]
            _cut(service, sessions)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_now.wait(), DRAIN_LOOK_SECONDS)
        _cut(service, list(service.sessions))


async def start_web(service: Service) -> WebServer | None:
    """Listen for HTTP too, unless that is not wanted.

    Raises:
        StartError: it cannot.
    """
    settings = service.settings
    if not settings.web_port:
        return None
    from pipe.web.server import WebServer  # aiohttp takes some 10 MiB of memory

    keep_large_blocks()
    web = WebServer(service, service.tokens)
    try:
        await web.start()
    except StartError as error:
        service.web_url = ""  # it may be another server's
        if "web_port" in settings.model_fields_set:
            raise
        log.warning("no web pages", reason=error.message)
        return None
    return web


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


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _invitation(service: Service) -> str:
    """What to do next after starting a server by hand."""
    settings, ssh = service.settings, service.ssh_command("alice")
    advice = 'If ssh says "Permission denied", make a key first: ssh-keygen -t ed25519'
    if settings.resolved_signup is Signup.CLOSED:
        store = f"--data-dir {shlex.quote(str(settings.data_dir.absolute()))}"
        if settings.database_url:
            store = "--database-url URL"
        advice = f"Sign-up is closed. Add users with: pipe user add NAME --key FILE.pub {store}"
    page = f"""or a browser at {service.web_url}: xdg-open "$({ssh} login)"\n\n"""
    return (
        "\nTry it from two other terminals:\n\n"
        f"    {ssh} sub greetings\n"
        f"    echo hello | {ssh} pub greetings\n"
        f"    {ssh} help\n\n"
        f"{page if service.web_url else ''}"
        f"{advice}\n\n"
    )


def _cut(service: Service, sessions: list[LiveSession]) -> None:
    """End sessions in one step, so that none is told to wait or that another of them broke."""
    with service.router.at_once():
        for session in sessions:
            session.cut(Outcome.SHUTDOWN)


def _may_finish(
    service: Service,
    session: LiveSession,
    moved: dict[LiveSession, tuple[int, float]],
    now: float,
) -> bool:
    """Return whether a session is part of a stream that still moves."""
    member = session.member
    if member is None or not member.joined:
        return not session.follows  # otherwise it answers a command, or is ending
    stream: tuple[Member, ...] = (member,)
    if not (member.finishing or member.ended):
        topics = [member.topic] if member.topic else member.topics
        stream = tuple(
            other for topic in topics if topic for other in service.router.members(topic.name)
        )
        writes = any(other.source and other.started and not other.waiting for other in stream)
        reads = any(other.sink for other in stream)
        if not (writes and reads):
            return False
    count = sum(other.received_bytes + other.written_bytes for other in stream)
    before, since = moved.get(session, (-1, now))
    if count != before:
        moved[session] = (count, now)
        return True
    return now - since < STILL_SECONDS


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


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(settings.data_dir, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise StartError(
            f"cannot use the data folder {settings.data_dir}: {reason}; choose another --data-dir"
        ) from error
    mode = settings.data_dir.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        log.warning(
            "data folder is open to others",
            path=escape(str(settings.data_dir)),
            reason="whoever can write there can put in another host key or database: chmod go-w",
        )
