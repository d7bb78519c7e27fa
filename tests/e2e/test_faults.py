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
import re
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from .conftest import SharedServer
from .payloads import KIB, MIB, noise, sha256
from .processes import DEADLINE, HELD, POLL_INTERVAL, wait_until
from .server import HOPPING, MOVING, Status
from .test_receipts import SEED, Told, told
from .test_spread import at
from .test_workers import workers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clients import KeyRing
    from .processes import Process
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

WORKERS: Final = 3
FEW: Final = 20
MANY: Final = int(os.environ.get("PIPE_TEST_TRANSFERS", "500"))
"""Transfers by either way, by a hop and by moving: a thousand together."""

AT_ONCE: Final = 20
TROUBLES: Final = 2
"""How many workers may be stopped or killed at the same time."""

PATIENCE: Final = "6s"
"""How long a writer waits for its reader: longer than any worker stands still."""

GRACE_SECONDS: Final = 2.0
"""How long a reader whose writer failed is left alone, before somebody asks whether it waits."""

WAITED: Final = 9
"""The status of a reader that was told by somebody else that its writer does not come."""

SIZES: Final = (0, 1, 100, 20 * KIB, 300 * KIB, 2 * MIB)
PIECES: Final = 16

CUT: Final = re.compile("closed by remote host|Read from remote host|client_loop: send disconnect")
"""What `ssh` says when it loses its connection.

If the exit status has come by then, it ends with that, but drops what it has not yet written.
"""

FAILED: Final = {Status.BROKEN, Status.NO_CONNECTION}
NOT_JOINED: Final = {Status.SHUTDOWN, Status.TIMEOUT, WAITED}


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


class Transfer:
    """One stream from a writer to a reader, each on a worker that chance chooses."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._chance = chance = random.Random(f"{SEED} transfer {number}")
        self.topic = f"{chance.choice(('at1', 'at2', 'at3', 'any'))}-{number}"
        self.data = noise(chance.choice((*SIZES, chance.randint(0, 2 * MIB))), number)
        self._pause = chance.choice((0.0, 0.0, 0.02, 0.1))  # seconds between two pieces
        self._whole = [chance.choice(("", " -w")) for _ in range(2)]
        self.reader: Process
        self.writer: Process

    def run(self) -> str:
        """Carry it out, check it, and say how it went."""
        starts = [self._start_reader, self._start_writer]
        self._chance.shuffle(starts)
        starts[0]()
        time.sleep(self._chance.uniform(0.0, 0.3))
        starts[1]()
        piece = len(self.data) // PIECES + 1
        for begin in range(0, len(self.data), piece):
            self.writer.write(self.data[begin : begin + piece])
            time.sleep(self._pause)
        self.writer.close_stdin()
        if self.writer.wait() != Status.OK:
            self._end_reader()
        self.reader.wait()
        return self._check()

    def _start_reader(self) -> None:
        self.reader = self._ssh(f"sub{self._whole[0]} {self.topic}")

    def _start_writer(self) -> None:
        self.writer = self._ssh(f"pub{self._whole[1]} -t {PATIENCE} {self.topic}")

    def _ssh(self, command: str) -> Process:
        place = at(self._chance.randint(1, WORKERS))
        held = HELD if command.startswith("pub") else None
        return self._server.ssh("alice", command, options=place, stdin=held, keep=False)

    def _end_reader(self) -> None:
        """Let a reader end that waits, as it may, for a writer that has not come.

        One that is a member of a stream that broke ends by itself.  One that waits hears the next
        writer, and anything else that does not end hangs.
        """
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.reader.running, "the reader's end", GRACE_SECONDS)
        deadline = time.monotonic() + DEADLINE
        while self.reader.running:
            assert time.monotonic() < deadline, "the reader hangs"
            self._server.run("alice", f"pub -e -x {WAITED} -t 2s {self.topic}")
            time.sleep(POLL_INTERVAL)

    def _check(self) -> str:
        """Compare what both were told with what the reader has."""
        got, read, wrote = self.reader.stdout, self.reader.wait(), self.writer.wait()
        assert got.sha256 == sha256(self.data[: got.size]), "the reader has what was never sent"
        whole = got.size == len(self.data)
        if read == Status.OK:
            assert whole or CUT.search(self.reader.text), "the reader lacks bytes, and has 0"
        elif read in NOT_JOINED:
            assert not got.size, "the reader has bytes, and the status of one that never joined"
        else:
            assert read in FAILED
        if wrote == Status.OK:
            assert told(self.writer) == Told(len(self.data), 1, 0)
            assert whole, "the receipt counts a reader that lacks bytes"
            # One that has confirmed may lose its connection before its own status has come.
            assert read in {Status.OK, Status.NO_CONNECTION}
        else:
            assert wrote in {*FAILED, Status.SHUTDOWN, Status.TIMEOUT}
        return f"{wrote} and {read}" if whole or read != Status.OK else "cut after its status"


def carry_out(server: Server, number: int) -> str:
    """Run one transfer, and say of one that fails how to repeat it."""
    transfer = Transfer(server, number)
    try:
        return transfer.run()
    except AssertionError as error:
        error.add_note(f"PIPE_TEST_SEED={SEED}, transfer {number}, {len(transfer.data)} bytes")
        for name in ("writer", "reader"):
            error.add_note(f"{name}: {getattr(transfer, name, 'not started')}")
        raise


def run_transfers(server: Server, numbers: range) -> Counter[str]:
    """Run these transfers, some at once, and count how they went."""
    server.keys.openssh("alice")  # made once, before many want it
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(carry_out, server, number) for number in numbers]
        try:
            return Counter(future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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
    run_transfers(server, range(FEW))
    timer.join()
    check_after(server)


def test_many_transfers_in_trouble(server: Server) -> None:
    """The same of many transfers, while workers are stopped and killed all the time."""
    with contextlib.ExitStack() as stack:
        troubles = [stack.enter_context(Trouble(server, number)) for number in range(TROUBLES)]
        ways = run_transfers(server, range(FEW, FEW + MANY))
    met = sum((trouble.met for trouble in troubles), Counter[str]())
    log.info("%s; writer's and reader's status: %s", dict(met), dict(ways))
    check_after(server)
    assert ways["0 and 0"]
    assert ways.total() > ways["0 and 0"]
