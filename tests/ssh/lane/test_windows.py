"""Flow control: windows and packet sizes are kept in both directions, and memory has its bounds.

RFC 4254, section 5.2, on both of the server's data paths.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_FAILURE,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe.errors import Ending
from pipe.language.quantities import MIB
from pipe.limits.turns import BUDGET_SECONDS
from pipe.session.intake import STEP_CHUNKS, Intake
from pipe.settings import Lane
from pipe.ssh.lane.connection import HAND_OVER_COST, TURN_PACKETS
from pipe.ssh.server import CIPHERS
from pipe.stream.chunks import Chunk
from tests.ssh.messages import adjust, data, debug, request
from tests.ssh.wire import LANES, QUIET_TURNS, Wire, flood

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import PipeError
    from pipe.ssh.port import Port
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member

WINDOW = 65_536
BUFFER = 65_536

pytestmark = pytest.mark.parametrize("lane", LANES)

every_cipher = pytest.mark.parametrize("cipher", CIPHERS)
"""For what must hold on asyncssh's path under ``--lane fast`` as well."""

TEXT = bytes(range(256)) * 512


async def reader(lane: Lane, *, window: int, most: int = 1 << 15) -> tuple[Wire, Port]:
    """A connection with one session whose client has this window, and its port."""
    wire = await Wire.ready(lane, buffer=BUFFER, window=WINDOW)
    await wire.open(window=window, most=most)
    return wire, wire.sessions[0].port


@pytest.mark.parametrize("window", [0, 1, 2, 100, 32_767, 32_768, 32_769])
async def test_window_is_never_passed(lane: Lane, window: int) -> None:
    """A peer gets as much as its window has room for, to the byte, and the rest when it opens."""
    wire, port = await reader(lane, window=window)
    sent = TEXT[:50_000]
    for start in range(0, len(sent), 10_000):
        port.write(Chunk(sent[start : start + 10_000]))
        await wire.settle()
        assert len(wire.client.data()) == min(window, start + 10_000)
    assert wire.client.data() == sent[:window]
    assert port.pending == len(sent) - window
    wire.client.send(adjust(0, len(sent)))
    await wire.settle()
    assert wire.client.data() == sent
    assert port.pending == 0
    await wire.finish()


async def test_window_that_opens_byte_by_byte(lane: Lane) -> None:
    """Each byte of window brings one byte of data."""
    wire, port = await reader(lane, window=0)
    port.write(Chunk(TEXT[:5]))
    port.write(Chunk(TEXT[5:40]))
    for size in range(1, 41):
        wire.client.send(adjust(0, 1))
        await wire.settle()
        assert wire.client.data() == TEXT[:size]
        assert port.pending == 40 - size
    assert set(map(len, wire.client.chunks())) == {1}
    await wire.finish()


@pytest.mark.parametrize("most", [1024, 1500, 32_768, 2**32 - 1])
async def test_packet_size_is_kept(lane: Lane, most: int) -> None:
    """No packet is larger than the peer allows, nor than what every peer must take."""
    wire, port = await reader(lane, window=1 << 21, most=most)
    sizes = (1, 1023, 1024, 1025, 1499, 1500, 1501, 32_768, 100_000)
    sent = b""
    for size in sizes:
        port.write(Chunk(TEXT[:size]))
        sent += TEXT[:size]
    await wire.settle()
    assert wire.client.data() == sent
    assert max(map(len, wire.client.chunks())) <= min(most, 100_000)
    if lane is Lane.FAST:
        assert max(map(len, wire.client.chunks())) <= min(most, 32_768)
    await wire.finish()


@settings(max_examples=40)
@given(st.data())
async def test_any_windows(lane: Lane, draw: st.DataObject) -> None:
    """Whatever is written and allowed, in any order, arrives whole and never before its window."""
    most = draw.draw(st.sampled_from([1024, 32_768]), "packet size")
    window = draw.draw(st.sampled_from([0, 1, 50, 1000, 5000]), "window")
    wire, port = await reader(lane, window=window, most=most)
    sent, texts = b"", b""
    sizes = st.sampled_from([1, 3, 200, 1025, 3000])
    for _ in range(draw.draw(st.integers(1, 12), "steps")):
        step = draw.draw(st.sampled_from(["write", "write", "adjust", "stderr", "turn"]), "step")
        size = draw.draw(sizes, "size")
        if step == "write":
            port.write(Chunk(TEXT[len(sent) : len(sent) + size]))
            sent += TEXT[len(sent) : len(sent) + size]
        elif step == "adjust":
            window += size
            wire.client.send(adjust(0, size))
        elif step == "stderr":
            wire.sessions[0].channel.write_stderr(b"!" * size)
            texts += b"!" * size
        else:
            await wire.settle()
            got = len(wire.client.data()) + len(wire.client.stderr())
            assert got == min(window, len(sent) + len(texts))
        assert sent.startswith(wire.client.data())
    wire.client.send(adjust(0, len(sent) + len(texts)))
    await wire.settle()
    assert wire.client.data() == sent
    assert wire.client.stderr() == texts
    assert all(len(chunk) <= most for chunk in wire.client.chunks())
    assert port.pending == 0
    await wire.finish()


