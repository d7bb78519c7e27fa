"""The loop's turns are shared: many busy connections keep nobody waiting, and each has its turn."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipe.limits.turns import BUDGET_SECONDS, MINOR_SECONDS, Turns
from pipe.settings import Lane
from pipe.ssh.lane.outbox import READ_BYTES, TURN_LOAD
from pipe.ssh.lane.port import RECORD_COST
from pipe.ssh.slices import SIP_BYTES, SLICE_BYTES, TURN_SECONDS
from pipe.stream.chunks import Chunk
from tests.ssh.messages import data, debug
from tests.ssh.wire import LANES, Wire, flood

if TYPE_CHECKING:
    from collections.abc import Callable

SHARE = BUDGET_SECONDS / 4


class Loop:
    """Keeps what is to be called in the next turn."""

    def __init__(self) -> None:
        self.due: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Remember it."""
        self.due.append(callback)

    def turn(self) -> None:
        """Call what there is now."""
        due, self.due = self.due, []
        for callback in due:
            callback()


class Worker:
    """A connection with so many shares of work, which it has at hand or has yet to read."""

    def __init__(self, turns: Turns, shares: int, *, reads: bool) -> None:
        self.turns = turns
        self.shares = shares
        self.reads = reads
        self.granted = 0
        self.share_seconds = SHARE
        turns.queue(self)

    def take_turn(self) -> bool:
        """Do a share of it, here or when the turn reads."""
        self.granted += 1
        if not self.reads:
            self.work()
        return self.reads

    def work(self) -> None:
        """Do a share of it."""
        self.turns.use(SHARE)
        self.shares -= 1
        if self.shares:
            self.turns.queue(self)


@pytest.fixture
def loop() -> Loop:
    """A loop whose turns the test takes."""
    return Loop()


@pytest.fixture
def turns(loop: Loop) -> Turns:
    """Its budget."""
    return Turns(cast("asyncio.AbstractEventLoop", loop))


@pytest.mark.parametrize("reads", [False, True])
def test_queue_is_served_in_order_and_within_the_budget(
    loop: Loop, turns: Turns, reads: bool
) -> None:
    """Of ten that queue, each turn serves the four that fit, and all get the same."""
    workers = [Worker(turns, 2, reads=reads) for _ in range(10)]
    served: list[int] = []
    while any(worker.shares for worker in workers):
        before = [worker.granted for worker in workers]
        loop.turn()
        now = [
            worker for worker, count in zip(workers, before, strict=True) if worker.granted > count
        ]
        served.append(len(now))
        for worker in now:
            if reads:
                worker.work()
        counts = Counter(worker.granted for worker in workers)
        assert max(counts) - min(counts) <= 1, counts
    assert served == [4, 4, 4, 4, 4]
    assert all(worker.granted == 2 for worker in workers)


def test_one_that_takes_long_is_served_alone(loop: Loop, turns: Turns) -> None:
    """A share may be larger than the budget: somebody is served in each turn all the same."""
    workers = [Worker(turns, 1, reads=True) for _ in range(3)]
    for worker in workers:
        worker.share_seconds = 3 * BUDGET_SECONDS
    for count in (1, 2, 3):
        loop.turn()
        assert sum(worker.granted for worker in workers) == count


def test_budget_begins_anew_with_each_turn(loop: Loop, turns: Turns) -> None:
    """What has been used up is there again, and when nothing happens there is nothing to do."""
    seen = [turns.spent]
    turns.use(BUDGET_SECONDS)
    seen.append(turns.spent)
    loop.turn()
    seen.append(turns.spent)
    assert seen == [False, True, False]
    turns.use(MINOR_SECONDS / 2)
    assert not loop.due, "a little, now and then, needs no look"
    turns.use(MINOR_SECONDS)
    loop.turn()
    loop.turn()
    assert not loop.due


async def test_crowd_queues_and_loses_nothing() -> None:
    """Once the turn is used up, a connection reads a little of a flood, and queues for more."""
    wire = await Wire.ready(window=1 << 20)
    await wire.open()
    [session] = wire.sessions
    outbox = wire.server._outbox  # type: ignore[attr-defined]
    outbox.turns.use(BUDGET_SECONDS)
    wire.client.send_raw(flood(wire, data(0, b"x" * 1000), 400))
    wire.exchange()
    assert sum(chunk.size for chunk in session.chunks) < SIP_BYTES
    assert not wire.server_side.reading
    await wire.until(lambda: len(session.chunks) == 400)
    assert b"".join(bytes(chunk.data) for chunk in session.chunks) == b"x" * 400_000
    await wire.finish()


async def test_little_is_handled_at_once() -> None:
    """Who has typed a line does not queue behind a crowd."""
    wire = await Wire.ready()
    await wire.open()
    [session] = wire.sessions
    server = cast("Any", wire.server)
    server._outbox.turns.use(BUDGET_SECONDS)
    wire.client.send_raw(flood(wire, data(0, b"hello"), 1))
    wire.exchange()
    assert b"".join(bytes(chunk.data) for chunk in session.chunks) == b"hello"
    assert wire.server_side.reading
    await wire.finish()


