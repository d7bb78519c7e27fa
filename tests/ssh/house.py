"""Two servers in one process that share their accounts, and move their clients between them.

A client connects to the first.  When the request of its first session has been accepted there, the
session is kept from beginning, and the connection is moved along its route.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pipe.errors import PipeError
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.channel import Channel
from pipe.ssh.handover import Parcel, export, why_not
from pipe.ssh.server import SSHServer
from pipe.store import Store
from tests.e2e.clients import bare_environment, openssh
from tests.e2e.processes import DEADLINE
from tests.ssh.serving import GOODBYE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.e2e.clients import KeyRing

PEOPLE = ("alice", "bob")
"""Who the clients are."""

_begin = Channel.session_started

THERE = (0, 1)
"""The usual route: from the first server to the second."""


class Ended(NamedTuple):
    """A client that has ended."""

    status: int
    stdout: bytes
    stderr: str


class House:
    """The servers, and the connections that have come to the first.

    Attributes:
        services: of both.
        held: sessions that wait to be moved, in the order they came.
        moves: how many have been made.
        refused: why connections were not taken over.
        unmoved: why connections stayed where they were.
        hold: keep all sessions until the test moves them.
        route: the servers that a connection comes to, by number.
    """

    def __init__(self, keys: KeyRing) -> None:
        self.services: list[Service] = []
        self.servers: list[SSHServer] = []
        self.held: list[Channel] = []
        self.moves = 0
        self.refused: list[str] = []
        self.unmoved: list[str] = []
        self.hold = False  # until a test moves them
        self.route: Sequence[int] = THERE
        self._keys = keys
        self._at: dict[str, int] = {}  # how far each client is on the route, by address
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: list[asyncio.subprocess.Process] = []

    @contextlib.asynccontextmanager
    async def open(self, folder: Path, **settings: Any) -> AsyncIterator[House]:  # noqa: ANN401
        """Start both."""
        chosen = {"port": 0, "metrics_port": 0, "data_dir": folder, "signup": "open", **settings}
        made = Settings(**chosen)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                store = await stack.enter_async_context(
                    await Store.open(made.resolved_database_url)
                )
                service = Service(made, store)
                await service.guard.start()
                stack.push_async_callback(service.guard.close)
                server = SSHServer(service)
                await server.start()
                self.services.append(service)
                self.servers.append(server)
                stack.push_async_callback(server.close, GOODBYE)
                stack.callback(server.stop_accepting)
            try:
                yield self
            finally:
                await self.stop_clients()

    async def stop_clients(self) -> None:
        """End what a test that has failed left."""
        for task in self._tasks:
            task.cancel()
        for client in self._clients:
            if client.returncode is None:
                client.kill()
                await client.communicate()

    # -- moving -----------------------------------------------------------------------------------

    def started(self, channel: Channel) -> bool:
        """Whether a session may begin: it is where its route ends, or no longer the first."""
        address = channel.connection.address
        if channel.connection.visit.sessions > 1 or self._at.get(address, 0) == len(self.route) - 1:
            return True
        self.held.append(channel)
        if not self.hold:
            task = asyncio.get_running_loop().create_task(self._go(channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return False

    async def _go(self, channel: Channel) -> None:
        """Move a session's connection, or let it begin where it is."""
        reason = why_not(channel)
        if reason:
            self.unmoved.append(reason)
            self.held.remove(channel)
            _begin(channel)
        else:
            await self.move(channel)

    async def move(self, channel: Channel, spoil: Callable[[bytes], bytes] = bytes) -> None:
        """Move a session's connection one step along its route."""
        at = self._at.get(channel.connection.address, 0)
        parcel = self.take_out(channel)
        try:
            await self.servers[self.route[at + 1]].adopt(
                spoil(parcel.cargo.encode()), parcel.socket.dup()
            )
        except PipeError as error:
            self.refused.append(error.message)
        else:
            self.moves += 1
        finally:
            parcel.socket.close()

    def take_out(self, channel: Channel) -> Parcel:
        """Export a session's connection from where it is."""
        self.held.remove(channel)
        address = channel.connection.address
        at = self._at.get(address, 0)
        assert why_not(channel) == ""
        self._at[address] = at + 1
        return export(self.services[self.route[at]], channel)

    # -- clients ----------------------------------------------------------------------------------

    def command(self, user: str, command: str, *options: str) -> list[str]:
        """OpenSSH, to the first server."""
        return openssh(self.services[0].port, self._keys.openssh(user), user, command, options)

    async def start(self, words: Sequence[str], *, writes: bool) -> asyncio.subprocess.Process:
        """Start a client."""
        pipe = asyncio.subprocess.PIPE
        stdin = pipe if writes else asyncio.subprocess.DEVNULL
        client = await asyncio.create_subprocess_exec(
            *words, stdin=stdin, stdout=pipe, stderr=pipe, env=bare_environment()
        )
        self._clients.append(client)
        return client

    async def ssh(self, user: str, command: str, *options: str) -> asyncio.subprocess.Process:
        """Start OpenSSH; the test writes to a `pub` and to a `pipe`."""
        writes = command.startswith(("pub", "pipe"))
        return await self.start(self.command(user, command, *options), writes=writes)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that comes about in this process."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.002)

    async def until_held(self, count: int = 1) -> None:
        """Wait until so many sessions wait to be moved."""
        await self.until(lambda: len(self.held) >= count)

    async def until_reading(self, topic_readers: int = 1) -> None:
        """Wait for so many readers on the second server."""
        await self.until(lambda: _members(self.services[1]) >= topic_readers)

    async def empty(self) -> None:
        """Wait until nobody is there, and see that nothing is counted any more."""
        for service in self.services:
            await self.until(lambda one=service: not one.connections and not one.sessions)  # type: ignore[misc]
            service.turns.finish()
            assert (service.gate.open, service.gate.waiting) == (0, 0)
            assert not sum(service.lanes.values())
            for resource, name in itertools.product(Resource, PEOPLE):
                assert not service.quotas.held(resource, Holder(Scope.USER, name))
            assert not service.router.statistics().topics


