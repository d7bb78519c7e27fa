"""Clients that take more than their share: some that never log in, and one that does not read."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, String

from . import clients
from .processes import DEADLINE

if TYPE_CHECKING:
    from .server import Server

MALLORY = "127.0.0.2"
INNOCENT = "127.0.0.3"
ACCOMPLICE = "127.0.0.4"


class Raw:
    """Plain TCP connections to a server, closed with the test."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()

    def connect(self, server: Server, source: str) -> socket.socket:
        """One more, from this address."""
        return self._open.enter_context(
            socket.create_connection((clients.HOST, server.port), DEADLINE, (source, 0))
        )

    def close(self) -> None:
        """Close them all."""
        self._open.close()


def greeted(connection: socket.socket) -> bool:
    """Whether the server has said anything before it hung up."""
    try:
        return connection.recv(4) == b"SSH-"
    except ConnectionError:
        return False


def hung_up(connection: socket.socket) -> bool:
    """Whether the server closes within the socket's timeout."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def whoami(server: Server, source: str = INNOCENT, *, key_of: str = "alice") -> int:
    """Log in as alice from an address, with her key or not, and return the exit status."""
    return server.ssh("alice", "whoami", options=("-b", source), key_of=key_of).wait()


def refusals(server: Server, reason: str) -> float:
    """How often the server has turned somebody away for this reason."""
    return server.metrics().value("pipe_refused_total", reason=reason)


class Rude:
    """An asyncssh client that stops reading its TCP connection."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def __aenter__(self) -> Rude:
        """Log in."""
        self.connection = await asyncssh.connect(
            clients.HOST,
            self._server.port,
            username="alice",
            client_keys=[str(self._server.keys.openssh("alice"))],
            known_hosts=None,
            agent_path=None,
            config=None,
        )
        self._transport: Any = self.connection._transport  # noqa: SLF001
        return self

    async def __aexit__(self, *_: object) -> None:
        """Go."""
        self.connection.abort()
        await self.connection.wait_closed()

    async def subscribe(self, topic: str) -> None:
        """Open a session with a window that never fills."""
        await self.connection.create_session(
            asyncssh.SSHClientSession[bytes], f"sub -k {topic}", encoding=None, window=1 << 30
        )

    def stop_reading(self) -> None:
        """Read nothing more from the network."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def ask(self, count: int) -> None:
        """Send requests that want an answer."""
        for _ in range(count):
            self.connection.send_packet(MSG_GLOBAL_REQUEST, String("no-such"), Boolean(True))
