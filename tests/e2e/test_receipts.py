"""Receipts against what readers really have: who is counted as served has every byte."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.hostile.proxy import Proxy, Weather

from . import clients
from .payloads import KIB, MIB, noise, sha256
from .processes import Pace, Process, wait_until
from .server import LANES, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .nodes import Nodes
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]

log = logging.getLogger(__name__)

SENT: Final = noise(1_500_000)
"""Less than the window of `ssh`, so that the server has sent all of it, and its end, unread."""

TOLD: Final = re.compile(r"sent (\d+) bytes? to (\d+) subscribers?(?:, (\d+) of them left early)?")


class Told(NamedTuple):
    """What a receipt says."""

    size: int
    readers: int
    early: int


def told(writer: Process) -> Told:
    """Read a writer's receipt."""
    found = TOLD.search(writer.text)
    assert found, writer
    return Told(*(int(number or 0) for number in found.groups()))


def delivered(server: Server) -> float:
    """Bytes that the server has written to readers, as it tells operators."""
    return server.metrics().value("pipe_delivered_bytes_total", mode="subscribe")


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGKILL,), (signal.SIGTERM, signal.SIGCONT), (signal.SIGINT, signal.SIGCONT)],
    ids=["killed", "terminated", "interrupted"],
)
def test_bytes_that_nobody_has(server: Server, signals: tuple[signal.Signals, ...]) -> None:
    """A reader that is stopped, sent everything and ended has nothing, and its writer is told so.

    `ssh` says goodbye before it ends by a signal, though it has read none of what lies there.
    """
    before, ended = delivered(server), server.lines("session ended")
    [reader] = server.subscribe("alice", "sub nobody")
    reader.send_signal(signal.SIGSTOP)
    writer = server.ssh("alice", "pub nobody", stdin=SENT)
    server.wait_metric("pipe_delivered_bytes_total", before + len(SENT), mode="subscribe")
    for number in signals:
        reader.send_signal(number)

    assert writer.wait() == Status.BROKEN
    assert told(writer) == Told(len(SENT), 1, 1)
    assert "nobody has confirmed the last byte" in writer.text
    assert reader.wait() != Status.OK
    assert not reader.stdout.data
    lines = server.wait_lines("session ended", len(ended) + 2)[len(ended) :]
    assert {line["mode"]: line["outcome"] for line in lines} == {
        "subscribe": "left",
        "publish": "undelivered",
    }


def test_reader_that_stays_is_served_by_what_was_written(server: Server) -> None:
    """`sub -k` confirms nothing before its own end: what was written to its connection counts."""
    [reader] = server.subscribe("alice", "sub -k stays")
    reader.send_signal(signal.SIGSTOP)
    writer = server.ssh("alice", "pub stays", stdin=SENT)
    assert writer.wait() == Status.OK
    assert told(writer) == Told(len(SENT), 1, 0)
    reader.send_signal(signal.SIGKILL)


def test_one_that_confirms_is_enough(server: Server) -> None:
    """With one reader that has everything the writer has 0, and is told of the other."""
    lost, kept = server.subscribe("alice", "sub some", count=2)
    lost.send_signal(signal.SIGSTOP)
    writer = server.ssh("alice", "pub some", stdin=SENT)
    assert kept.wait() == Status.OK
    assert writer.running
    lost.send_signal(signal.SIGKILL)
    assert writer.wait() == Status.OK
    assert told(writer) == Told(len(SENT), 2, 1)
    assert sha256(kept.stdout.data) == sha256(SENT)


def test_nobody_was_asked_for(server: Server) -> None:
    """A writer that wanted no reader and had none did what it was asked to."""
    writer = server.run("alice", "pub -b=false alone", stdin=b"hello")
    assert writer.wait() == Status.OK
    assert told(writer) == Told(5, 0, 0)


# -- a random run -------------------------------------------------------------------------------

FEW: Final = 30 // len(LANES)
MANY: Final = 1000 // len(LANES)
"""Transfers on each data path."""

ACROSS: Final = int(os.environ.get("PIPE_TEST_RECEIPTS", "200"))
"""Transfers between machines."""

SEED: Final = int(os.environ.get("PIPE_TEST_SEED", "1"))

FATES: Final = ("fine", "slow", "stopped", "stopped and killed", "killed", "terminated", "reset")


class Reader(NamedTuple):
    """A client that reads, and what is to become of it."""

    fate: str
    process: Process


