"""A server of SSH and HTTP in the test's process, and tunnels to it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import asyncssh

from pipe.web.server import WebServer
from tests.e2e.processes import DEADLINE
from tests.e2e.server import free_port
from tests.ssh.serving import connect, serving
from tests.web.served import Conn, Response, request_head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.service import Login, Service, TunnelServer

KEYS = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("alice", "bob")}

HERE = {"Host": "localhost:1338"}
"""What a client in a tunnel calls the server."""


class Recorder:
    """Stands before the HTTP front, and keeps the transports that it is given."""

    def __init__(self, tunnels: TunnelServer) -> None:
        self._tunnels = tunnels
        self.transports: list[asyncio.Transport] = []

    def carry(self, transport: asyncio.Transport, login: Login) -> asyncio.Protocol:
        """Hand it on."""
        self.transports.append(transport)
        return self._tunnels.carry(transport, login)


class Tunnelled:
    """A server with both fronts, and clients of it."""

    def __init__(self, service: Service, web: WebServer) -> None:
        self.service = service
        self.web = web
        self.transports: list[asyncio.Transport] = []
        if service.tunnels is not None:
            recorder = service.tunnels = Recorder(service.tunnels)
            self.transports = recorder.transports
        self._stack = contextlib.AsyncExitStack()

    async def log_in(self, user: str = "alice") -> asyncssh.SSHClientConnection:
        """Log in over SSH."""
        connection = await connect(self.service, user, KEYS[user])
        self._stack.push_async_callback(connection.wait_closed)
        self._stack.callback(connection.abort)
        return connection

    async def tunnel(
        self, connection: asyncssh.SSHClientConnection, host: str = "localhost", port: int = 80
    ) -> Conn:
        """Open a tunnel."""
        return Conn(*await connection.open_connection(host, port))  # type: ignore[arg-type]

    async def ask(
        self,
        connection: asyncssh.SSHClientConnection,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        version: str = "1.1",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request through a tunnel of its own, and read the answer."""
        conn = await self.tunnel(connection)
        await conn.send(head(method, path, len(body), version, headers) + body)
        response = await conn.response(head_only=method == "HEAD")
        conn.close()
        return response

    async def close(self) -> None:
        """Hang up, all of them."""
        await self._stack.aclose()


def head(
    method: str,
    path: str,
    length: int = 0,
    version: str = "1.1",
    headers: dict[str, str] | None = None,
) -> bytes:
    """Write the head of a request, as a client in a tunnel does."""
    found = {**HERE, **(headers or {})}
    host = found.pop("Host")
    plain = request_head(method, path, length, None, version, found)
    return plain.replace(b"Host: pipe.test\r\n", f"Host: {host}\r\n".encode() if host else b"")


@contextlib.asynccontextmanager
async def tunnelling(
    folder: Path,
    **settings: Any,  # noqa: ANN401 - of any type
) -> AsyncIterator[Tunnelled]:
    """Serve both, and check afterwards that nothing is left of any tunnel."""
    async with serving(folder, web_port=free_port(), **settings) as service:
        await service.guard.start()
        web = WebServer(service, service.tokens)
        await web.start()
        tunnelled = Tunnelled(service, web)
        try:
            yield tunnelled
            await tunnelled.close()
            async with asyncio.timeout(DEADLINE):
                while service.connections or len(web.parts.door):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        finally:
            web.stop_accepting()
            await web.close()
            await service.guard.close()
