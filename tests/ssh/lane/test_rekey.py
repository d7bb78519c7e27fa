"""Keys that change in mid-stream: nothing is lost, and a peer that never finishes holds nobody.

RFC 4253, section 9, asks for new keys after each gigabyte; here each mebibyte brings some.
"""

from __future__ import annotations

import asyncio
import os
import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe.ssh.server import CIPHERS
from pipe.stream.chunks import Chunk
from tests.e2e.payloads import GIB, MIB, write_blob
from tests.e2e.processes import DEADLINE, statuses
from tests.e2e.server import Server, Status
from tests.ssh.messages import data, padded, request
from tests.ssh.wire import LANES, Wire, flood, make_service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pipe.settings import Lane
    from tests.e2e.conftest import StartServer
    from tests.e2e.payloads import Blob
    from tests.e2e.processes import Process
    from tests.ssh.memory_transport import MemoryTransport

LIMIT = ("-o", "RekeyLimit=1M")
TALKATIVE = ("-o", "LogLevel=DEBUG1")

TRANSFER_TIMEOUT = 900.0


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> Lane:
    """The server's data path: always both, as rekeying is where they differ most."""
    value: Lane = request.param
    return value


@pytest.fixture(scope="module")
def size() -> int:
    """Bytes to send."""
    return 4 * GIB if os.environ.get("PIPE_TEST_BIG") == "1" else 64 * MIB


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory, size: int) -> Blob:
    """A file of noise."""
    return write_blob(tmp_path_factory.mktemp("blob") / "noise", size)


def rekeyings(client: Process) -> int:
    """How often the client says that it has got new keys, the first ones not counted."""
    return client.text.count("SSH2_MSG_NEWKEYS received") - 1


def transfer(
    server: Server, blob: Blob, writing: Sequence[str] = (), reading: Sequence[str] = ()
) -> tuple[int, int]:
    """Send the file to one reader, and count the writer's and the reader's changes of keys."""
    reader = server.ssh("alice", "sub keys", options=(*TALKATIVE, *reading), keep=False)
    server.wait_sessions(subscribe=1)
    writer = server.ssh("alice", "pub keys", options=(*TALKATIVE, *writing), stdin=blob.path)
    assert statuses(writer, reader, timeout=TRANSFER_TIMEOUT) == [Status.OK] * 2
    assert (reader.stdout.size, reader.stdout.sha256) == (blob.size, blob.sha256)
    assert f"sent {blob.size} bytes to 1 subscriber" in writer.text
    return rekeyings(writer), rekeyings(reader)


@pytest.mark.e2e
@pytest.mark.timeout(2 * TRANSFER_TIMEOUT)
@pytest.mark.parametrize("who", ["writer", "reader", "both"])
def test_clients_ask_for_new_keys(start_server: StartServer, blob: Blob, who: str) -> None:
    """`RekeyLimit 1M` of one client or both: the bytes are the same, and the keys were changed."""
    server = start_server()
    writing = LIMIT if who != "reader" else ()
    reading = LIMIT if who != "writer" else ()
    by_writer, by_reader = transfer(server, blob, writing, reading)
    # An exchange takes a moment, in which more is on its way: to a reader a whole window, 2 MiB.
    if writing:
        assert by_writer >= blob.size // MIB // 2
    if reading:
        assert by_reader >= blob.size // MIB // 4


@pytest.mark.e2e
@pytest.mark.timeout(2 * TRANSFER_TIMEOUT)
def test_server_asks_for_new_keys(start_server: StartServer, blob: Blob) -> None:
    """`--rekey-bytes 1MiB`: the same for keys that the server wants to be changed."""
    server = start_server(rekey_bytes="1MiB")
    _, by_reader = transfer(server, blob)
    assert by_reader >= blob.size // MIB // 2


@pytest.mark.e2e
@pytest.mark.timeout(2 * TRANSFER_TIMEOUT)
def test_everybody_asks_for_new_keys(start_server: StartServer, tmp_path: Path) -> None:
    """All three at once, so that both ends of a connection often begin at the same time."""
    small = write_blob(tmp_path / "noise", 32 * MIB)
    server = start_server(rekey_bytes="1MiB")
    by_writer, by_reader = transfer(server, small, LIMIT, LIMIT)
    assert min(by_writer, by_reader) >= 16


async def ended(wire: Wire) -> None:
    """Wait until the server has ended the connection."""
    async with asyncio.timeout(DEADLINE):
        while not wire.lost:  # noqa: ASYNC110 - a timer of the server is waited for
            await asyncio.sleep(0.01)


async def test_client_that_begins_and_never_goes_on(lane: Lane) -> None:
    """It is gone after the timeout; until then it is clogged, and others are served."""
    service = make_service(lane, rekey_timeout=0.2)
    stuck, other = await Wire.ready(lane, service=service), await Wire.ready(lane, service=service)
    await stuck.open()
    await other.open()
    stuck.client.rekey()
    stuck.exchange()  # its KEXINIT, and then nothing more either way
    for _ in range(10):
        await asyncio.sleep(0)
    assert stuck.sessions[0].port.clogged
    other.client.send(data(0, b"hello"))
    await other.settle()
    assert other.events[-1] == (0, b"hello")
    await ended(stuck)
    assert "no new keys within 0.2 seconds" in str(stuck.lost[0])
    assert not other.lost
    assert not other.sessions[0].port.clogged
    await other.finish()