async def test_share_that_was_promised_is_kept() -> None:
    """One that queued may read in full, though others have used up the turn before it reads."""
    wire = await Wire.ready(window=1 << 20)
    await wire.open()
    server = cast("Any", wire.server)
    assert server.take_turn(), "it has nothing at hand"
    server._outbox.turns.use(BUDGET_SECONDS)
    assert len(server.get_buffer()) == READ_BYTES
    await wire.finish()


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
async def test_asyncssh_gets_slices_until_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, cipher: str
) -> None:
    """`--lane asyncssh`: of a read full of small packets a turn handles two slices of 2 ms each."""
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(looks) * TURN_SECONDS / 2)
    monkeypatch.setattr("pipe.ssh.plain.time", clock)
    wire = await Wire.ready(Lane.ASYNCSSH, ciphers=[cipher])
    packets = flood(wire, debug(""), 4000)
    wire.client.send_raw(packets)
    most = 0
    while wire.debug_messages < 4000:
        before = wire.debug_messages
        wire.exchange()
        await asyncio.sleep(0)
        most = max(most, wire.debug_messages - before)
    slice_packets = SLICE_BYTES * 4000 // len(packets) + 1
    assert slice_packets < most <= 4 * slice_packets, "two as it reads, two as its turn comes"
    assert wire.server_side.reading
    await wire.finish()


async def test_crowd_shares_the_turn_on_asyncsshs_path_too() -> None:
    """Where the turn is used up, a connection sips and queues, and who types is served at once."""
    wire = await Wire.ready(Lane.ASYNCSSH)
    turns = wire.server.turns
    packets = flood(wire, debug(""), 400)
    turns.use(BUDGET_SECONDS)
    wire.client.send_raw(packets)
    wire.exchange()
    assert 0 < wire.debug_messages <= SIP_BYTES * 400 // len(packets) + 1
    assert not wire.server_side.reading
    await wire.until(lambda: wire.debug_messages == 400)
    turns.use(BUDGET_SECONDS)
    wire.client.send_raw(flood(wire, debug(""), 1))
    wire.exchange()
    assert wire.debug_messages == 401
    await wire.finish()


async def test_request_waits_where_a_line_does_not() -> None:
    """In a turn that is used up the lane handles what is of a stream, and no other packet."""
    wire = await Wire.ready()
    await wire.open()
    [session] = wire.sessions
    wire.server.turns.use(BUDGET_SECONDS)
    wire.client.send_raw(flood(wire, data(0, b"one"), 1))
    wire.client.send_raw(flood(wire, debug(""), 1))
    wire.client.send_raw(flood(wire, data(0, b"two"), 1))
    wire.exchange()
    assert [bytes(chunk.data) for chunk in session.chunks] == [b"one"]
    assert wire.debug_messages == 0
    paused = not wire.server_side.reading
    assert paused
    await wire.until(lambda: len(session.chunks) == 2)
    assert wire.debug_messages == 1
    assert wire.server_side.reading
    await wire.finish()


async def test_request_that_waits_is_forgotten_with_its_connection() -> None:
    """A connection that is lost before its turn comes has nothing handled any more."""
    wire = await Wire.ready()
    wire.server.turns.use(BUDGET_SECONDS)
    wire.client.send_raw(flood(wire, debug(""), 1))
    wire.exchange()
    wire.server_side.break_off()
    await wire.finish()
    assert (wire.debug_messages, len(wire.lost)) == (0, 1)


@pytest.mark.parametrize("lane", LANES)
async def test_lost_connection_is_dead_before_it_is_cleaned_up(lane: Lane) -> None:
    """Its sessions end when there is time for that; what they are given until then is unwritten."""
    wire = await Wire.ready(lane)
    await wire.open()
    [session] = wire.sessions
    session.port.write(Chunk(b"before"))
    assert session.port.pending == 0
    wire.server.turns.use(BUDGET_SECONDS)
    wire.server_side.break_off(ConnectionResetError())
    session.port.write(Chunk(b"after"))
    assert (0, "closed") not in wire.events
    assert session.port.pending == 5
    await wire.until(lambda: bool(wire.lost))
    assert (0, "closed") in wire.events
    assert session.port.pending == 5
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("cleaned_up", [False, True])
async def test_lost_connection_takes_no_more_than_its_buffer(lane: Lane, cleaned_up: bool) -> None:
    """Until its sessions end, a laggard would be handed all that its topic keeps."""
    wire = await Wire.ready(lane)
    await wire.open()
    [session] = wire.sessions
    if not cleaned_up:
        wire.server.turns.use(BUDGET_SECONDS)
    wire.server_side.break_off(ConnectionResetError())
    taken = 0
    while not session.port.clogged:
        assert taken < 64 << 20, "it takes whatever comes"
        session.port.write(Chunk(bytes(1 << 18)))
        taken += 1 << 18
    assert session.port.pending == taken
    await wire.finish()


async def test_records_that_were_dealt_out_count_for_the_turn() -> None:
    """A chunk of 32,768 records uses up more of a turn's load than the bytes that came of it."""
    wire = await Wire.ready()
    await wire.open()
    [session] = wire.sessions
    outbox = cast("Any", wire.server)._outbox
    session.port.charge(TURN_LOAD // RECORD_COST)
    assert outbox.load == TURN_LOAD
    await wire.finish()
