"""Floods: much of something that is allowed, or asked for, or not read."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import asyncssh
import pytest
from asyncssh.constants import MSG_REQUEST_FAILURE

from tests.e2e.payloads import MIB, noise, sha256
from tests.e2e.processes import statuses
from tests.e2e.server import Status

from . import attacks
from .peer import MAX_WINDOW, global_request
from .transport import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ciphers import Suite
    from .conftest import SetScene
    from .peer import Target
    from .scene import Scene
    from .transport import CutOffError

pytestmark = pytest.mark.hostile


@pytest.mark.data_path
def test_one_byte_packets_starve_nobody(scene: Scene, suite: Suite) -> None:
    """A stream of one-byte packets arrives whole and counted, at no cost in memory."""
    before = scene.metrics().value("pipe_received_chunks_total")
    with scene.attack():
        status = attacks.flood_data(scene.target(), suite, count=100_000)

    assert status == 0
    metrics = scene.metrics()
    assert metrics.value("pipe_received_chunks_total") - before >= 100_000


@pytest.mark.data_path
def test_ignored_messages_starve_nobody(scene: Scene, suite: Suite) -> None:
    """Messages that mean nothing are passed over; the connection goes on."""
    with scene.attack():
        assert attacks.flood_ignore(scene.target(), suite, count=100_000) == 0


@pytest.mark.data_path
@pytest.mark.parametrize("size", [1, 7])
def test_small_packets_into_a_pause_are_kept_small(scene: Scene, suite: Suite, size: int) -> None:
    """A window full of tiny packets costs a paused publisher's window, and all of it arrives."""
    with scene.attack(growth=12 * MIB):
        paused = attacks.small_packets_into_a_pause(scene.target(), suite, size=size)

    assert paused.received == paused.sent
    assert paused.sent > MIB


@pytest.mark.data_path
@pytest.mark.parametrize(
    "flood", [attacks.flood_requests, attacks.flood_channel_requests], ids=["global", "channel"]
)
def test_unread_answers_end_the_connection(
    set_scene: SetScene, suite: Suite, flood: Callable[[Target, Suite], tuple[int, CutOffError]]
) -> None:
    """Who asks and asks and reads nothing is cut off before the answers fill the memory."""
    scene = set_scene(max_unsent="2MiB", unread_timeout="10m")
    with scene.attack():
        taken, _ = flood(scene.target(), suite)

    assert taken < attacks.QUESTIONS
    assert scene.metrics().value("pipe_disconnects_total", reason="overflow") == 1


def test_questions_during_a_key_exchange_end_the_connection(
    set_scene: SetScene, suite: Suite
) -> None:
    """Answers that wait for new keys have a bound as well."""
    scene = set_scene()
    with scene.attack(growth=32 * MIB):
        peer = scene.peer(suite=suite)
        peer.answers_rekeys = False
        peer.begin_kex()
        peer.flood([global_request("no-such-request@example.org")] * attacks.QUESTIONS)
        peer.wait_cut()


@pytest.mark.data_path
def test_silence_in_a_key_exchange_holds_nothing_up_for_long(
    set_scene: SetScene, suite: Suite
) -> None:
    """Who begins a key exchange and falls silent is cut off; the other reader gets it all."""
    scene = set_scene(rekey_timeout="2s")
    data = noise(8 * MIB)
    with scene.attack(growth=16 * MIB):
        silent, reading, writing = scene.peer(suite=suite), scene.peer(), scene.peer()
        silent.run("sub news", window=MAX_WINDOW)
        silent.answers_rekeys = False
        silent.begin_kex()
        reader, writer = reading.run("sub news"), writing.run("pub news")
        assert attacks.transfer(writer, [reader], data, patience=PATIENCE) == len(data)
        writer.end()
        assert reader.wait() == 0
        assert writer.wait() == 0
        silent.wait_cut()

    assert reader.sha256 == hashlib.sha256(data).hexdigest()