async def test_stderr_and_data_share_a_window(lane: Lane) -> None:
    """Text that waits for the window does not keep the data behind it waiting for ever."""
    wire, port = await reader(lane, window=4)
    port.write(Chunk(b"data"))
    wire.sessions[0].channel.write_stderr(b"text")
    port.write(Chunk(b"more data"))
    await wire.settle()
    assert (wire.client.data(), wire.client.stderr()) == (b"data", b"")
    wire.client.send(adjust(0, 100))
    await wire.settle()
    assert (wire.client.data(), wire.client.stderr()) == (b"datamore data", b"text")
    assert port.pending == 0
    await wire.finish()


async def test_chunk_as_large_as_the_buffer(lane: Lane) -> None:
    """A record that fills the buffer by itself is sent at once where the window has room."""
    wire, port = await reader(lane, window=1 << 21)
    port.write(Chunk(TEXT[: BUFFER + 1]))
    await wire.settle()
    assert wire.client.data() == TEXT[: BUFFER + 1]
    assert (port.pending, port.clogged) == (0, False)
    await wire.finish()


async def test_end_of_file_and_close_come_behind_the_data(lane: Lane) -> None:
    """What ends a channel waits until the last byte has been allowed and sent."""
    wire, port = await reader(lane, window=3)
    [session] = wire.sessions

    def emptied() -> None:
        if not port.pending and not session.channel.is_closing():
            session.channel.write_eof()
            session.channel.exit(0)

    session.emptied = emptied  # type: ignore[method-assign]
    wire.client.received.clear()
    port.write(Chunk(b"six by"))
    port.write(Chunk(b"tes"))
    await wire.settle()
    for _ in range(6):
        assert {received.kind for received in wire.client.received} == {MSG_CHANNEL_DATA}
        wire.client.send(adjust(0, 1))
        await wire.settle()
    assert wire.client.data() == b"six bytes"
    kinds = [received.kind for received in wire.client.received]
    assert kinds.index(MSG_CHANNEL_EOF) > max(
        index for index, kind in enumerate(kinds) if kind == MSG_CHANNEL_DATA
    )
    assert kinds[-1] == MSG_CHANNEL_CLOSE
    await wire.finish()


async def test_nothing_comes_after_close(lane: Lane) -> None:
    """What is pending when a channel is cut off goes nowhere: not to it, nor to another one."""
    wire = await Wire.ready(lane)
    await wire.open(2, window=10)
    other, cut = wire.sessions
    cut.port.write(Chunk(b"0123456789secret"))
    await wire.settle()
    cut.channel.abort()
    wire.client.send(adjust(1, 100))
    await wire.settle()
    wire.server.pause_writing()
    wire.server.resume_writing()
    cut.port.write(Chunk(b"late"))
    other.port.write(Chunk(b"other"))
    await wire.settle()
    assert wire.client.data(1) == b"0123456789"
    assert wire.client.data(0) == b"other"
    assert cut.port.pending >= len(b"secret") or lane is Lane.ASYNCSSH
    await wire.finish()


async def test_blocked_connection_clogs_its_ports(lane: Lane) -> None:
    """While the transport is full nothing is sent by the lane, and all of its ports are clogged."""
    wire = await Wire.ready(lane)
    await wire.open(2, window=1 << 21)
    ports = [session.port for session in wire.sessions]
    assert [port.clogged for port in ports] == [False] * 2
    wire.server.pause_writing()
    assert [port.clogged for port in ports] == [True] * 2
    if lane is Lane.FAST:
        ports[0].write(Chunk(b"held"))
        await wire.settle()
        assert wire.client.data() == b""
        assert ports[0].pending == 4
    wire.server.resume_writing()
    assert [port.clogged for port in ports] == [False] * 2
    await wire.settle()
    assert wire.client.data() == (b"held" if lane is Lane.FAST else b"")
    await wire.finish()


