"""Transfers that are whole or are said to have failed, whatever happens to those who carry them.

Chance decides, by a seed, who is where, and what is sent and how.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from .payloads import KIB, MIB, noise, sha256
from .processes import DEADLINE, HELD, POLL_INTERVAL, Input, Process, wait_until
from .server import Status
from .test_receipts import SEED, Told, told

if TYPE_CHECKING:
    from collections.abc import Sequence

MANY: Final = int(os.environ.get("PIPE_TEST_TRANSFERS", "500"))
"""Transfers of a test; a thousand by a hop and by moving together."""

AT_ONCE: Final = 20
PATIENCE: Final = "6s"
"""How long a writer waits for its reader: longer than any trouble lasts."""

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


class Place(Protocol):
    """Starts the real `ssh` somewhere, as `tests.e2e.server.Server.ssh` does."""

    def __call__(
        self, user: str, command: str, *, stdin: Input = None, keep: bool = True
    ) -> Process:
        """Start it."""


class Transfer:
    """One stream from a writer to a reader, each at a place that chance chooses.

    Args:
        places: where clients may be.
        number: says what chance decides.
        prefixes: of topics; `tests.e2e.scattered` decides by them where one is at home.
    """

    def __init__(
        self, places: Sequence[Place], number: int, prefixes: Sequence[str] = ("any",)
    ) -> None:
        self._places = places
        self._chance = chance = random.Random(f"{SEED} transfer {number}")
        self.topic = f"{chance.choice(prefixes)}-{number}"
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
        held = HELD if command.startswith("pub") else None
        return self._chance.choice(self._places)("alice", command, stdin=held, keep=False)

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
            self._places[0]("alice", f"pub -e -x {WAITED} -t 2s {self.topic}").wait()
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


def carry_out(transfer: Transfer, number: int) -> str:
    """Run one transfer, and say of one that fails how to repeat it."""
    try:
        return transfer.run()
    except AssertionError as error:
        error.add_note(f"PIPE_TEST_SEED={SEED}, transfer {number}, {len(transfer.data)} bytes")
        for name in ("writer", "reader"):
            error.add_note(f"{name}: {getattr(transfer, name, 'not started')}")
        raise


def run_transfers(
    places: Sequence[Place], numbers: range, prefixes: Sequence[str] = ("any",)
) -> Counter[str]:
    """Run these transfers, some at once, and count how they went."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [
            pool.submit(carry_out, Transfer(places, number, prefixes), number) for number in numbers
        ]
        try:
            return Counter(future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
