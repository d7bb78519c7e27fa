"""Crowds of one user who stays inside all limits: everybody comes, goes and resumes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.payloads import MIB
from tests.e2e.processes import wait_until

from . import crowds
from .crowds import Crowd

if TYPE_CHECKING:
    from .ciphers import Suite
    from .scene import Scene

pytestmark = pytest.mark.hostile

SESSIONS = 500

ROOM = 64 * MIB
"""What so many sessions and their connections may take, some 40 KiB each."""


def wait_for_sessions(scene: Scene, count: int) -> None:
    """Return once the crowd has so many sessions on its topic."""
    before = 2  # the innocent user's
    wait_until(lambda: scene.metrics().value("pipe_sessions") == before + count, f"{count} there")


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_crowd_comes_and_goes_at_once(scene: Scene, suite: Suite, ending: str) -> None:
    """Hundreds of sessions join one topic at once, and leave it at once, and may come again."""
    with scene.attack(growth=ROOM, kept=ROOM, descriptors=SESSIONS // crowds.SESSIONS + 16):
        for _ in range(2):
            with Crowd(scene.target(), suite, SESSIONS) as crowd:
                crowd.join()
                wait_for_sessions(scene, SESSIONS)
                if ending == "close":
                    crowd.close()
                else:
                    crowd.reset()
                wait_for_sessions(scene, 0)


def test_publishers_wait_for_a_reader_who_comes_and_goes(scene: Scene, suite: Suite) -> None:
    """Hundreds that wait start with the reader, and wait again without it."""
    with scene.attack(growth=ROOM, kept=ROOM, descriptors=SESSIONS // crowds.SESSIONS + 16):
        assert crowds.waiting_publishers(scene.target(), suite, SESSIONS) == 3


@pytest.mark.parametrize("dispatch", ["multicast", "round_robin"])
def test_stream_of_newlines_starves_nobody(scene: Scene, suite: Suite, dispatch: str) -> None:
    """Records cost by the byte: as many as there are bytes arrive whole, dealt out or at each."""
    with scene.attack(growth=ROOM):
        size = crowds.flood_of_newlines(scene.target(), suite, f"-d {dispatch}", 8 * MIB)
    assert size == 8 * MIB * (2 if dispatch == "multicast" else 1)


def test_windows_full_of_newlines_take_turns(scene: Scene, suite: Suite) -> None:
    """Publishers that waited with a window of newlines each go on beside everybody else."""
    with scene.attack(growth=2 * ROOM, kept=2 * ROOM, descriptors=32):
        size = crowds.newlines_that_waited(scene.target(), suite, "-s block", count=50)
    assert size >= 50 * (MIB // 4)