async def test_client_that_never_answers(lane: Lane) -> None:
    """A reader that leaves the server's KEXINIT unanswered is clogged at once, and gone in time."""
    wire = await Wire.ready(lane, rekey_timeout=0.2, rekey_bytes=65_536)
    await wire.open()
    port = wire.sessions[0].port
    written = 0
    while not port.clogged:
        port.write(Chunk(bytes(8192)))
        written += 8192
        assert written < 2 * 65_536, "goes on without new keys"
        await asyncio.sleep(0)
    await ended(wire)
    assert "no new keys" in str(wire.lost[0])
    wire.client_side.break_off()


async def test_nothing_piles_up_while_keys_are_exchanged(lane: Lane) -> None:
    """What a reader is sent meanwhile stays within its buffer; the router would have stopped."""
    wire = await Wire.ready(lane, buffer=65_536, rekey_timeout=30.0)
    await wire.open(window=2**31)
    port = wire.sessions[0].port
    wire.client.rekey()
    wire.exchange()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (port.clogged, port.pending) == (True, 0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        chunk = Chunk(bytes(8192))  # one that was on its way when the port became clogged
        port.write(chunk)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 8 * chunk.size
    await wire.settle()
    assert wire.client.data() == bytes(8192)
    assert (port.clogged, port.pending) == (False, 0)
    await wire.finish()


async def test_exchange_after_exchange_holds_the_streams_back(lane: Lane) -> None:
    """What one exchange has kept back may begin the next, which blocks and is timed as well."""
    wire = await Wire.ready(lane, rekey_bytes=65_536, rekey_timeout=2.0)
    await wire.open()
    port = wire.sessions[0].port
    wire.client.rekey()
    wire.client.send_raw(flood(wire, request(0, "nothing", reply=True), 4_200))
    # Until the server has written its NEWKEYS, the answers, and another KEXINIT behind them.
    while len(wire.server_side.written) < 65_536:
        assert not wire.lost
        wire.exchange()
        await asyncio.sleep(0)
    assert port.clogged, "streams go on without new keys"
    await ended(wire)
    assert "no new keys" in str(wire.lost[0])
    wire.client_side.break_off()


async def test_both_ends_begin_at_once(lane: Lane) -> None:
    """Two KEXINITs that cross each other make one exchange, and the stream goes on."""
    wire = await Wire.ready(lane, rekey_bytes=65_536)
    await wire.open()
    port = wire.sessions[0].port
    sent = b""
    for number in range(20):
        piece = bytes([number]) * 10_000
        if number % 5 == 0:
            wire.client.rekey()
        if not port.clogged:
            port.write(Chunk(piece))
            sent += piece
        wire.client.send(data(0, b"%d," % number))
        await wire.settle()
    assert not wire.lost
    assert wire.client.data() == sent
    received = [event for _, event in wire.events if isinstance(event, bytes)]
    assert b"".join(received) == b"".join(b"%d," % number for number in range(20))
    await wire.finish()


async def test_packets_behind_the_clients_kexinit(lane: Lane) -> None:
    """Answers that cannot be given before there are new keys are given then, in their order."""
    wire = await Wire.ready(lane)
    await wire.open()
    wire.client.received.clear()
    wire.client.rekey()
    late = wire.client.frame(padded(request(0, "nothing", reply=True)))
    wire.client.send_raw(late + wire.client.frame(padded(data(0, b"late"))))
    await wire.settle()
    assert not wire.lost
    assert wire.events[-1] == (0, b"late")
    assert len(wire.client.received) == 1
    await wire.finish()


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 40_000)),
    st.tuples(st.just("send"), st.integers(1, 3_000)),
    st.tuples(st.just("rekey"), st.just(0)),
    st.tuples(st.just("to client"), st.sampled_from([1, 100, 1_000, 70_000])),
    st.tuples(st.just("to server"), st.sampled_from([1, 100, 1_000, 70_000])),
    st.tuples(st.just("turn"), st.just(0)),
)


@pytest.mark.parametrize("cipher", CIPHERS)
@settings(max_examples=60)
@given(steps=st.lists(STEPS, min_size=20, max_size=120))
async def test_key_exchanges_at_any_moment(
    lane: Lane, cipher: str, steps: list[tuple[str, int]]
) -> None:
    """Whoever begins, and wherever the other is then: both streams are whole in the end."""
    wire = await Wire.ready(lane, rekey_bytes=65_536, ciphers=[cipher])
    await wire.open()
    port = wire.sessions[0].port
    written = sent = 0
    for step, size in steps:
        if step == "write" and not port.clogged:
            port.write(Chunk(noise(written, size)))
            written += size
        elif step == "send":
            wire.client.send(data(0, noise(sent, size)))
            sent += size
        elif step == "rekey" and not wire.client.rekeying:
            wire.client.rekey()
        elif step == "to client":
            carry(wire.server_side, wire.client_side, size)
        elif step == "to server" and wire.server_side.reading:
            carry(wire.client_side, wire.server_side, size)
        elif step == "turn":
            await asyncio.sleep(0)
    await wire.settle()
    assert not wire.lost
    assert not port.clogged
    assert wire.client.data() == noise(0, written)
    received = [event for _, event in wire.events if isinstance(event, bytes)]
    assert b"".join(received) == noise(0, sent)
    await wire.finish()


def noise(start: int, size: int) -> bytes:
    """A piece of a stream in which no two places look the same."""
    first = start // 4
    numbers = range(first, (start + size) // 4 + 1)
    return struct.pack(f">{len(numbers)}I", *numbers)[start - 4 * first :][:size]


def carry(source: MemoryTransport, target: MemoryTransport, size: int) -> None:
    """Carry some of what one end has written to the other."""
    piece = bytes(source.written[:size])
    if piece:
        del source.written[: target.deliver(piece)]
