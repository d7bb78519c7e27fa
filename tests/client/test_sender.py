"""The queue, its bound, its thread: what is not counted as dropped arrives, in order."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from pipe_log._lines import encode
from pipe_log._sender import Sender
from pipe_log._transport import Batch, Refused, Unsent

from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("short_waits")


class Memory:
    """A way to nowhere: keeps what it takes, and does with each batch what `then` says."""

    where = "memory"
    works = True
    held = 0
    held_lines = 0

    def __init__(self, then: Callable[[Batch], None] = lambda _: None) -> None:
        self.then = then
        self.batches: list[Batch] = []

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What was taken."""
        return [json.loads(line) for batch in self.batches for line in batch.data.splitlines()]

    def send(self, batch: Batch) -> None:
        """Take a batch."""
        self.then(batch)
        self.batches.append(batch)

    def lost(self) -> bool:
        """Nothing is kept."""
        return False

    def finish(self, timeout: float) -> None:
        """Nothing to do."""

    def abort(self) -> None:
        """Nothing to do."""

    def forsake(self) -> None:
        """Nothing to do."""


class Gate:
    """Lets a transport take nothing until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _: Batch) -> None:
        """Wait until it is open."""
        self.reached.set()
        self.opened.wait()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that does not stay shut."""
    gate = Gate()
    yield gate
    gate.opened.set()


def line(number: int) -> bytes:
    """A line that can be told from the others."""
    return encode({"number": number})


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    """By which they are told apart."""
    return [line["number"] for line in lines]


def test_full_queue_drops_the_newest_and_says_so(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound nothing is kept; the first line after the gap tells how many are missing."""
    monkeypatch.setattr("pipe_log._sender.BUFFER_LIMIT", 10 * len(line(10)))
    memory = Memory(gate)
    sender = Sender(memory)
    for number in range(10, 30):
        sender.put(line(number))
    assert sender.dropped == 10
    gate.opened.set()
    wait_until(lambda: len(memory.lines) == 10, "the lines that were kept")
    sender.put(line(30))
    sender.put(line(31))
    sender.close()

    assert numbers(memory.lines) == [*range(10, 20), 30, 31]
    assert [said.get("dropped") for said in memory.lines] == [None] * 10 + [10, None]


def test_what_is_being_sent_counts_for_the_bound(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that the server does not take is memory too."""
    monkeypatch.setattr("pipe_log._sender.BUFFER_LIMIT", 3 * len(line(1)))
    sender = Sender(Memory(gate))
    for number in range(3):
        sender.put(line(number))
    gate.reached.wait()
    sender.put(line(4))

    assert sender.dropped == 1
    gate.opened.set()
    sender.close()


@pytest.mark.parametrize("seed", range(4))
def test_all_lines_arrive_or_are_told_of(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a server does with batches, each gap between lines is told to the line."""
    chance = random.Random(seed)

    def misbehave(_: Batch) -> None:
        match chance.randrange(4):
            case 0:
                raise Unsent("try again")
            case 1:
                raise Refused("never")
            case 2:
                raise ZeroDivisionError  # which nobody thought of

    monkeypatch.setattr("pipe_log._sender.BUFFER_LIMIT", 40 * len(line(1)))
    monkeypatch.setattr("pipe_log._sender.BATCH_BYTES", 5 * len(line(1)))
    memory = Memory(misbehave)
    sender = Sender(memory)
    for number in range(300):
        sender.put(line(number))
        if chance.randrange(30) == 0:
            sender.wait_room(0, patiently=True)
    sender.wait_room(0, patiently=True)
    memory.then = lambda _: None
    sender.put(line(300))
    sender.close()

    expected = 0
    for said in memory.lines:
        assert said["number"] - expected == said.get("dropped", 0)
        expected = said["number"] + 1
    assert expected == 301
    assert len(memory.lines) + sender.dropped == 301


def test_threads_and_signals_may_put_at_once() -> None:
    """Lines of several threads, and of a signal's handler in the midst of `put`, are all there."""
    memory = Memory()
    sender = Sender(memory)
    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        sender.put(line(-1))

    def put() -> None:
        for number in range(2000):
            sender.put(line(number))

    threads = [threading.Thread(target=put) for _ in range(3)]
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for thread in threads:
            thread.start()
        put()
        wait_until(lambda: interrupts, "a signal")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    for thread in threads:
        thread.join()
    sender.close()

    assert len(memory.lines) == 4 * 2000 + interrupts
    assert sender.dropped == 0


def test_put_does_not_wait(gate: Gate) -> None:
    """A transport that stands still is nothing to those who log."""
    sender = Sender(Memory(gate))
    sender.put(line(0))
    gate.reached.wait()
    for number in range(1000):
        sender.put(line(number))

    assert not gate.opened.is_set()
    gate.opened.set()
    sender.close()


def test_close_takes_no_longer_than_it_may(gate: Gate, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left when the time is up counts as dropped, and stderr says so."""
    sender = Sender(Memory(gate))
    for number in range(3):
        sender.put(line(number))
    gate.reached.wait()
    before = time.monotonic()
    sender.close(0.05)

    assert time.monotonic() - before >= 0.05
    assert sender.dropped == 3
    assert "could not send all to memory in time, dropped: 3" in capsys.readouterr().err


def test_close_sends_what_waits() -> None:
    """Nothing that was put before is lost by it, and nothing put after it is kept."""
    memory = Memory()
    sender = Sender(memory)
    sender.put(line(1))
    sender.close()
    sender.put(line(2))

    assert numbers(memory.lines) == [1]
    assert sender.dropped == 1


def test_close_asks_no_longer_than_the_server_wants() -> None:
    """Where the server asks to wait beyond the time that there is, nobody waits for nothing."""

    def later(_: Batch) -> None:
        raise Unsent("busy", after=60)

    sender = Sender(Memory(later))
    sender.put(line(1))
    sender.close(30)

    assert sender.dropped == 1


def test_refusals_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The first refusal is a line on stderr; the next one after lines were taken again."""

    def refuse(_: Batch) -> None:
        raise Refused("401 no such token")

    memory = Memory(refuse)
    sender = Sender(memory)
    for number in range(3):
        sender.put(line(number))
        sender.wait_room(0, patiently=True)
    assert sender.dropped == 3
    assert capsys.readouterr().err.count("401 no such token") == 1
    memory.then = lambda _: None
    sender.put(line(3))
    wait_until(lambda: memory.lines, "a line")
    memory.then = refuse
    sender.put(line(4))
    sender.close()

    assert capsys.readouterr().err.count("401 no such token") == 1
