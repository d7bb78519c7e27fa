"""Transfers between clients of several workers, some of which are killed or stand still meanwhile.

Chance decides, by a seed, who is where, what is sent and how, and what becomes of which worker.  At
which moment that meets a transfer depends on the machine: what is claimed holds at every moment.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import signal
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from .conftest import SharedServer
from .server import HOPPING, MOVING, Status
from .test_receipts import SEED, Told, told
from .test_spread import at
from .test_workers import workers_of
from .transfers import MANY, run_transfers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import KeyRing
    from .server import Server
    from .transfers import Place

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

WORKERS: Final = 3
HOMES: Final = ("at1", "at2", "at3", "any")
FEW: Final = 20
TROUBLES: Final = 2
"""How many workers may be stopped or killed at the same time."""


@pytest.fixture(scope="module")
def lane() -> str:
    """A client on asyncssh's data path is never moved."""
    return "fast"


@pytest.fixture(scope="module", params=[HOPPING, MOVING], ids=["hop", "move"])
def shared_server(
    request: pytest.FixtureRequest,
    lane: str,
    keys: KeyRing,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedServer]:
    """One of three workers; see `tests.e2e.scattered` for who and what is where."""
    shared = SharedServer(
        tmp_path_factory.mktemp("server"),
        keys,
        lane,
        request.param,
        workers=WORKERS,
        trusted_sources="127.0.0.0/8",
    )
    yield shared
    assert shared.stop() == Status.OK


def places_of(server: Server) -> list[Place]:
    """A place at each of its workers."""
    server.keys.openssh("alice")  # made once, before many want it
    return [partial(server.ssh, options=at(worker)) for worker in range(1, WORKERS + 1)]


class Trouble:
    """Stops and kills workers from its start to its end.

    Attributes:
        met: how often it did what.
    """

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._chance = random.Random(f"{SEED} trouble {number}")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make)
        self.met: Counter[str] = Counter()

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _make(self) -> None:
        chance = self._chance
        while not self._over.wait(chance.uniform(0.5, 4.0)):
            number = chance.randint(1, WORKERS)
            fate = chance.choice(("stopped", "killed", "stopped and killed"))
            seconds = chance.uniform(0.5, 4.0)
            pid = workers_of(self._server).get(number)
            if pid is None:  # it is killed already, and not back yet
                continue
            self.met[fate] += 1
            with contextlib.suppress(ProcessLookupError):
                if fate.startswith("stopped"):
                    os.kill(pid, signal.SIGSTOP)
                    self._over.wait(seconds)
                os.kill(pid, signal.SIGCONT if fate == "stopped" else signal.SIGKILL)


def check_after(server: Server) -> None:
    """All workers are back, nothing is left of anybody, and each reaches each."""
    server.wait_metric("pipe_up", WORKERS)
    server.wait_metric("pipe_connections", 0)
    server.wait_empty()
    numbers = range(1, WORKERS + 1)
    pairs = []
    for home, place in itertools.product(numbers, numbers):
        topic, other = f"at{home}-{place}-after", at(1 + place % WORKERS)
        reader = server.ssh("alice", f"sub -w {topic}", options=at(place))
        pairs.append((reader, server.ssh("alice", f"pub -w {topic}", stdin=b"new", options=other)))
    for reader, writer in pairs:
        ends = writer.wait(), reader.wait()
        assert ends == (Status.OK, Status.OK), f"{writer}\n{reader}\n{server.log[-8000:]}"
        assert (told(writer), reader.output) == (Told(3, 1, 0), "new")


def test_a_worker_dies_beside_transfers(server: Server) -> None:
    """Each transfer is whole or is said to have failed, and then all is as before."""
    pid = workers_of(server)[1 + SEED % WORKERS]
    timer = threading.Timer(1.0, os.kill, (pid, signal.SIGKILL))
    timer.start()
    run_transfers(places_of(server), range(FEW), HOMES)
    timer.join()
    check_after(server)


def test_many_transfers_in_trouble(server: Server) -> None:
    """The same of many transfers, while workers are stopped and killed all the time."""
    with contextlib.ExitStack() as stack:
        troubles = [stack.enter_context(Trouble(server, number)) for number in range(TROUBLES)]
        ways = run_transfers(places_of(server), range(FEW, FEW + MANY), HOMES)
    met = sum((trouble.met for trouble in troubles), Counter[str]())
    log.info("%s; writer's and reader's status: %s", dict(met), dict(ways))
    check_after(server)
    assert ways["0 and 0"]
    assert ways.total() > ways["0 and 0"]
