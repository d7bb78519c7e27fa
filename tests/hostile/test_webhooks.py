"""Receivers of webhooks that misbehave, beside the innocent user."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.payloads import MIB
from tests.e2e.processes import wait_until
from tests.e2e.server import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

NETWORKS: Final = "127.0.0.0/8"
USERS: Final = ("mallory", "trudy")
WEBHOOKS: Final = 6
"""Of each of them: more than may be sent at once."""

AT_ONCE: Final = 8
"""POSTs of both that are under way at once."""

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Takes connections and says what it likes: ``first`` and then ``more``, for ever."""

    def __init__(self, first: bytes, more: bytes) -> None:
        self._first, self._more = first, more
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many have come."""
        return len(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self._open.append(one)
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.recv(65_536)
            one.sendall(self._first)
            while self._more:
                one.sendall(self._more)

    def close(self) -> None:
        """Hang up, everywhere."""
        self._listener.close()
        for one in self._open:
            one.close()


@contextlib.contextmanager
def attacked(set_scene: SetScene, first: bytes, more: bytes) -> Iterator[tuple[Scene, Receiver]]:
    """A scene where users have as many webhooks as are useful, all to one receiver."""
    scene = set_scene(webhook_networks=NETWORKS)
    receiver = Receiver(first, more)
    try:
        for user in USERS:
            for _ in range(WEBHOOKS):
                command = f"webhooks add flood {receiver.url} --frame line"
                assert scene.server.run(user, command).wait() == Status.OK
        yield scene, receiver
    finally:
        receiver.close()


def flood(scene: Scene) -> None:
    """Publish far more lines than may wait."""
    for user in USERS:
        client = scene.server.run(user, "pub flood", b"a line of no interest\n" * 100_000)
        assert client.wait() == Status.OK


def remove(scene: Scene) -> None:
    """Take all webhooks away, so that nothing of them is left."""
    for user in USERS:
        listed = scene.server.run(user, "webhooks --json").output
        for line in listed.splitlines():
            assert scene.server.run(user, f"webhooks rm {json.loads(line)['id']}").wait() == 0


@pytest.mark.parametrize(
    ("first", "more"),
    [
        pytest.param(b"", b"", id="hangs"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, id="early-hints"),
        pytest.param(OK, OK * 1000, id="unasked"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536, id="endless"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000, id="endless-head"),
    ],
)
def test_receivers_slow_nobody(set_scene: SetScene, first: bytes, more: bytes) -> None:
    """Whatever receivers do to a flood of lines, the innocent user does not notice."""
    # Each webhook keeps a hundred short lines, and each POST a socket.
    with (
        attacked(set_scene, first, more) as (scene, receiver),
        scene.attack(growth=48 * MIB, descriptors=AT_ONCE + 8, tasks=4 * WEBHOOKS),
    ):
        flood(scene)
        wait_until(lambda: receiver.connections >= AT_ONCE, "connections")
        metrics = scene.server.metrics()
        assert metrics.value("pipe_webhook_dropped_total", reason="full") > 1_000_000
        assert metrics.value("pipe_webhook_waiting") <= 100 * WEBHOOKS * len(USERS)
        remove(scene)
