"""Peers that do not come to an end: logins that take for ever, answers that never come."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.e2e import clients
from tests.e2e.payloads import MIB
from tests.e2e.processes import wait_until
from tests.e2e.server import Status

from . import attacks
from .ciphers import LANE, PLAIN
from .peer import Peer, ignore
from .transport import PATIENCE, CutOffError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ciphers import Suite
    from .conftest import SetScene
    from .scene import Scene

pytestmark = pytest.mark.hostile

HALF_OPEN = 500
"""Connections that never log in: five times what the server may have at once."""

SILENCES = {
    "not a byte": b"",
    "a version": b"SSH-2.0-silent\r\n",
    "half a version": b"SSH-2.0-si",
    "half a packet": b"SSH-2.0-x\r\n\0\0\4\0\5\x14",
}
"""How far a connection may get before it falls silent."""


@pytest.mark.parametrize("beginning", SILENCES.values(), ids=SILENCES)
def test_silence_before_the_login_is_cut(set_scene: SetScene, beginning: bytes) -> None:
    """A connection that does not log in is closed when its time is up."""
    scene = set_scene(login_timeout="1s")
    with scene.attack():
        stranger = scene.stranger()
        stranger.send_bytes(beginning)
        stranger.read_to_end()


def test_dribbling_before_the_login_is_cut(set_scene: SetScene) -> None:
    """Bytes that come one by one do not prolong the time for the login."""
    scene = set_scene(login_timeout="1s")
    before = scene.metrics().value("pipe_disconnects_total", reason="login-timeout")
    with scene.attack():
        stranger = scene.stranger()
        with contextlib.suppress(ConnectionError):
            while not select.select([stranger.socket], [], [], 0.05)[0] or stranger.socket.recv(99):
                stranger.socket.send(b"S")

    scene.server.wait_metric("pipe_disconnects_total", before + 1, reason="login-timeout")


def test_keys_exchanged_over_and_over_before_the_login_are_cut(
    set_scene: SetScene, suite: Suite
) -> None:
    """Key exchanges do not prolong it either."""
    scene = set_scene(login_timeout="1s")
    with scene.attack():
        stranger = scene.stranger(suite=suite)
        with pytest.raises(CutOffError):
            _rekey_for_ever(stranger)


def _rekey_for_ever(peer: Peer) -> None:
    peer.connect()
    while True:
        peer.rekey()


def _make_noise_for_ever(peer: Peer) -> None:
    while True:
        peer.send(ignore(b"still here"))
        peer.take(0.2)


@pytest.mark.data_path
def test_client_that_answers_nothing_is_gone(set_scene: SetScene, suite: Suite) -> None:
    """Who answers no keepalive is closed after so many of them."""
    scene = set_scene(keepalive_interval="2s", keepalive_count=3)
    with scene.attack():
        peer = scene.peer(suite=suite)
        peer.run("sub -k quiet")
        peer.answers_keepalives = False
        peer.wait_cut_handling()
        assert 1 <= peer.keepalives <= 4


@pytest.mark.data_path
def test_noise_is_no_answer(set_scene: SetScene, suite: Suite) -> None:
    """Who answers no keepalive but sends IGNORE all the time is closed all the same."""
    scene = set_scene(keepalive_interval="2s", keepalive_count=3)
    if scene.server.lane != "fast":
        pytest.skip("for asyncssh any byte is a sign of life")
    with scene.attack():
        peer = scene.peer(suite=suite)
        peer.run("sub -k noisy")
        peer.answers_keepalives = False
        with pytest.raises(CutOffError):
            _make_noise_for_ever(peer)


def test_connection_without_a_channel_is_left_alone_for_a_while(scene: Scene, suite: Suite) -> None:
    """A login without a session costs a connection, and is counted as one."""
    with scene.attack():
        scene.peer(suite=suite)
        scene.server.wait_metric("pipe_connections", 3)


@pytest.mark.data_path
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shut_windows_do_not_keep_the_server(
    set_scene: SetScene, suite: Suite, number: signal.Signals
) -> None:
    """A server that ends waits for no window: it is gone after its drain, with status 0."""
    scene = set_scene(drain="1s")
    reader = scene.peer(suite=suite).run("sub shut", window=0)
    writer = scene.peer(suite=suite).run("pub shut")
    assert attacks.transfer(writer, [], bytes(MIB // 2), patience=1.0) == MIB // 2
    writer.end()
    scene.server.process.send_signal(number)

    assert scene.server.process.wait() == Status.OK
    assert reader.size == 0
    scene.server.check_log()


@pytest.mark.data_path
def test_shut_window_does_not_keep_a_session(scene: Scene, suite: Suite) -> None:
    """A reader that leaves with its window shut leaves nothing behind."""
    with scene.attack():
        reader = scene.peer(suite=suite).run("sub left", window=0)
        writer = scene.peer(suite=suite).run("pub -b=false left")
        assert attacks.transfer(writer, [], bytes(MIB // 2), patience=1.0) == MIB // 2
        writer.end()
        reader.close()
        assert writer.wait() == Status.BROKEN
        assert b"left early" in writer.stderr


@contextlib.contextmanager
def half_open(scene: Scene, count: int, sources: int) -> Iterator[list[socket.socket]]:
    """So many connections that say half of a version, from so many addresses in 127.0.0.0/8."""
    address = (clients.HOST, scene.server.port)
    with contextlib.ExitStack() as stack:
        opened = []
        for number in range(count):
            source = (f"127.1.{number % sources}.1", 0)
            with contextlib.suppress(OSError):
                stranger = socket.create_connection(
                    address, timeout=PATIENCE, source_address=source
                )
                opened.append(stack.enter_context(stranger))
                stranger.send(b"SSH-2.")
        yield opened


def is_open(stranger: socket.socket) -> bool:
    """Whether the server has neither closed this connection nor sent it away."""
    stranger.settimeout(0.0)
    try:
        data = stranger.recv(1 << 16)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return data.startswith(b"SSH-2.0-") and b"\n" in data and is_open(stranger)


def test_half_open_connections_are_gone_in_time(set_scene: SetScene) -> None:
    """Hundreds that never log in are gone when their time is up, and leave nothing behind."""
    scene = set_scene(login_timeout="2s")
    with (
        scene.attack(growth=64 * MIB, descriptors=HALF_OPEN + 8, kept=64 * MIB),
        half_open(scene, HALF_OPEN, sources=50) as strangers,
    ):
        wait_until(lambda: not any(map(is_open, strangers)), "all are closed")


@pytest.mark.parametrize(("sources", "most"), [(1, 10), (100, 100)])
def test_half_open_connections_are_few(set_scene: SetScene, sources: int, most: int) -> None:
    """Of five hundred at most ten of one address stay, and at most a hundred of all."""
    scene = set_scene(trusted_sources="none", penalty_max="1s", login_timeout="10m")
    with (
        scene.attack(growth=32 * MIB, descriptors=116),
        half_open(scene, HALF_OPEN, sources) as strangers,
    ):
        wait_until(lambda: sum(map(is_open, strangers)) <= most, f"at most {most} are open")


def test_others_get_in_beside_half_open_connections(set_scene: SetScene) -> None:
    """Another address logs in and works while one holds as many connections as it can."""
    scene = set_scene(trusted_sources="none")
    with (
        scene.attack(growth=96 * MIB, descriptors=HALF_OPEN + 16, kept=64 * MIB),
        half_open(scene, HALF_OPEN, sources=1),
    ):
        for suite in (LANE, PLAIN):
            peer = scene.peer("alice", suite=suite, source="127.0.0.2")
            assert peer.run("whoami").wait() == 0


def test_connections_that_are_reset_at_once(scene: Scene) -> None:
    """Connections that are reset before, in and after the key exchange leave nothing behind."""
    with scene.attack(descriptors=64):
        for number in range(150):
            peer = Peer(scene.target(), suite=LANE if number % 2 else PLAIN)
            if number % 3 == 1:
                peer.exchange_versions()
                peer.begin_kex()
            elif number % 3 == 2:
                peer.log_in()
                peer.run("sub -k reset")
            peer.reset()
