"""Where the library's verbs work: in this process, and over the network."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncssh

import pipe
from tests.e2e.processes import DEADLINE
from tests.ssh.serving import HOST, serving
from tests.web.served import serving as serving_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from typing import TypeVar

    from pipe.library.verbs import Verbs
    from pipe.service import Service
    from pipe.stream.router import Router
    from pipe.stream.topics import Member

    Result = TypeVar("Result")

BUFFER = 64 * 1024
"""What a reader may have waiting: little, so that tests that fill it are quick."""


@dataclass
class Place:
    """One of them.

    Attributes:
        verbs: what is tested.
        router: where its members are, in this process too.
        told: the lines about streams so far.
        cut: what a reader gets that was cut off; HTTP has no word for it.
        as_bob: the verbs as another user has them; in a broker there is none.
    """

    verbs: Verbs
    router: Router
    told: list[str]
    cut: type[pipe.PipeError] = pipe.CutOff
    as_bob: Callable[[], AbstractAsyncContextManager[Verbs]] | None = None

    async def wait_members(self, topic: str = "", count: int = 0) -> None:
        """Wait until so many members are on a topic, or on all."""
        await self.until(lambda: len(self.members(topic)) == count)

    def members(self, topic: str = "") -> list[Member]:
        """Those on a topic, or on all."""
        return [
            member
            for name in self.router.names()
            if not topic or str(name).endswith(f"/{topic}")
            for member in self.router.members(name)
        ]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(DEADLINE):
            while not true():  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.002)


async def soon(work: Awaitable[Result]) -> Result:
    """Wait for what must come."""
    async with asyncio.timeout(DEADLINE):
        return await work


@contextlib.asynccontextmanager
async def in_process(folder: Path) -> AsyncIterator[Place]:  # noqa: ARG001
    """A broker."""
    told: list[str] = []
    broker = pipe.Broker(buffer=BUFFER, on_status=told.append)
    router = broker._router  # noqa: SLF001
    yield Place(broker, router, told, as_bob=lambda: contextlib.nullcontext(broker))


@contextlib.asynccontextmanager
async def over_ssh(folder: Path) -> AsyncIterator[Place]:
    """A server of SSH, and alice who is logged in there."""
    told: list[str] = []
    async with serving(folder, buffer=BUFFER) as service:
        url, options = credentials(service, folder)
        other, others = credentials(service, folder, "bob")
        async with pipe.connect(url, on_status=told.append, **options) as server:
            yield Place(server, service.router, told, as_bob=lambda: pipe.connect(other, **others))


def credentials(service: Service, folder: Path, user: str = "alice") -> tuple[str, dict[str, Any]]:
    """How a user reaches a server: its address, and the options of `pipe.connect`."""
    identity, known_hosts = folder / f"identity-{user}", folder / "known_hosts"
    if not identity.exists():
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(identity)
    host_key = asyncssh.read_private_key(folder / "host_key")
    line = host_key.export_public_key().decode()
    known_hosts.write_text(f"[{HOST}]:{service.port} {line}")
    config = folder / "config"
    config.write_text("")
    return f"ssh://{user}@{HOST}:{service.port}", {
        "identity": identity,
        "known_hosts": known_hosts,
        "config": config,
    }


@contextlib.asynccontextmanager
async def over_http(folder: Path) -> AsyncIterator[Place]:  # noqa: ARG001
    """A server of HTTP, and alice, who has a token."""
    told: list[str] = []
    async with serving_http(buffer=BUFFER) as served:  # noqa: SIM117
        async with pipe.connect(served.url, token="token-alice", on_status=told.append) as server:
            yield Place(
                server,
                served.service.router,
                told,
                cut=pipe.ConnectionLost,
                as_bob=lambda: pipe.connect(served.url, token="token-bob"),
            )
