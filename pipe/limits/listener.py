"""Accepts connections, each of which is judged before anything is done for it.

The event loops' own servers shake hands for TLS first, as often as somebody cares to connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING

import structlog

from pipe.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

BACKLOG = 512
"""Connections that the kernel may hold ready while the loop is busy; sshd has 128."""

TURN_CONNECTIONS = 64
"""Connections that are accepted in one turn of the event loop."""

BREATH_SECONDS = 1.0
"""How long nothing is accepted after the system could not give a descriptor."""


class Listener:
    """Listening sockets.

    Args:
        welcome: takes each connection, and its client's IP address.
    """

    def __init__(self, welcome: Callable[[socket.socket, str], None]) -> None:
        self._welcome = welcome
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []

    async def start(self, host: str, port: int) -> int:
        """Begin to accept, and return the port.

        Raises:
            OSError: the address cannot be used.
        """
        bound = await self.bind(host, port)
        self.accept()
        return bound

    async def bind(self, host: str, port: int) -> int:
        """Take the addresses, and accept nothing yet; return the port.

        Raises:
            OSError: the address cannot be used.
        """
        found = [
            one
            # With port 0 each family would get a different port.
            for name in ((host, "0.0.0.0") if host == "::" and port else (host,))  # noqa: S104
            for one in await self._loop.getaddrinfo(
                name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        ]
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listener = socket.socket(family, kind, protocol)
                self._sockets.append(listener)
                listener.setblocking(False)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
        except OSError:
            self.close()
            raise
        bound: int = self._sockets[0].getsockname()[1]
        return bound

    def accept(self) -> None:
        """Begin to accept on what is bound.

        Raises:
            OSError: somebody else was faster.
        """
        try:
            for listener in self._sockets:
                listener.listen(BACKLOG)
        except OSError:
            self.close()
            raise
        for listener in self._sockets:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self) -> None:
        """Accept nothing more."""
        for listener in self._sockets:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(TURN_CONNECTIONS):
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("connection not accepted", error=str(error))
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(BREATH_SECONDS, self._go_on, listener)
                return
            connection.setblocking(False)
            self._welcome(connection, address[0])

    def _go_on(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            with contextlib.suppress(OSError):
                self._loop.add_reader(listener.fileno(), self._accept, listener)


def why_not(host: str, port: int, error: OSError) -> StartError:
    """Say why SSH cannot be listened for."""
    if isinstance(error, socket.gaierror):  # its numbers are not those of errno
        reason = "there is no such host"
    else:
        reason = os.strerror(error.errno) if error.errno else str(error)
    advice = "choose another --host or --port"
    if error.errno == errno.EACCES:
        advice = "ports below 1024 take a right: docs/operations.md, 'Port 22'"
    elif error.errno == errno.EADDRINUSE:
        advice = f"'ss -ltnp' shows by whom; {advice}"
    return StartError(f"cannot listen on {host}:{port}: {reason}; {advice}")


def why_not_web(host: str, port: int, error: OSError) -> StartError:
    """Say why HTTP cannot be listened for."""
    if isinstance(error, socket.gaierror):  # its numbers are not the system's
        reason = "there is no such host"
    else:
        reason = os.strerror(error.errno) if error.errno else str(error)
    advice = "choose another --web-port, or 0 for no web"
    if error.errno == errno.EADDRINUSE:
        advice = f"'ss -ltnp' shows by whom; {advice}"
    return StartError(f"cannot listen on {host}:{port}: {reason}; {advice}")