def _members(service: Service) -> int:
    return sum(1 for session in service.sessions if session.member and session.member.joined)


async def ended(process: asyncio.subprocess.Process, data: bytes = b"") -> Ended:
    """Send a client its last input, and wait for its end."""
    async with asyncio.timeout(DEADLINE):
        stdout, stderr = await process.communicate(data if process.stdin else None)
    return Ended(process.returncode or 0, stdout, stderr.decode())


async def all_ended(
    writer: asyncio.subprocess.Process, data: bytes, *readers: asyncio.subprocess.Process
) -> list[Ended]:
    """Let one client write, and wait for the end of all."""
    return list(await asyncio.gather(ended(writer, data), *map(ended, readers)))


def hold_sessions(house: House, patch: pytest.MonkeyPatch) -> None:
    """Let the house decide when sessions begin."""

    def started(channel: Channel) -> None:
        if house.started(channel):
            _begin(channel)

    patch.setattr(Channel, "session_started", started)


def unused_input(channel: Any) -> int:  # noqa: ANN401 - of a module that does not tell it
    """What a channel of the lane has received, and its session has not used."""
    return int(channel.channel._init_recv_window - channel.channel._recv_window)  # noqa: SLF001


def with_settings(**settings: Any) -> pytest.MarkDecorator:  # noqa: ANN401
    """Set these for one test."""
    return pytest.mark.parametrize("settings", [settings], ids=["-".join(settings)])


@pytest.fixture
def settings() -> dict[str, Any]:
    """Both servers' settings, beside the usual ones."""
    return {}


@pytest.fixture
async def house(
    keys: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> AsyncIterator[House]:
    """Two servers; at the end nobody is counted on either."""
    made = House(keys)
    hold_sessions(made, monkeypatch)
    async with made.open(tmp_path / "data", **settings) as opened:
        yield opened
        await opened.stop_clients()
        await opened.empty()
        assert not opened.held
