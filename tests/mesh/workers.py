"""Several workers in the test's own process, with one database, one key and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pipe.hub.homes
from pipe.mesh.directory import WorkerId
from pipe.mesh.mesh import Mesh
from pipe.mesh.questions import answer_question
from pipe.mesh.unix import Sockets
from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.server import SSHServer
from pipe.store import Store
from tests.e2e import clients
from tests.e2e.processes import DEADLINE
from tests.mesh.neighbours import Neighbours

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pipe.language.names import TopicName
    from pipe.mesh.directory import Home
    from pipe.mesh.peers import Peer
    from tests.e2e.clients import KeyRing

GOODBYE = 0.0
"""Seconds that a worker waits for clients when it stops: they are the test's own."""


class Homes:
    """The directory of all workers, as a hub keeps it: who joins first has the topic at home."""

    def __init__(self) -> None:
        self.all = pipe.hub.homes.Homes()
        self.crowded = False

    def of(self, me: WorkerId) -> Desk:
        """One worker's way to ask."""
        return Desk(self, me)


class Desk:
    """A `pipe.mesh.directory.Directory`."""

    def __init__(self, homes: Homes, me: WorkerId) -> None:
        self._owner = homes
        self._homes = homes.all
        self._me = me
        self._arrived: dict[str, Counter[WorkerId]] = {}

    async def enter(self, topic: TopicName) -> Home:
        """Count a join."""
        await asyncio.sleep(0)
        home = self._homes.enter(str(topic), self._me, {})
        return home._replace(crowded=self._owner.crowded)

    async def find(self, topic: TopicName) -> WorkerId | None:
        """Look."""
        await asyncio.sleep(0)
        return self._homes.find(str(topic))

    def arrived(self, topic: TopicName, asker: WorkerId) -> None:
        """Count it for the end."""
        self._arrived.setdefault(str(topic), Counter())[asker] += 1

    def withdraw(self, topic: TopicName, home: WorkerId) -> None:
        """Count it no longer."""
        self._homes.withdraw(str(topic), home, self._me)

    def watch(self, topic: TopicName, watched: bool) -> None:
        """It makes no difference here."""

    def closed(self, topic: TopicName) -> None:
        """Forget a topic, unless joins are on their way."""
        self._homes.closed(str(topic), self._me, self._arrived.pop(str(topic), Counter()))


class Worker:
    """One worker."""

    def __init__(self, me: WorkerId, service: Service, mesh: Mesh, desk: Desk) -> None:
        self.me = me
        self.service = service
        self.mesh = mesh
        self.desk = desk

    @property
    def topics(self) -> set[str]:
        """What is at home here."""
        return {str(name) for name in self.service.router.names()}

    @property
    def holds_a_stream(self) -> bool:
        """Whether a stream stands here whose publisher is away."""
        return any(name in self.service.holds for name in self.service.router.names())


class Run:
    """One client, `ssh` itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out = bytearray()
        self.err = bytearray()
        self.hash = hashlib.sha256()
        self.size = 0
        self.keeps = True

    async def write(self, data: bytes) -> None:
        """Give it input, and wait until it has taken it."""
        assert self.process.stdin
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    def end(self) -> None:
        """End its input."""
        assert self.process.stdin
        self.process.stdin.close()

    async def read(self, size: int) -> bytes:
        """Read so many bytes of its output."""
        assert self.process.stdout
        async with asyncio.timeout(DEADLINE):
            return await self.process.stdout.readexactly(size)

    async def status(self) -> int:
        """Read all that is left, and wait for its end."""
        assert self.process.stdout
        assert self.process.stderr
        async with asyncio.timeout(DEADLINE):
            errors = asyncio.ensure_future(self.process.stderr.read())
            while piece := await self.process.stdout.read(1 << 18):
                self.size += len(piece)
                self.hash.update(piece)
                if self.keeps:
                    self.out += piece
            self.err += await errors
            return await self.process.wait()


class Workers:
    """All of them."""

    def __init__(self, keys: KeyRing, homes: Homes, stack: contextlib.AsyncExitStack) -> None:
        self._keys = keys
        self._stack = stack
        self.homes = homes
        self.known: dict[WorkerId, Peer] = {}
        self.all: list[Worker] = []

    def __getitem__(self, number: int) -> Worker:
        """A worker by its number, from 1."""
        return self.all[number - 1]

    async def run(
        self,
        number: int,
        command: str,
        stdin: bytes | None = b"",
        *,
        user: str = "alice",
        options: tuple[str, ...] = (),
    ) -> Run:
        """Start a client at a worker; without ``stdin`` its input stays open."""
        words = clients.openssh(
            self[number].service.port, self._keys.openssh(user), user, command, options
        )
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clients.bare_environment(),
        )
        run = Run(process)
        self._stack.push_async_callback(_end, process)
        if stdin is not None:
            if stdin:
                await run.write(stdin)
            run.end()
        return run

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for what must come."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - another process makes it true
                await asyncio.sleep(0.005)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def working(
    folder: Path,
    keys: KeyRing,
    count: int = 2,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[Workers]:
    """So many workers, each with a server on a port of its own."""
    homes = Homes()
    chosen = {"port": 0, "metrics_port": 0, "data_dir": folder, "signup": "open", **settings}
    async with contextlib.AsyncExitStack() as stack:
        workers = Workers(keys, homes, stack)
        for number in range(1, count + 1):
            made = Settings(**chosen)
            store = await stack.enter_async_context(await Store.open(made.resolved_database_url))
            service = Service(made, store)
            me = WorkerId("", number, number)
            peers = Neighbours(me, folder, workers.known)
            sockets = Sockets(peers, service.turns.use)
            desk = homes.of(me)
            answer = partial(answer_question, service)
            mesh = Mesh(service, peers, desk, sockets, answer)
            service.elsewhere = mesh
            server = SSHServer(service)
            await server.start()
            listener = await sockets.listen(mesh.accept)
            stack.push_async_callback(_stop, server, listener, mesh)
            workers.all.append(Worker(me, service, mesh, desk))
        yield workers


async def _stop(server: SSHServer, listener: asyncio.Server, mesh: Mesh) -> None:
    server.stop_accepting()
    await server.close(GOODBYE)
    listener.close()
    mesh.close()


async def on_topic(workers: Workers, number: int, count: int) -> None:
    """Wait until so many members are on topics at home in a worker."""
    router = workers[number].service.router
    await workers.until(lambda: sum(router.statistics().sessions.values()) == count)
