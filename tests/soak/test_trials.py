"""What a soak with faults makes of a transfer: lies are seen, and what faults explain is none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.soak.clients import Client
from loadtest.soak.scene import ExcusedError
from loadtest.soak.several import Holding
from loadtest.soak.siege import Traced
from loadtest.soak.tally import Tally
from loadtest.soak.trials import Trial, judge
from loadtest.workspace import MIB
from tests.e2e.payloads import noise
from tests.e2e.server import Status

SENT = noise(5000)
RECEIPT = "sent 5000 bytes to 2 subscribers"


class Ended(Client):
    """A client that has ended so.  Nothing else is asked of it."""

    def __init__(
        self, status: int, received: bytes = b"", words: str = "", *, cut: bool = False
    ) -> None:
        super().__init__()
        self.received += received
        self.errors += words.encode()
        self._status = status
        self._cut = cut

    @property
    def was_cut(self) -> bool:
        """As was said."""
        return self._cut

    async def _wait_status(self) -> int:
        return self._status

    async def _read(self) -> bytes:
        return b""

    _read_error = _read

    async def send(self, data: bytes) -> None:
        """Nothing."""

    def end_input(self) -> None:
        """Nothing."""

    leave = kill = end_input


def judged(writer: Client, *readers: Client, touched: bool) -> list[str]:
    """The promises that are broken if a transfer has gone so."""
    siege: Any = SimpleNamespace(tally=Tally(), seed=1, was_hit=lambda _: touched)
    trial = Trial(siege, 1)

    async def judge_it() -> None:
        try:
            await judge(trial, SENT, writer, list(readers))
        except ExcusedError:
            trial.tally.count("excused")

    asyncio.run(judge_it())
    return trial.tally.broken


WHOLE = Ended(Status.OK, SENT)
PART = SENT[:2000]


@pytest.mark.parametrize("touched", [False, True])
def test_whole_transfer_is_accepted(touched: bool) -> None:
    """All bytes, 0 on all sides, and the receipt of it."""
    assert judged(Ended(0, words=RECEIPT), WHOLE, WHOLE, touched=touched) == []


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (Ended(Status.BROKEN), Ended(Status.BROKEN, PART)),
        (Ended(Status.BROKEN), Ended(Status.NO_CONNECTION)),
        (Ended(Status.TIMEOUT), Ended(9)),
        (Ended(0, words=f"{RECEIPT}, 1 of them left early"), Ended(Status.NO_CONNECTION, PART)),
        (Ended(Status.BROKEN), Ended(0, PART, cut=True)),
    ],
)
def test_what_a_fault_explains(writer: Client, reader: Client) -> None:
    """It breaks no promise if there was a fault, and one or more if there was none."""
    assert judged(writer, WHOLE, reader, touched=True) == []
    assert judged(writer, WHOLE, reader, touched=False)


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (Ended(0, words=RECEIPT), Ended(Status.NO_CONNECTION, PART)),
        (Ended(0, words="sent 4999 bytes to 2 subscribers"), WHOLE),
        (Ended(0, words="sent 5000 bytes to 1 subscriber"), WHOLE),
        (Ended(0), WHOLE),
        (Ended(Status.BROKEN), Ended(0, PART)),
        (Ended(Status.BROKEN), Ended(Status.BROKEN, SENT[1:])),
        (Ended(Status.BROKEN), Ended(Status.SHUTDOWN, PART)),
        (Ended(Status.BROKEN), Ended(70, PART)),
        (Ended(70), Ended(Status.BROKEN, PART)),
        (Ended(Status.DENIED), Ended(Status.BROKEN, PART)),
    ],
)
def test_what_no_fault_explains(writer: Client, reader: Client) -> None:
    """A receipt that is false, a status that lies, bytes that are not the stream's."""
    assert judged(writer, WHOLE, reader, touched=True)


def test_process_that_holds_more_is_told() -> None:
    """Compared with its own first reading, beyond what links and pools explain."""
    first = Holding("n1 worker", 90 * MIB, 30, 8)
    assert Traced(first, Holding("n1 worker", 100 * MIB, 40, 9)).grown() == []
    [line] = Traced(first, Holding("n1 worker", 100 * MIB, 60, 9)).grown()
    assert line == "descriptors of n1 worker: 30 before, 60 after"
    assert len(Traced(first, Holding("n1 worker", 200 * MIB, 60, 30)).grown()) == 3
