"""A proxy of our own between client and server, that makes the network as bad as a test wants it.

It runs in threads, two for each connection, one for each direction.  What goes through it is never
changed: it comes late, slowly, in tiny pieces, not at all, or ends in a reset.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e import clients

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_SIZE: Final = 1 << 16
QUEUED: Final = 64
"""Pieces on their way at once: with a latency, the network's own buffer."""

LINGER: Final = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER with no time: a close is a reset."""


@dataclass(frozen=True)
class Weather:
    """What the network is like.

    Attributes:
        latency: seconds that each piece is on its way.
        jitter: seconds more at the most.
        slices: the largest piece in bytes, each of a random size up to that; 0 for as it comes.
        bytes_per_second: of each direction; 0 for no limit.
        reset_after: bytes in both directions, after which both sides get a reset; 0 for never.
        vanish_after: the same, after which nothing comes through any more, nor an end of it.
        half_close_after: bytes from the client after which the server sees its end of file, while
            the other direction goes on.
    """

    latency: float = 0.0
    jitter: float = 0.0
    slices: int = 0
    bytes_per_second: int = 0
    reset_after: int = 0
    vanish_after: int = 0
    half_close_after: int = 0


class Route(NamedTuple):
    """How a connection gets from the proxy to the server: to which port, from which address."""

    port: int
    source: str = ""


class _Link:
    """One connection through the proxy."""

    def __init__(self, weather: Weather, client: socket.socket, server: socket.socket) -> None:
        self._weather = weather
        self._client = client
        self._server = server
        self._random = random.Random(0)
        self._passed = 0
        self._over = threading.Event()
        self.frozen = False
        self._threads: list[threading.Thread] = []
        for source, target in ((client, server), (server, client)):
            pieces: queue.Queue[tuple[float, bytes]] = queue.Queue(QUEUED)
            for work, arguments in (
                (self._take, (source, pieces)),
                (self._give, (target, pieces)),
            ):
                self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        for thread in self._threads:
            thread.start()

    def _take(self, source: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        weather = self._weather
        taken = 0
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                size = self._random.randint(1, weather.slices) if weather.slices else READ_SIZE
                data = source.recv(size)
                taken += len(data)
                self._passed += len(data)
                if weather.reset_after and self._passed > weather.reset_after:
                    self.reset()
                if weather.vanish_after and self._passed > weather.vanish_after:
                    self.frozen = True
                if self.frozen:
                    self._over.wait()
                if source is self._client and 0 < weather.half_close_after < taken:
                    data = b""
                late = weather.latency + self._random.random() * weather.jitter
                pieces.put((time.monotonic() + late, data))
                if weather.bytes_per_second:
                    time.sleep(len(data) / weather.bytes_per_second)
                if not data:
                    return
        pieces.put((0.0, b""))

    def _give(self, target: socket.socket, pieces: queue.Queue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                due, data = pieces.get()
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    break
                target.sendall(data)

    def freeze(self) -> None:
        """Let nothing through any more, nor an end of it."""
        self.frozen = True

    def reset(self) -> None:
        """End both sides with a reset."""
        self._over.set()
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                side.shutdown(socket.SHUT_RD)
            side.close()

    def close(self) -> None:
        """End it, however far it is."""
        self.reset()
        for thread in self._threads:
            thread.join(1.0)


class Proxy:
    """Listens on a port of its own and passes connections on to the server.

    Args:
        port: the server's.
        weather: what becomes of what passes.
        routes: what connections take in turn, instead of that port.
        listen: the address and port to listen on; by default a free one.
    """

    def __init__(
        self,
        port: int,
        weather: Weather,
        routes: Sequence[Route] = (),
        listen: tuple[str, int] = (clients.HOST, 0),
    ) -> None:
        self._routes = itertools.cycle(routes or (Route(port),))
        self._weather = weather
        self._links: list[_Link] = []
        self._listener = socket.create_server(listen)
        self._thread = threading.Thread(target=self._accept_all, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        address: tuple[str, int] = self._listener.getsockname()
        return address[1]

    @property
    def frozen(self) -> bool:
        """Whether nothing comes through any more on one that there is."""
        return any(link.frozen for link in self._links)

    def reset(self) -> None:
        """End all connections that there are with a reset."""
        while self._links:
            self._links.pop().close()

    def freeze(self) -> None:
        """Let nothing through on those that there are, nor an end of it."""
        for link in self._links:
            link.freeze()

    def _accept_all(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                route = next(self._routes)
                source = (route.source, 0) if route.source else None
                try:
                    server = socket.create_connection((clients.HOST, route.port), None, source)
                except OSError:
                    client.close()  # the server is not there
                    continue
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._links.append(_Link(self._weather, client, server))

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for link in self._links:
            link.close()