class Transfer:
    """One stream to a few readers, of which some are ended at a moment that chance decides."""

    def __init__(self, servers: Sequence[Server], chance: random.Random, number: int) -> None:
        self._servers = servers
        self._chance = chance
        self._topic = f"run{number}"
        self.data = noise(chance.choice((1, 100, 20 * KIB, 300 * KIB, 2 * MIB, 4 * MIB)), number)
        self.fates = [chance.choice(FATES) for _ in range(chance.choice((1, 1, 2, 3)))]
        self.readers: list[Reader] = []
        # One that blocks waits on when its last reader leaves in mid-stream, so it gives up soon.
        self._command = chance.choice(("pub -b=false", "pub -b=false", "pub -t 2s"))

    def run(self) -> Process:
        """Carry it out, and return the writer, which has ended."""
        with contextlib.ExitStack() as proxies:
            for fate in self.fates:
                server = self._chance.choice(self._servers)
                port = server.port
                if fate == "reset":
                    weather = Weather(reset_after=self._chance.randint(10_000, 3 * MIB))
                    port = proxies.enter_context(Proxy(port, weather)).port
                self.readers.append(Reader(fate, self._start(server, port, fate)))
            wait_until(lambda: subscribers(self._servers) == len(self.readers), "all readers")
            for reader in self.readers:
                if reader.fate.startswith("stopped"):
                    reader.process.send_signal(signal.SIGSTOP)
            writes = self._chance.choice(self._servers)
            writer = writes.ssh("alice", f"{self._command} {self._topic}", stdin=self.data)
            for reader in self.readers:
                time.sleep(self._chance.uniform(0.0, 0.3))  # at any moment: that is the test
                for number in self._signals(reader.fate):
                    reader.process.send_signal(number)
            writer.wait()
            for reader in self.readers:
                if reader.fate == "reset":  # after more bytes than there were: it waits for nobody
                    reader.process.send_signal(signal.SIGTERM)
                reader.process.wait()
        return writer

    def _start(self, server: Server, port: int, fate: str) -> Process:
        key = server.keys.openssh("alice")
        pace = Pace(self._chance.choice((16 * KIB, 64 * KIB)), 0.002) if fate == "slow" else None
        return server.adopt(
            Process(
                clients.openssh(port, key, "alice", f"sub {self._topic}"),
                pace=pace,
                environment=clients.bare_environment(),
            )
        )

    @staticmethod
    def _signals(fate: str) -> Iterator[signal.Signals]:
        if fate == "stopped":
            yield signal.SIGCONT
        elif fate in {"killed", "stopped and killed"}:
            yield signal.SIGKILL
        elif fate == "terminated":
            yield signal.SIGTERM

    def check(self, writer: Process) -> str:
        """Compare the receipt with what the readers have, and say how it went."""
        digest = sha256(self.data)
        whole = [reader for reader in self.readers if reader.process.stdout.sha256 == digest]
        status = writer.wait()
        for reader in self.readers:
            if reader.fate in {"fine", "slow", "stopped"}:
                assert (reader in whole, reader.process.wait()) == (True, Status.OK)
        if status == Status.TIMEOUT:
            assert not whole
            return "gave up"
        receipt = told(writer)
        assert receipt.size == len(self.data)
        served = receipt.readers - receipt.early
        assert served <= len(whole), f"{receipt}, but {len(whole)} have everything"
        assert served >= sum(reader.process.wait() == Status.OK for reader in self.readers)
        if not receipt.readers:
            assert (status, self._command) == (Status.OK, "pub -b=false")
            return "to nobody"
        assert status == (Status.OK if served else Status.BROKEN)
        return "undelivered" if not served else "left early" if receipt.early else "delivered"


def subscribers(servers: Sequence[Server]) -> float:
    """How many readers are on topics of all of them, as far as their workers say so in time."""
    name = "pipe_sessions"
    told = [found for one in servers if name in (found := one.metrics()).names]
    return sum(found.value(name, mode="subscribe") for found in told)


def run_transfers(count: int, *servers: Server) -> Counter[str]:
    """Run so many transfers, each with chances of its own, and return how they went."""
    ways: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    for number in range(count):
        transfer = Transfer(servers, random.Random(f"{SEED} {number}"), number)
        writer = transfer.run()
        try:
            ways[transfer.check(writer)] += 1
        except AssertionError as error:
            error.add_note(f"PIPE_TEST_SEED={SEED}, transfer {number}: {transfer.fates}\n{writer}")
            raise
        fates.update(transfer.fates)
        for server in servers:
            server.drop_clients()
        for server in servers:
            server.wait_empty()
    log.info("%s: %s; readers: %s", servers[0].lane, dict(ways), dict(fates))
    return ways


def test_random_transfers(server: Server) -> None:
    """A receipt counts no reader that lacks a byte, and none is counted out that has 0."""
    assert run_transfers(FEW, server)["delivered"]


@pytest.mark.slow
def test_many_random_transfers(server: Server) -> None:
    """The same a thousand times, on both data paths together."""
    ways = run_transfers(MANY, server)
    assert min(ways["delivered"], ways["left early"], ways["undelivered"]) > 0


@pytest.mark.slow
def test_random_transfers_between_machines(nodes: Nodes) -> None:
    """The same with readers and writers on either of two machines, and topics at home on both."""
    ways = run_transfers(ACROSS, *(nodes.start(name, workers=2) for name in ("n1", "n2")))
    assert min(ways["delivered"], ways["left early"], ways["undelivered"]) > 0
