"""Log lines that mean harm, beside the innocent user and one who follows the own lines."""

from __future__ import annotations

import gzip
import http.client
import json
from typing import TYPE_CHECKING, Final

import pytest

from pipe.events.logs.batches import MAX_BATCH_BYTES
from pipe.events.logs.rings import MAX_BYTES
from tests.e2e.payloads import MIB
from tests.e2e.processes import HELD, Process, wait_until
from tests.e2e.server import Status
from tests.e2e.web import token

from .scene import GROWTH, KEPT

if TYPE_CHECKING:
    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

DRAIN: Final = "mallory/log-drain"
USERS: Final = 1_000_000


@pytest.fixture
def drained(set_scene: SetScene) -> Scene:
    """A server that drains a topic of mallory's."""
    return set_scene(log_drain=DRAIN)


def follow(scene: Scene) -> Process:
    """Alice, who follows her lines."""
    return scene.server.ssh("alice", "logs -n 200")


def service(scene: Scene) -> Process:
    """A program that writes lines."""
    return scene.server.ssh("mallory", f"pub -c {DRAIN}", stdin=HELD)


def say(text: str) -> bytes:
    """A line for alice."""
    return json.dumps({"msg": text, "user": "alice"}).encode() + b"\n"


def expect(client: Process, text: str) -> None:
    """Return once alice has read this."""
    wait_until(lambda: f'"{text}"'.encode() in client.stdout.data, text)


def counted(scene: Scene, result: str) -> float:
    """How many lines came to this."""
    return scene.metrics().value("pipe_log_lines_total", result=result)


def test_lines_that_are_none(drained: Scene) -> None:
    """Lines of 10 MB, bombs of brackets, bytes that are no text are counted; the next is whole."""
    bombs = [
        (b"x" * (10 * MIB), "too-long"),
        (b"[" * 60_000, "not-json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not-json"),
        (b'{"user":"al\xff\xfeice"}', "not-json"),
        (b'{"user":"alice","n":' + b"9" * 60_000 + b"}", "not-json"),
        (b'{"user":"alice","msg":"\x1b[2J"}', "not-json"),
        (b"\0" * 60_000, "not-json"),
    ]
    with drained.attack():
        alice, writer = follow(drained), service(drained)
        for number, (bomb, result) in enumerate(bombs):
            before = counted(drained, result)
            writer.write(bomb + b"\n" + say(f"after {number}"))
            expect(alice, f"after {number}")
            assert counted(drained, result) == before + 1
        assert len(alice.stdout.data.splitlines()) == len(bombs)
        writer.close_stdin()
        assert writer.wait() == Status.OK


def test_a_million_users(drained: Scene) -> None:
    """A user more in each line costs what all rings together may, and nobody a line."""
    with drained.attack(growth=GROWTH + MAX_BYTES + 8 * MIB, kept=KEPT + MAX_BYTES):
        alice, writer = follow(drained), service(drained)
        for start in range(0, USERS, 10_000):
            numbers = range(start, start + 10_000)
            writer.write(b"".join(b'{"user":"u%d"}\n' % number for number in numbers))
        writer.write(say("after"))
        expect(alice, "after")
        lost = counted(drained, "dropped")
        assert counted(drained, "user") == USERS + 1 - lost
        assert lost == 0
        writer.close_stdin()
        assert writer.wait() == Status.OK


def test_a_follower_that_reads_nothing(drained: Scene) -> None:
    """One that reads nothing holds little, however much comes; another one gets everything."""
    with drained.attack(kept=KEPT + MAX_BYTES):
        stuck = drained.server.ssh("alice", "logs", reading=False)
        alice, writer = follow(drained), service(drained)
        for number in range(30):
            writer.write(say("x" * 1000) * 1000 + say(f"part {number}"))
            expect(alice, f"part {number}")
        assert stuck.running
        assert counted(drained, "missed") > 0
        writer.close_stdin()
        assert writer.wait() == Status.OK


def ship(scene: Scene, secret: str, body: bytes, **headers: str) -> int:
    """Send a batch, and return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", scene.server.web_port)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            "POST", "/api/logs", body, {"Authorization": f"Bearer {secret}", **named}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def test_batches_that_are_bombs(drained: Scene) -> None:
    """Bombs of gzip, brackets, newlines and empty objects are refused, at little cost to others."""
    secret = token(drained.server, "mallory", f"--logs --write {DRAIN}")
    lines, one = "application/x-ndjson", "application/json"
    bombs = [
        (gzip.compress(b"\0" * (200 * MIB)), lines, 413),
        (gzip.compress(b"\n" * MAX_BATCH_BYTES), lines, 204),
        (gzip.compress(b"{}\n" * 1_000_000), lines, 413),
        (gzip.compress(b"[" * MAX_BATCH_BYTES), one, 400),
        (gzip.compress(b"[" + b"{}," * 1_000_000), one, 413),
        (gzip.compress(b'{"resourceLogs":' + b"[" * MIB), one, 400),
        (gzip.compress(b" " * MAX_BATCH_BYTES), one, 400),
    ]
    with drained.attack(growth=64 * MIB, descriptors=20):
        alice = follow(drained)
        for body, kind, status in bombs * 3:
            found = ship(drained, secret, body, Content_Type=kind, Content_Encoding="gzip")
            assert found == status
        assert ship(drained, secret, say("after"), Content_Type=lines) == 204
        expect(alice, "after")