async def test_full_port_clogs_and_frees(lane: Lane) -> None:
    """A port is clogged from its buffer's size on, and free again when its client has read."""
    wire, port = await reader(lane, window=0)
    port.write(Chunk(TEXT[: BUFFER - 1]))
    assert (port.clogged, port.pending) == (False, BUFFER - 1)
    port.write(Chunk(b"!"))
    assert (port.clogged, port.pending) == (True, BUFFER)
    wire.client.send(adjust(0, 1))
    await wire.settle()
    assert (port.clogged, port.pending) == (True, BUFFER - 1)
    wire.client.send(adjust(0, BUFFER))
    await wire.settle()
    assert (port.clogged, port.pending) == (False, 0)
    await wire.finish()


# -- the other direction --------------------------------------------------------------------------


async def test_paused_source_opens_no_window(lane: Lane) -> None:
    """A source that is paused lets its client use up the window, and opens it when it goes on."""
    wire, port = await reader(lane, window=0)
    port.pause_reading()
    for _ in range(WINDOW // 8192):
        wire.client.send(data(0, bytes(8192)))
    await wire.settle()
    assert wire.client.adjustments() == []
    assert not wire.lost
    port.resume_reading()
    await wire.settle()
    assert 0 < sum(wire.client.adjustments()) <= WINDOW
    await wire.finish()


async def test_window_is_opened_as_it_is_used(lane: Lane) -> None:
    """A source that reads gives back what was used, never more than there was at first."""
    wire, _ = await reader(lane, window=0)
    left = WINDOW
    for _ in range(100):
        wire.client.send(data(0, bytes(5000)))
        left -= 5000
        await wire.settle()
        left += sum(wire.client.adjustments())
        wire.client.received.clear()
        assert WINDOW / 2 <= left <= WINDOW
    await wire.finish()


async def test_pause_within_a_read_is_kept(lane: Lane) -> None:
    """A source that pauses in the middle of a read opens no window for the rest of it."""
    wire, port = await reader(lane, window=0)
    wire.on_chunk = lambda _session, _chunk: port.pause_reading()
    for _ in range(WINDOW // 1024):
        wire.client.send(data(0, bytes(1024)))
    await wire.settle()
    assert wire.client.adjustments() == []
    assert not wire.lost
    await wire.finish()


FLOOD = WINDOW // 4
"""Packets of one byte: a fourth of what the window allows, as each takes its time here."""


class Listener:
    """Stands where a router would, and a session."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.count = 0
        self.on_publish: Callable[[], None] = lambda: None

    def publish(self, member: Member, chunk: Chunk) -> None:  # noqa: ARG002
        """Take a chunk."""
        self.on_publish()
        self.taken += chunk.data
        self.count += 1

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:  # noqa: ARG002
        """Nobody frames."""
        return 0

    def end(self, member: Member) -> None:
        """Nobody ends."""

    def waits(self, missing: int) -> None:
        """Nobody waits."""

    def end_of_stream(self) -> None:
        """Nobody ends."""

    def finish(self, receipt: Receipt) -> None:
        """Nobody gets a receipt."""

    def fail(self, error: PipeError) -> None:
        """Nothing fails."""
        raise error


async def paused_publisher(lane: Lane, cipher: str = CIPHERS[0]) -> tuple[Wire, Intake, Listener]:
    """A connection whose one session publishes nothing yet."""
    wire = await Wire.ready(lane, window=WINDOW, ciphers=[cipher])
    await wire.open()
    [session] = wire.sessions
    listener = Listener()
    intake = Intake(listener, session.port, listener, wire.service.turns)
    session.port.connect(intake.feed)
    session.port.pause_reading()
    return wire, intake, listener


@every_cipher
async def test_tiny_packets_into_a_paused_publisher_are_bounded(lane: Lane, cipher: str) -> None:
    """They take a few times their size, and come out as they came in."""
    wire, intake, listener = await paused_publisher(lane, cipher)
    packets = flood(wire, data(0, b"x"), FLOOD)
    tracemalloc.start()
    try:
        wire.client.send_raw(packets)
        before = tracemalloc.get_traced_memory()[0]
        await wire.settle()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not wire.lost
    assert wire.client.adjustments() == []
    assert grown < 16 * FLOOD
    intake.collect(listener)
    await wire.until(lambda: listener.count == FLOOD)
    assert listener.taken == b"x" * FLOOD
    await wire.finish()


async def busiest_turn(wire: Wire, count: Callable[[], int]) -> int:
    """The most by which a counter goes up in one turn of the loop, until nothing comes any more."""
    most = quiet = 0
    before = count()
    while quiet < QUIET_TURNS:
        moved = wire.exchange()  # stands for the part of a turn in which transports read
        read = count()
        await asyncio.sleep(0)
        now = count()
        most = max(most, read - before, now - read)
        quiet = 0 if moved or now > before else quiet + 1
        before = now
    return most


async def test_tiny_packets_per_turn_are_bounded(lane: Lane) -> None:
    """Of a flood into a session that reads, each turn of the loop handles a bounded number."""
    wire = await Wire.ready(lane, window=WINDOW)
    await wire.open()
    [session] = wire.sessions
    wire.client.send_raw(flood(wire, data(0, b"x"), 10_000))
    most = await busiest_turn(wire, lambda: len(session.chunks))
    assert len(session.chunks) == 10_000
    if lane is Lane.FAST:
        assert most <= TURN_PACKETS
    else:
        assert most < 10_000  # it goes by time there, see test_turns.py
    await wire.finish()


async def test_tiny_packets_per_turn_are_bounded_after_a_pause(lane: Lane) -> None:
    """Of a flood that waited while its publisher was paused, a turn has what its budget allows."""
    wire, intake, listener = await paused_publisher(lane)
    listener.on_publish = lambda: wire.service.turns.use(BUDGET_SECONDS / 32)
    wire.client.send_raw(flood(wire, data(0, b"x"), 10_000))
    await wire.settle()
    assert listener.count == 0
    intake.collect(listener)
    most = listener.count
    most = max(most, await busiest_turn(wire, lambda: listener.count))
    assert listener.taken == b"x" * 10_000
    assert most <= 32 + STEP_CHUNKS
    await wire.finish()


async def test_other_packets_per_turn_are_bounded(lane: Lane) -> None:
    """Of packets that asyncssh handles, a turn on the lane handles fewer, as they cost more."""
    wire = await Wire.ready(lane, window=WINDOW)
    await wire.open()
    wire.client.send_raw(flood(wire, debug("again"), 2000))
    most = await busiest_turn(wire, lambda: wire.debug_messages)
    assert wire.debug_messages == 2000
    if lane is Lane.FAST:
        assert most <= TURN_PACKETS // HAND_OVER_COST
    await wire.finish()


async def test_a_flood_starves_nobody(lane: Lane) -> None:
    """While one connection has a flood, a packet on another one is handled at once."""
    guilty, innocent = await Wire.ready(lane, window=WINDOW), await Wire.ready(lane)
    await guilty.open()
    await innocent.open()
    guilty.client.send_raw(flood(guilty, data(0, b"x"), 10_000))
    for number in range(5):
        guilty.exchange()
        await asyncio.sleep(0)
        innocent.client.send(data(0, b"%d" % number))
        innocent.exchange()
        assert innocent.events[-1] == (0, b"%d" % number)
        if lane is Lane.FAST:
            assert len(guilty.sessions[0].chunks) < 10_000
    await guilty.until(lambda: len(guilty.sessions[0].chunks) == 10_000)
    await guilty.finish()
    await innocent.finish()


async def test_many_answers_kept_back_by_a_rekey(lane: Lane) -> None:
    """Answers that wait for new keys, enough to need newer ones at once, all come, in order."""
    wire = await Wire.ready(lane, rekey_bytes=65_536)
    await wire.open()
    asked = 7_000
    wire.client.send_raw(flood(wire, request(0, "nothing", reply=True), asked // 2))
    wire.client.rekey()
    wire.client.send_raw(flood(wire, request(0, "nothing", reply=True), asked // 2))
    await wire.settle()
    wire.client.send(data(0, b"still here"))
    await wire.settle()
    assert not wire.lost
    assert len(wire.client.of_kind(MSG_CHANNEL_FAILURE)) == asked
    assert wire.events[-1] == (0, b"still here")
    await wire.finish()


async def test_endless_requests_behind_a_rekey_end_the_connection(lane: Lane) -> None:
    """A peer that asks and asks behind its own KEXINIT is closed before it fills the memory."""
    wire = await Wire.ready(lane, max_unsent=2 * MIB)
    await wire.open()
    wire.client.rekey()
    wire.client.send_raw(flood(wire, request(0, "nothing", reply=True), 10_000))
    await wire.settle()
    assert wire.lost
    assert wire.server.ending is Ending.OVERFLOW