def test_channels_are_counted(scene: Scene, suite: Suite) -> None:
    """Of 10,000 channels ten are opened, and the others cost nothing."""
    refused_before = scene.metrics().value("pipe_refused_total", reason="sessions")
    with scene.attack():
        opened, refused = attacks.flood_opens(scene.target(), suite)

    assert (opened, refused) == (10, 9990)
    assert scene.metrics().value("pipe_refused_total", reason="sessions") - refused_before == 9990


def test_channels_that_are_never_closed_stay_counted(scene: Scene, suite: Suite) -> None:
    """Who never answers a CLOSE has no more channels for that."""
    with scene.attack():
        peer = scene.peer(suite=suite)
        for _ in range(10):
            channel = peer.run("whoami")
            channel.answers_close = False
            assert channel.wait() == 0
        with pytest.raises(ConnectionRefusedError, match="10 sessions"):
            peer.open()


def test_environment_is_not_kept(scene: Scene, suite: Suite) -> None:
    """Variables of 9 MB in all go nowhere."""
    with scene.attack(growth=4 * MIB):
        assert attacks.flood_environment(scene.target(), suite) == 0


def test_key_exchanges_with_strangers(scene: Scene, suite: Suite) -> None:
    """Two hundred key exchanges that lead to no login leave nothing behind."""
    with scene.attack():
        attacks.flood_key_exchanges(scene.target(), suite)


@pytest.mark.data_path
def test_rekeying_without_end(scene: Scene, suite: Suite) -> None:
    """Three hundred key exchanges in a row on one connection leave it as it was."""
    with scene.attack():
        assert attacks.rekey_without_end(scene.target(), suite) == 0


@pytest.mark.data_path
def test_rekeying_in_mid_stream_loses_nothing(scene: Scene, suite: Suite) -> None:
    """A publisher and a subscriber that rekey at every turn have the same bytes in the end."""
    pieces = [noise(100_000, seed) for seed in range(60)]
    with scene.attack():
        reading, writing = scene.peer(suite=suite), scene.peer(suite=suite)
        reader, writer = reading.run("sub keys"), writing.run("pub keys")
        size = 0
        for piece in pieces:
            assert writer.send(piece) == len(piece)
            writing.rekey()
            size += len(piece) // 2
            reader.read(size)
            reading.rekey()
            size += len(piece) - len(piece) // 2
        writer.end()
        assert reader.wait() == 0
        assert writer.wait() == 0

    assert reader.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_keys_that_all_change_in_a_fan_out(set_scene: SetScene) -> None:
    """All clients and the server want new keys after each MiB, on both paths: no byte is lost."""
    scene = set_scene(rekey_bytes="1MiB")
    server = scene.server
    data = noise(24 * MIB)
    often = ("-o", "RekeyLimit=1M", "-o", "LogLevel=DEBUG1")
    ciphers = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"]
    with scene.attack(descriptors=16):
        readers = [
            server.ssh("alice", "sub keys", options=("-c", cipher, *often))
            for cipher in ciphers * 2
        ]
        server.wait_sessions(subscribe=1 + len(readers))
        writer = server.ssh("alice", f"pub -m {len(readers)} keys", stdin=data, options=often)
        assert statuses(writer, *readers) == [Status.OK] * 7

    for client in (writer, *readers):
        changes = client.text.count("SSH2_MSG_NEWKEYS received") - 1
        assert changes >= len(data) // MIB // 2, client
    assert {sha256(reader.stdout.data) for reader in readers} == {sha256(data)}


def test_metrics_do_not_grow_with_topics(scene: Scene, suite: Suite) -> None:
    """Five hundred topics come and go; the metrics have as many lines as before."""
    before = scene.metrics()
    with scene.attack(growth=8 * MIB):
        assert attacks.flood_topics(scene.target(), suite) == {0}
    after = scene.metrics()

    assert {(s.name, *s.labels.items()) for s in after.samples} == {
        (s.name, *s.labels.items()) for s in before.samples
    }


