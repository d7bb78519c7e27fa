"""A cable that is pulled and a disk that is full, by the kernel's own means; as root on Linux."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e import clients
from tests.e2e.payloads import MIB, noise, sha256
from tests.e2e.processes import HELD, Pace, Process, statuses, wait_until
from tests.e2e.server import Status

from .namespaces import NEAR_ADDRESS, Cable, filled, on_a_small_disk, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.clients import KeyRing

    from .conftest import SetScene
    from .scene import Scene

pytestmark = [pytest.mark.hostile, pytest.mark.xdist_group("namespaces")]
"""One at a time: what they cut has the same name and addresses in all of them."""

SLOWLY = Pace(piece=8192, pause=0.005)
"""Keeps some MiB moving for longer than it takes to cut a cable, or until their reader hurries."""

UNAVAILABLE = "pipe: the accounts database does not answer: try again later"

CUTS = {"pulled": Cable.pull, "swallowed": Cable.swallow}
"""Ways for nothing to come from the far end any more."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    """A network that can be cut, with the test at its near end."""
    try:
        with Cable().laid() as cable:
            yield cable
    except PermissionError as error:
        pytest.skip(f"no network namespaces here: {error}")


def from_afar(
    scene: Scene, cable: Cable, command: str, stdin: bytes | None = None, pace: Pace | None = None
) -> Process:
    """The real `ssh` at the far end; without `stdin` its input is held open."""
    key = scene.server.keys.openssh("alice")
    words = clients.openssh(scene.server.port, key, "alice", command, host=NEAR_ADDRESS)
    return scene.server.adopt(
        Process(
            cable.from_afar(words),
            stdin=HELD if stdin is None else stdin,
            pace=pace,
            environment=clients.bare_environment(),
        )
    )


def wait_gone(scene: Scene, cable: Cable) -> None:
    """Return once keepalive has found out, and not even the kernel holds anything any more."""
    scene.server.wait_metric("pipe_disconnects_total", 1, reason="dead")
    wait_until(lambda: not cable.left_in_the_kernel(), "no connection is left in the kernel")


@pytest.mark.parametrize("cut", CUTS)
def test_publisher_behind_a_black_hole(cable: Cable, set_scene: SetScene, cut: str) -> None:
    """Its reader ends with 74 and a prefix, within the time of the keepalives."""
    scene = set_scene(host="0.0.0.0", keepalive_interval="1s", keepalive_count=2)  # noqa: S104
    data = noise(32 * MIB)
    with scene.attack():
        reader = scene.server.ssh("alice", "sub hole", pace=SLOWLY)
        scene.server.wait_sessions(subscribe=2)
        writer = from_afar(scene, cable, "pub hole", data)
        reader.wait_stdout(64 * 1024)
        CUTS[cut](cable)
        assert reader.wait() == Status.BROKEN
        wait_gone(scene, cable)
        writer.kill()

    assert data.startswith(reader.stdout.data)
    assert 0 < len(reader.stdout.data) < len(data)


@pytest.mark.parametrize("cut", CUTS)
def test_subscriber_behind_a_black_hole(cable: Cable, set_scene: SetScene, cut: str) -> None:
    """The other reader gets every byte, the writer is told that one left early."""
    scene = set_scene(host="0.0.0.0", keepalive_interval="1s", keepalive_count=2)  # noqa: S104
    data = noise(32 * MIB)
    with scene.attack():
        lost = from_afar(scene, cable, "sub hole", pace=SLOWLY)
        reader = scene.server.ssh("alice", "sub hole")
        scene.server.wait_sessions(subscribe=3)
        writer = scene.server.ssh("alice", "pub -m 2 hole", stdin=data)
        lost.wait_stdout(64 * 1024)
        CUTS[cut](cable)
        assert statuses(writer, reader) == [Status.OK] * 2
        wait_gone(scene, cable)
        lost.kill()

    assert sha256(reader.stdout.data) == sha256(data)
    assert "to 2 subscribers, 1 of them left early" in writer.text


@pytest.mark.parametrize("cut", CUTS)
def test_pipe_behind_a_black_hole(cable: Cable, set_scene: SetScene, cut: str) -> None:
    """Those who talked with it go on among themselves."""
    scene = set_scene(host="0.0.0.0", keepalive_interval="1s", keepalive_count=2)  # noqa: S104
    with scene.attack():
        near = scene.server.ssh("alice", "pipe talk", stdin=HELD)
        scene.server.wait_sessions(pipe=1)
        lost = from_afar(scene, cable, "pipe talk")
        scene.server.wait_sessions(pipe=2)
        near.write(b"hello")
        lost.wait_stdout(5)
        CUTS[cut](cable)
        near.write(b"is anybody there?")
        wait_gone(scene, cable)
        scene.server.wait_sessions(pipe=1)
        other = scene.server.ssh("alice", "pipe talk", stdin=HELD)
        scene.server.wait_sessions(pipe=2)
        near.write(b"yes")
        other.wait_stdout(3)
        lost.kill()

    assert other.stdout.data == b"yes"


def test_cable_that_is_plugged_in_again(cable: Cable, set_scene: SetScene) -> None:
    """An outage that TCP survives costs nothing but time, in either direction."""
    scene = set_scene(host="0.0.0.0")  # noqa: S104
    data = noise(16 * MIB)
    with scene.attack():
        reader = from_afar(scene, cable, "sub outage", pace=SLOWLY)
        scene.server.wait_sessions(subscribe=2)
        writer = from_afar(scene, cable, "pub outage", data)
        reader.wait_stdout(64 * 1024)
        cable.pull()
        scene.innocent.go_on()
        cable.plug_in()
        reader.stdout.hurry()
        assert statuses(writer, reader) == [Status.OK] * 2

    assert sha256(reader.stdout.data) == sha256(data)


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """What runs a server on a data folder of 2 MiB."""
    words = on_a_small_disk(tmp_path / "data0", 2)
    try:
        run(*words, "true")
    except PermissionError as error:
        pytest.skip(f"no mount namespaces here: {error}")
    return words


def test_disk_that_is_full(set_scene: SetScene, small_disk: list[str], keys: KeyRing) -> None:
    """What must be written down fails with a line each; nothing else does, and no stream."""
    scene = set_scene(within=small_disk)
    server = scene.server
    server.introduce("alice", "bob")
    disk = Path(f"/proc/{server.pid}/root{server.data_dir}")
    grant = "grant moving bob --read"
    assert server.run("alice", grant).wait() == Status.OK
    data = noise(16 * MIB)
    with scene.attack():
        reader = server.ssh("bob", "sub alice/moving", pace=SLOWLY)
        server.wait_sessions(subscribe=2)
        writer = server.ssh("alice", "pub -c moving", stdin=data)
        reader.wait_stdout(64 * 1024)
        with filled(disk):
            commands = {grant: None, "revoke moving bob": None, "keys add": keys.public("carol")}
            for command, stdin in commands.items():
                client = server.run("alice", command, stdin)
                assert client.wait() == Status.SHUTDOWN, client
                assert client.lines == [UNAVAILABLE]
            newcomer = server.run("newcomer", "whoami")
            assert newcomer.wait() == Status.NO_CONNECTION
            assert len(newcomer.lines) == 1
            assert "The accounts database does not answer" in newcomer.text
            assert server.run("alice", "whoami").wait() == Status.OK
            reader.stdout.hurry()
            assert statuses(writer, reader) == [Status.OK] * 2
        assert server.run("newcomer", "whoami").wait() == Status.OK
        assert server.run("alice", "keys add", keys.public("carol")).wait() == Status.OK
        assert server.run("alice", "revoke moving bob").wait() == Status.OK
        assert server.run("bob", "sub alice/moving").wait() == Status.DENIED

    assert sha256(reader.stdout.data) == sha256(data)
    told = server.lines("command not carried out", user="alice")
    assert len(told) == len(commands)
    assert all("database or disk is full" in line["error"] for line in told)
