"""A bad network: through a proxy of our own, streams arrive whole or end for a reason."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.e2e import clients
from tests.e2e.payloads import MIB, noise, sha256
from tests.e2e.processes import HELD, Process, statuses
from tests.e2e.server import Status

from .proxy import Proxy, Weather

if TYPE_CHECKING:
    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

BAD = {
    "latency": Weather(latency=0.05),
    "jitter": Weather(latency=0.01, jitter=0.05),
    "bandwidth": Weather(bytes_per_second=2 * MIB),
    "tiny slices": Weather(slices=97),
    "all at once": Weather(latency=0.01, jitter=0.01, slices=1400, bytes_per_second=4 * MIB),
}
"""Weather through which everything arrives."""


def ssh(scene: Scene, proxy: Proxy, user: str, command: str, stdin: bytes | None = None) -> Process:
    """The real `ssh`, through the proxy; without `stdin` its input is held open."""
    key = scene.server.keys.openssh(user)
    return scene.server.adopt(
        Process(
            clients.openssh(proxy.port, key, user, command),
            stdin=HELD if stdin is None else stdin,
            environment=clients.bare_environment(),
        )
    )


@pytest.mark.parametrize("weather", BAD.values(), ids=BAD)
def test_stream_survives_bad_weather(scene: Scene, weather: Weather) -> None:
    """Both ends behind a bad network: every byte arrives, in order, and both sides know."""
    data = noise(512 * 1024 if weather.slices == 97 else 4 * MIB)
    with Proxy(scene.server.port, weather) as proxy, scene.attack():
        reader = ssh(scene, proxy, "alice", "sub weather")
        scene.server.wait_metric("pipe_sessions", 2, mode="subscribe")
        writer = ssh(scene, proxy, "alice", "pub weather", data)
        assert statuses(writer, reader) == [Status.OK] * 2

    assert sha256(reader.stdout.data) == sha256(data)
    assert f"sent {len(data)} bytes to 1 subscriber" in writer.text


def test_publisher_that_is_reset_breaks_its_stream(scene: Scene) -> None:
    """A reset in mid-stream is no end of file: the reader ends with 74, and has a prefix."""
    data = noise(4 * MIB)
    broken = scene.ended("broken")
    with Proxy(scene.server.port, Weather(reset_after=MIB)) as proxy, scene.attack():
        [reader] = scene.server.subscribe("alice", "sub reset")
        writer = ssh(scene, proxy, "alice", "pub reset", data)
        assert writer.wait() == Status.NO_CONNECTION
        assert reader.wait() == Status.BROKEN

    assert data.startswith(reader.stdout.data)
    assert 0 < len(reader.stdout.data) < len(data)
    assert scene.ended("broken") == broken + 1


def test_subscriber_that_is_reset_leaves_the_others_alone(scene: Scene) -> None:
    """One reader's reset costs the other reader nothing, and the writer goes on."""
    data = noise(8 * MIB)
    with Proxy(scene.server.port, Weather(reset_after=MIB)) as proxy, scene.attack():
        lost = ssh(scene, proxy, "alice", "sub reset")
        scene.server.wait_metric("pipe_sessions", 2, mode="subscribe")
        [reader] = scene.server.subscribe("alice", "sub reset")
        writer = scene.server.ssh("alice", "pub -m 2 reset", stdin=data)
        assert statuses(writer, reader) == [Status.OK] * 2
        assert lost.wait() == Status.NO_CONNECTION

    assert sha256(reader.stdout.data) == sha256(data)
    assert "to 2 subscribers, 1 of them left early" in writer.text


def test_half_closed_publisher_breaks_its_stream(scene: Scene) -> None:
    """A TCP connection that ends without SSH's own end is a broken stream, not the end of one."""
    data = noise(4 * MIB)
    with Proxy(scene.server.port, Weather(half_close_after=MIB)) as proxy, scene.attack():
        [reader] = scene.server.subscribe("alice", "sub half")
        writer = ssh(scene, proxy, "alice", "pub half", data)
        assert reader.wait() == Status.BROKEN
        writer.kill()

    assert data.startswith(reader.stdout.data)


@pytest.mark.parametrize("part", ["publisher", "subscriber"])
def test_who_vanishes_is_found_out(set_scene: SetScene, part: str) -> None:
    """Through a black hole there is no end; keepalive finds out, and the others hear of it."""
    scene = set_scene(keepalive_interval="2s", keepalive_count=3)
    data = noise(4 * MIB)
    with Proxy(scene.server.port, Weather(vanish_after=MIB)) as proxy, scene.attack():
        if part == "publisher":
            [reader] = scene.server.subscribe("alice", "sub hole")
            writer = ssh(scene, proxy, "alice", "pub hole", data)
            assert reader.wait() == Status.BROKEN
        else:
            reader = ssh(scene, proxy, "alice", "sub hole")
            scene.server.wait_metric("pipe_sessions", 2, mode="subscribe")
            writer = scene.server.ssh("alice", "pub -b=false hole", stdin=data)
            assert writer.wait() == Status.BROKEN
            assert "to 1 subscriber, 1 of them left early" in writer.text
        scene.server.wait_metric("pipe_connections", 2)

    assert data.startswith(reader.stdout.data)


def test_login_through_tiny_slices(scene: Scene) -> None:
    """A handshake that comes in pieces of one to three bytes is a handshake."""
    with Proxy(scene.server.port, Weather(slices=3)) as proxy, scene.attack():
        client = ssh(scene, proxy, "alice", "whoami", b"")
        assert client.wait() == Status.OK

    assert "alice" in client.output


def test_many_resets_leave_nothing_behind(scene: Scene) -> None:
    """Connections cut after any number of bytes, handshake and all, leave the server as it was."""
    with scene.attack(descriptors=16):
        for after in (1, 30, 700, 1500, 2000, 2600, 3200, 4000, 6000, 9000):
            with Proxy(scene.server.port, Weather(reset_after=after)) as proxy:
                client = ssh(scene, proxy, "alice", "pub -b=false cut", bytes(20_000))
                with contextlib.suppress(AssertionError):
                    client.wait(10.0)
                client.kill()