def test_lists_of_many_topics(scene: Scene, suite: Suite) -> None:
    """Sixty lists of five hundred topics come whole, and their memory comes back."""
    with scene.attack(descriptors=64):
        answers = attacks.flood_lists(scene.target(), suite)

    assert len(answers) == 60
    for status, size in answers:
        assert status == 0
        assert size > 500 * len("0  1  0  0  0 B/s  0 B/s  0 B  0 B  mallory waiting\n")


def test_topics_come_and_go_under_many_patterns(scene: Scene, suite: Suite) -> None:
    """A hundred readers of a pattern get every byte of topics that are there for a moment."""
    with scene.attack(descriptors=32):
        assert attacks.topics_for_many_patterns(scene.target(), suite) == {50}


def test_readers_of_all_topics_hang_up_at_once(scene: Scene, suite: Suite) -> None:
    """A hundred readers that come and go together leave their writers waiting as before."""
    with scene.attack(descriptors=64):
        assert attacks.patterns_hang_up(scene.target(), suite) == 300


def test_key_exchanges_with_long_lists(scene: Scene, suite: Suite) -> None:
    """A hundred key exchanges whose lists name all that nobody knows cost a message's memory."""
    with scene.attack():
        assert attacks.rekey_with_long_lists(scene.target(), suite) == 0


def test_host_key_signs_nothing_on_demand(scene: Scene, suite: Suite) -> None:
    """A message may ask for thousands of signatures by the host key: it gets none."""
    with scene.attack():
        assert attacks.ask_for_proofs(scene.target(), suite) == {MSG_REQUEST_FAILURE}


@pytest.mark.parametrize("most", [0, 1, 1023])
def test_tiny_packets_are_not_sent(scene: Scene, suite: Suite, most: int) -> None:
    """A reader that wants its bytes in crumbs is refused: each crumb costs what a packet costs."""
    with scene.attack(), pytest.raises(ConnectionRefusedError, match="packets of less than"):
        attacks.small_packets_wanted(scene.target(), suite, most=most)


@pytest.mark.data_path
def test_smallest_packets_starve_nobody(scene: Scene, suite: Suite) -> None:
    """The smallest packets that may be asked for bring all bytes."""
    with scene.attack():
        assert attacks.small_packets_wanted(scene.target(), suite, most=1024) == MIB


@pytest.mark.data_path
def test_smallest_windows_starve_nobody(scene: Scene, suite: Suite) -> None:
    """A window that opens byte by byte lets all bytes through, one at a time."""
    with scene.attack():
        assert attacks.one_byte_windows(scene.target(), suite, size=20_000) == 20_000


@pytest.mark.data_path
def test_tiny_chunks_for_a_stalled_reader_are_bounded(scene: Scene, suite: Suite) -> None:
    """A reader whose window is shut holds no more of a stream of one-byte chunks than of others."""
    with scene.attack():
        sent, received = attacks.crumbs_for_a_shut_window(scene.target(), suite, count=100_000)

    assert received == sent


@pytest.mark.data_path
def test_tiny_chunks_for_many_readers(scene: Scene, suite: Suite) -> None:
    """One-byte chunks to a hundred readers arrive at all of them."""
    with scene.attack(descriptors=16):
        assert attacks.small_packets_for_many(scene.target(), suite, readers=100) == 2000


@pytest.mark.data_path
def test_unread_input_of_a_command_is_bounded(scene: Scene, suite: Suite) -> None:
    """Input for a command that reads none is thrown away as it comes."""
    with scene.attack(growth=8 * MIB):
        peer = scene.peer(suite=suite)
        channel = peer.run("sub -k input")
        sent = channel.send(bytes(16 * MIB))
        assert sent == 16 * MIB


@pytest.mark.data_path
def test_window_is_a_bound_for_a_publisher_without_readers(scene: Scene, suite: Suite) -> None:
    """A publisher that nobody reads can send its window, and not a byte more."""
    with scene.attack(growth=4 * MIB):
        peer = scene.peer(suite=suite)
        channel = peer.run("pub nobody")
        window = channel.window
        assert attacks.fill(channel, 16 * MIB) == window
        assert peer.provoke(channel.packet(b"x")).code == asyncssh.DISC_PROTOCOL_ERROR
