"""HTTP clients that misbehave, beside the innocent user."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.payloads import MIB
from tests.e2e.processes import wait_until
from tests.e2e.web import token

from .transport import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

MANY: Final = 80
"""Connections at once, of the hundred that may be without a login."""


PAIR: Final = 5 * MIB // 2
"""What a publisher and its only reader may hold, which reads nothing."""


class Raw:
    """A client that sends what it likes."""

    def __init__(self, scene: Scene) -> None:
        self.socket = socket.create_connection(("127.0.0.1", scene.server.web_port))
        self.socket.settimeout(PATIENCE)

    def send(self, data: bytes) -> None:
        """Send all of it, as far as the server takes it."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)

    def rest(self) -> bytes:
        """Read to the end."""
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(1 << 16):
                got += data
        return got


def head(method: str, path: str, secret: str, *lines: str) -> bytes:
    """The head of a request."""
    text = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {secret}", *lines]
    return "\r\n".join((*text, "", "")).encode()


@contextlib.contextmanager
def crowd(scene: Scene, count: int = MANY) -> Iterator[list[Raw]]:
    """Many connections, closed at the end."""
    found = [Raw(scene) for _ in range(count)]
    try:
        yield found
    finally:
        for one in found:
            one.socket.close()


def dribble(clients: Iterable[Raw], byte: bytes) -> list[Raw]:
    """Send a byte now and then, until the server has closed all; return those that it has not."""
    deadline = time.monotonic() + PATIENCE
    left = list(clients)
    while left and time.monotonic() < deadline:
        for one in list(left):
            one.socket.setblocking(False)
            try:
                one.socket.send(byte)
                if one.socket.recv(1) == b"":
                    left.remove(one)
            except BlockingIOError:
                continue
            except OSError:
                left.remove(one)
        time.sleep(0.05)
    return left


def pour(scene: Scene, writers: Sequence[Raw], piece: bytes) -> None:
    """Send as much as the server takes, until each writer has a reader that is clogged."""
    sockets = [writer.socket for writer in writers]
    for one in sockets:
        one.setblocking(False)

    def all_are_clogged() -> bool:
        ready = select.select([], sockets, [], 0)[1]
        for one in ready:
            one.send(piece)
        return not ready and scene.metrics().value("pipe_clogged_subscribers") == len(sockets)

    wait_until(all_are_clogged, "all to be clogged")


def test_slow_heads_are_cut_off(set_scene: SetScene) -> None:
    """Connections that dribble a head, byte by byte, are closed in time."""
    scene = set_scene(login_timeout="2s")
    with scene.attack(descriptors=MANY), crowd(scene) as clients:
        assert not dribble(clients, b"G")


def test_endless_heads_are_refused(scene: Scene) -> None:
    """Heads without an end, in one line or in many, cost no memory."""
    with scene.attack(growth=40 * MIB, descriptors=20), crowd(scene, 20) as clients:
        for number, one in enumerate(clients):
            if number % 2:
                one.send(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000)
            else:
                one.send(b"GET /" + b"a" * MIB)
            one.rest()


def test_pipelined_requests_are_few_at_a_time(scene: Scene) -> None:
    """Requests by the thousand behind one that waits are not read into memory."""
    secret = token(scene.server, "mallory")
    with scene.attack(), crowd(scene, 4) as clients:
        for one in clients:
            one.socket.settimeout(0.5)
            one.send(head("GET", "/topic/build", secret))
            one.send(head("GET", "/topic/build", secret) * 50_000)


def test_one_byte_chunks_starve_nobody(scene: Scene) -> None:
    """A body of one-byte chunks arrives whole, at little cost to others."""
    secret = token(scene.server, "mallory")
    with scene.attack(), crowd(scene, 2) as (reader, writer):
        reader.send(head("GET", "/topic/build", secret))
        scene.server.wait_sessions(subscribe=2)
        writer.send(head("PUT", "/topic/build", secret, "Transfer-Encoding: chunked"))
        for _ in range(100):
            writer.send(b"1\r\nx\r\n" * 1000)
        writer.send(b"0\r\n\r\n")
        got = b""
        while not got.endswith(b"0\r\n\r\n"):
            got += reader.socket.recv(1 << 16)
        assert got.count(b"x") >= 100_000


def test_smuggled_requests_are_not_served(scene: Scene) -> None:
    """A length and chunks in one head are refused, and what follows is not read."""
    secret = token(scene.server, "mallory")
    with scene.attack(), crowd(scene, 1) as (one,):
        body = b"0\r\n\r\n" + head("PUT", "/topic/stolen?block=false", secret, "Content-Length: 0")
        lines = (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked")
        one.send(head("POST", "/pubsub/build", secret, *lines) + body)
        got = one.rest()
        assert got[8:13] == b" 400 "
        assert got.count(b"HTTP/1.") == 1


def test_paused_publishers_that_die_are_gone(scene: Scene) -> None:
    """Publishers that die while they wait leave nothing: they are noticed at once."""
    secret = token(scene.server, "mallory")
    before = scene.metrics().value("pipe_sessions", mode="publish")
    with scene.attack(descriptors=50):
        for _ in range(5):
            with crowd(scene, 40) as clients:
                for one in clients:
                    one.send(head("PUT", "/topic/build", secret, "Content-Length: 1000000") + b"x")
                scene.server.wait_sessions(publish=int(before) + 40)
            scene.server.wait_sessions(publish=int(before))


def test_readers_that_read_nothing_hold_little(set_scene: SetScene) -> None:
    """Fifty pairs of a publisher and a reader that reads nothing cost a bounded amount each."""
    scene = set_scene(keepalive_interval="1s")
    secret = token(scene.server, "mallory")
    with scene.attack(growth=50 * PAIR, descriptors=110, tasks=300), crowd(scene, 100) as clients:
        for number, (reader, writer) in enumerate(zip(clients[::2], clients[1::2], strict=True)):
            reader.send(head("GET", f"/topic/{number}", secret))
            writer.send(head("PUT", f"/topic/{number}", secret, "Content-Length: 100000000"))
        wait_until(
            lambda: scene.metrics().value("pipe_sessions", mode="subscribe") == 51, "the readers"
        )
        for writer in clients[1::2]:
            writer.socket.settimeout(0.2)
            writer.send(b"y" * 16 * MIB)
        wait_until(
            lambda: scene.metrics().value("pipe_clogged_subscribers") == 50, "all to be clogged"
        )


def test_events_that_nobody_reads_hold_little(set_scene: SetScene) -> None:
    """A reader of events that reads nothing costs its buffer."""
    scene = set_scene(keepalive_interval="1s")
    secret = token(scene.server, "mallory")
    with scene.attack(), crowd(scene, 2) as (reader, writer):
        reader.send(head("GET", "/topic/build?format=sse", secret))
        scene.server.wait_sessions(subscribe=2)
        writer.send(head("PUT", "/topic/build", secret, "Content-Length: 100000000"))
        pour(scene, [writer], b"line\n" * 50_000)


def test_ports_that_are_only_touched(set_scene: SetScene) -> None:
    """Connections that are reset at once leave nothing behind."""
    scene = set_scene()
    with scene.attack(descriptors=150, tasks=500):
        for _ in range(20):
            with crowd(scene, 50):
                pass
