"""Readers that do not read, read slowly, or promise more than they can hold."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.payloads import KIB, MIB, noise
from tests.e2e.server import Status

from . import attacks
from .peer import MAX_WINDOW
from .scene import KEPT
from .transport import PATIENCE, CutOffError

if TYPE_CHECKING:
    from .ciphers import Suite
    from .conftest import SetScene
    from .scene import Scene

pytestmark = [pytest.mark.hostile, pytest.mark.data_path]

PER_READER = 4 * MIB
"""What one stalled subscriber may hold, all buffers together."""

STALLED = 1000 if os.environ.get("PIPE_TEST_BIG") == "1" else 200

ALLOWANCE = 1.2
"""A fifth more, for what the allocator rounds up."""

HOLES = 64 * KIB
"""What Python keeps for the next one, for each subscriber and its publisher that have gone: pools
of small objects with holes.  Three crowds of 1,000 left 44.2, 44.3 and 44.7 MiB."""

IN_THE_KERNEL = 8 * MIB
"""More than two sockets hold on their way from the publisher to the subscriber."""


def clogged(scene: Scene) -> float:
    """How many readers are clogged now."""
    return scene.metrics().value("pipe_clogged_subscribers")


def test_largest_window_and_silence_hold_little(scene: Scene, suite: Suite) -> None:
    """A subscriber that promises 4 GiB and stops reading costs its share, and stops the writer."""
    with scene.attack(growth=PER_READER):
        taken = attacks.publish_to_stalled(scene.target(), suite)

    assert taken <= PER_READER + IN_THE_KERNEL


def test_small_messages_to_a_stalled_reader_hold_little(scene: Scene, suite: Suite) -> None:
    """Small messages that the kernel does not take hold what they are long, not a buffer each."""
    with scene.attack(growth=PER_READER):
        taken = attacks.small_messages_to_a_stalled_reader(scene.target(), suite, count=50_000)

    assert taken > 0


def test_lone_slow_reader_is_never_cut(set_scene: SetScene, suite: Suite) -> None:
    """Whoever nobody waits for may read at any pace: the stall rule is for the others' sake."""
    scene = set_scene(stall_timeout="500ms")
    data = noise(4 * MIB)
    with scene.attack():
        reading, writing = scene.peer(suite=suite), scene.peer()
        reader = reading.run("sub slow", window=4096)
        reader.granted = MAX_WINDOW
        writer = writing.run("pub slow")
        sent = attacks.transfer(writer, [], data, patience=2.0)
        assert sent < len(data)
        reading.send(reader.adjustment(1 << 30))
        attacks.transfer(writer, [reader], data[sent:], patience=PATIENCE)
        writer.end()
        assert reader.wait() == 0
        assert writer.wait() == 0

    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert scene.ended("stalled") == 0


def test_reader_that_others_wait_for_is_cut(set_scene: SetScene, suite: Suite) -> None:
    """Law 4: who takes nothing while others wait is cut with 74; the others get every byte."""
    scene = set_scene(stall_timeout="5s")
    data = noise(16 * MIB)
    with scene.attack():
        stalled = scene.keep(attacks.stall(scene.target(), suite, "news"))
        reading, writing = scene.peer(), scene.peer()
        reader, writer = reading.run("sub news"), writing.run("pub news")
        assert attacks.transfer(writer, [reader], data, patience=PATIENCE) == len(data)
        writer.end()
        assert reader.wait() == 0
        assert writer.wait() == 0
        with contextlib.suppress(CutOffError):
            assert stalled.channels[0].wait() == Status.BROKEN

    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert scene.ended("stalled") == 1
    scene.server.wait_lines("session ended", outcome="stalled")


def test_reader_that_asked_to_be_dropped_loses_whole_chunks(scene: Scene, suite: Suite) -> None:
    """`--on-slow drop` leaves chunks out, counts them, and says so with 75."""
    with scene.attack():
        slow = scene.peer(suite=suite, small=True)
        dropper = slow.run("sub --on-slow drop loose", window=attacks.MIB)
        dropper.granted = MAX_WINDOW
        reading, writing = scene.peer(), scene.peer()
        reader, writer = reading.run("sub loose"), writing.run("pub loose")
        data = noise(16 * MIB)
        assert attacks.transfer(writer, [reader], data, patience=PATIENCE) == len(data)
        slow.send(dropper.adjustment(1 << 30))
        writer.end()
        assert reader.wait() == 0
        assert dropper.wait() == Status.TIMEOUT
        assert writer.wait() == 0

    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert 0 < dropper.size < len(data)
    assert f"dropped {len(data) - dropper.size} bytes" in dropper.stderr.decode()


