"""Senders of webhooks that misbehave, beside the innocent user."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e.payloads import MIB
from tests.e2e.server import Status

from .test_web import MANY, Raw, crowd, dribble

if TYPE_CHECKING:
    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

FLOOD: Final = 2000
"""Deliveries at once, of which a hook takes sixty."""

BOMBS: Final = {
    "arrays": b"[" * MIB,
    "objects": b'{"a":' * (MIB // 5),
    "events": b'{"events":[' + b'{"action":"push"},' * 50_000 + b"{}]}",
    "values": b"[" + b"1," * (MIB // 2 - 2) + b"1]",
    "digits": b"9" * MIB,
    "fraction": b"0." + b"9" * (MIB - 2),
}
"""Bodies that cost whoever reads them much more than they look like."""


def make(scene: Scene, words: str) -> tuple[str, str]:
    """Make a hook of mallory's, and return its path and its secret."""
    client = scene.server.run("mallory", f"hooks add {words}")
    assert client.wait() == Status.OK, client
    url, secret = client.output.split()
    return "/" + url.split("/", 3)[3], secret


def post(path: str, secret: str, size: int, *lines: str) -> bytes:
    """The head of a delivery."""
    text = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {secret}",
        f"Content-Length: {size}",
        *lines,
    ]
    return "\r\n".join((*text, "", "")).encode()


def statuses(answers: bytes) -> list[bytes]:
    """Those of some answers."""
    return re.findall(rb"HTTP/1\.1 (\d+) ", answers)


def answers(client: Raw, count: int) -> list[bytes]:
    """The statuses of so many answers, or of fewer where the server has hung up by then."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while len(statuses(got)) < count and (data := client.socket.recv(1 << 16)):
            got += data
    return statuses(got)


def test_flood_of_deliveries(scene: Scene) -> None:
    """Deliveries by the thousand are taken as far as the rate of their hook goes."""
    path, secret = make(scene, "build")
    with scene.attack(descriptors=20), crowd(scene, 10) as clients:
        each = FLOOD // len(clients)
        for one in clients:
            one.send((post(path, secret, 5) + b"hello") * each)
        got: list[bytes] = []
        for one in clients:
            got += answers(one, each)
    assert got.count(b"429") > got.count(b"202") >= 60
    assert set(got) == {b"202", b"429"}


def test_wrong_proofs_in_crowds(scene: Scene) -> None:
    """Long bodies that nobody has signed hold little, and are refused one like the other."""
    path, _ = make(scene, "mallory/ --kind github")
    body = bytes(MIB)
    with scene.attack(growth=64 * MIB, descriptors=MANY), crowd(scene) as clients:
        for number, one in enumerate(clients):
            where = path if number % 2 else f"/hook/{'a' * 12}"
            one.send(post(where, "x", len(body), f"X-Hub-Signature-256: sha256={'0' * 64}"))
        for one in clients:
            one.send(body)
        got = [statuses(one.rest()) for one in clients]
    assert {status for answers in got for status in answers} <= {b"401", b"429"}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs(scene: Scene, what: str) -> None:
    """What is nested without end, or has values without end, is not read, however well proved."""
    path, secret = make(scene, "mallory/ --kind distribution")
    body = BOMBS[what]
    with scene.attack(), crowd(scene, 4) as clients:
        for _ in range(5):
            for one in clients:
                one.send(post(path, secret, len(body)) + body)
        for one in clients:
            assert b" 202 " in one.socket.recv(1 << 16)


def test_slow_bodies_are_cut_off(set_scene: SetScene) -> None:
    """Bodies that dribble hold their connections no longer than a login may take."""
    scene = set_scene(login_timeout="2s")
    path, secret = make(scene, "build")
    with scene.attack(descriptors=MANY), crowd(scene) as clients:
        for one in clients:
            one.send(post(path, secret, MIB))
        assert not dribble(clients, b"x")


def test_held_events_are_few(scene: Scene) -> None:
    """Events that wait for a reader who never comes have a bound, and others' still wait."""
    path, secret = make(scene, "build --hold 1h")
    other, other_secret = make(scene, "test --hold 1h")
    body = bytes(MIB // 2)
    with scene.attack(growth=24 * MIB), crowd(scene, 2) as (one, two):
        for _ in range(20):
            one.send(post(path, secret, len(body)) + body)
        two.send(post(other, other_secret, 1) + b"x")
        assert b" 202 " in two.socket.recv(1 << 16)
        assert b"202" in answers(one, 20)  # nothing is on its way that would be held later
        for topic in ("build", "test"):
            assert scene.server.run("mallory", f"sub {topic}").wait() == Status.OK