def test_reader_that_asked_to_be_cut_is_cut(scene: Scene, suite: Suite) -> None:
    """`--on-slow disconnect` ends the reader with 74 as soon as it falls behind."""
    before = scene.ended("slow")
    with scene.attack():
        slow = scene.keep(attacks.stall(scene.target(), suite, "strict", "--on-slow disconnect"))
        reading, writing = scene.peer(), scene.peer()
        reader, writer = reading.run("sub strict"), writing.run("pub strict")
        data = noise(16 * MIB)
        assert attacks.transfer(writer, [reader], data, patience=PATIENCE) == len(data)
        writer.end()
        assert reader.wait() == 0
        assert writer.wait() == 0
        with contextlib.suppress(CutOffError):
            assert slow.channels[0].wait() == Status.BROKEN

    assert reader.sha256 == hashlib.sha256(data).hexdigest()
    assert scene.ended("slow") == before + 1


def test_blocking_reader_slows_its_writer(scene: Scene, suite: Suite) -> None:
    """`--on-slow block`, the default, stops the writer until the reader goes on."""
    data = noise(8 * MIB)
    with scene.attack(growth=PER_READER):
        reading, writing = scene.peer(suite=suite), scene.peer()
        reader = reading.run("sub --on-slow block held", window=4096)
        reader.granted = MAX_WINDOW
        writer = writing.run("pub held")
        sent = 0
        while not clogged(scene):
            sent += attacks.transfer(writer, [], data[sent:], patience=0.1)
            assert sent < PER_READER
        sent += attacks.transfer(writer, [], data[sent:], patience=1.0)
        assert sent < PER_READER
        reading.send(reader.adjustment(1 << 30))
        attacks.transfer(writer, [reader], data[sent:], patience=PATIENCE)
        writer.end()
        assert reader.wait() == 0

    assert reader.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("flags", ["", "--on-slow drop"], ids=["block", "drop"])
def test_many_stalled_readers_stay_within_their_share(
    set_scene: SetScene, suite: Suite, flags: str
) -> None:
    """Subscribers that read nothing, each on a topic of its own, hold 4 MiB each at the most."""
    scene = set_scene()
    count = STALLED // 4 if flags else STALLED
    bound = int(count * PER_READER * ALLOWANCE)
    kept = max(KEPT, count * HOLES)
    with scene.attack(growth=bound, descriptors=2 * count + 8, kept=kept):
        writers = []
        for number in range(count):
            scene.keep(attacks.stall(scene.target(), suite, f"stalled-{number}", flags))
            writers.append(scene.peer(suite=suite).run(f"pub stalled-{number}"))
        if flags:
            taken = attacks.fill_all(writers, 6 * MIB, PATIENCE)
            assert taken == count * 6 * MIB
            assert clogged(scene) == 0
        else:
            taken = attacks.fill_all(writers, 64 * MIB)
            while clogged(scene) < count:
                taken += attacks.fill_all(writers, 64 * MIB)
            assert taken <= count * (PER_READER + IN_THE_KERNEL)
        assert scene.metrics().value("pipe_send_buffer_bytes") <= count * PER_READER


def test_stalled_readers_leave_nothing_behind(set_scene: SetScene, suite: Suite) -> None:
    """A second crowd that stalls on one topic takes the memory that the first one gave back."""
    scene = set_scene(stall_timeout="1h")
    count = STALLED // 2
    bound = int(count * PER_READER * ALLOWANCE)
    for _ in range(2):
        with scene.attack(growth=bound, descriptors=count + 8):
            for _ in range(count):
                scene.keep(attacks.stall(scene.target(), suite, "shared"))
            writer = scene.peer(suite=suite).run("pub shared")
            taken = attacks.fill(writer, 64 * MIB)
            while clogged(scene) < count:
                taken += attacks.fill(writer, 64 * MIB)
            assert taken <= PER_READER + IN_THE_KERNEL

    first, second = (figures.before.memory + figures.growth for figures in scene.figures)
    assert second <= ALLOWANCE * first
