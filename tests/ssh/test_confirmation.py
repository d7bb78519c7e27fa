"""Law 5 over SSH: whom a receipt counts, however a reader goes and whichever data path it is on.

The reader's session is a real one, with all below it but the network.  Its publisher is a fake, on
the same topic, so that a test says at which moment of the reader's life the stream ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_DISCONNECT
from asyncssh.packet import Byte, String, UInt32

from pipe.errors import Ending, Outcome
from pipe.language.names import TopicName
from pipe.rights.callers import Caller
from pipe.service import Service
from pipe.settings import Lane, Settings
from pipe.ssh.channel import Channel
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Receipt
from tests.fakes import FakeSource, NoStore, publisher
from tests.sessions import AtOnce
from tests.ssh.messages import adjust, close, data, eof, execute, open_session
from tests.ssh.wire import GCM, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pipe.session.session import Session

TEXT = b"hello"
TOPIC = TopicName("alice", ("build",))

PATHS: dict[str, tuple[Lane, Sequence[str]]] = {
    "fast": (Lane.FAST, GCM),
    "fast chacha20": (Lane.FAST, ("chacha20-poly1305@openssh.com",)),
    "asyncssh": (Lane.ASYNCSSH, GCM),
}
path_names = pytest.mark.parametrize("path", PATHS)


class Reading:
    """One session of alice's that reads, and its client, which answers nothing by itself."""

    def __init__(self, path: str, **settings: Any) -> None:  # noqa: ANN401 - as `Settings` takes them
        lane, ciphers = PATHS[path]
        store = cast("Any", NoStore())
        self.service = Service(Settings(lane=lane, **settings), store, turns=AtOnce())
        self.wire = Wire(lane, service=self.service, ciphers=ciphers)
        self.wire.make_session = self._make_session
        self.window = 1 << 20
        self.channel: Channel

    def _make_session(self, _number: int) -> Channel:
        caller = Caller("alice", "SHA256:alice")
        self.channel = Channel(self.service, self.wire.server, caller)
        return self.channel

    @property
    def session(self) -> Session:
        """The session behind the channel; there until that has ended."""
        return self.channel.session

    async def run(self, command: str) -> None:
        """Log in and run a command."""
        await self.wire.log_in()
        self.wire.client.send(open_session(0, self.window))
        await self.wire.settle()
        self.wire.client.send(execute(0, command))
        while not (self.session.member and self.session.member.joined):
            await self.wire.settle()  # the turns may have no time for it yet

    def publisher(self, *, wants: int = 1) -> FakeSource:
        """Somebody who writes on its topic."""
        return publisher(self.service.router, TOPIC, wants=wants)

    @property
    def ended(self) -> dict[str, int]:
        """How many sessions have ended, by outcome."""
        metric = self.service.metrics.sessions_ended
        return {
            sample.labels["outcome"]: int(sample.value)
            for family in metric.collect()
            for sample in family.samples
            if sample.name.endswith("_total") and sample.value
        }

    @property
    def delivered(self) -> int:
        """Bytes that count as delivered."""
        return sum(self.service.router.statistics().delivered_bytes.values())


@contextlib.asynccontextmanager
async def reading(path: str, command: str, **settings: Any) -> AsyncIterator[Reading]:  # noqa: ANN401
    """A reader that has started."""
    one = Reading(path, **settings)
    await one.run(command)
    yield one
    await one.wire.finish()


def goodbye(code: int = asyncssh.DISC_BY_APPLICATION) -> bytes:
    """A DISCONNECT payload."""
    return Byte(MSG_DISCONNECT) + UInt32(code) + String("disconnected by user") + String("")


def _send(*payloads: bytes) -> Callable[[Wire], None]:
    """Have the client send, and the server read it all at once."""

    def send(wire: Wire) -> None:
        for payload in payloads:
            wire.client.send(payload)
        written = wire.client_side.written
        wire.server_side.deliver(bytes(written))
        written.clear()

    return send


class Way(NamedTuple):
    """How a reader goes, and what becomes of its session if it has not confirmed by then."""

    go: Callable[[Wire], None]
    outcome: str


WAYS = {
    "reset": Way(lambda wire: wire.server_side.break_off(ConnectionResetError()), "left"),
    "end of TCP": Way(lambda wire: wire.server.eof_received(), "left"),
    "disconnect": Way(_send(goodbye()), "left"),
    "protocol error": Way(_send(data(0, b"x") * 2, data(7, b"x")), "cut"),
    "keepalive": Way(lambda wire: wire.server.connection_lost(asyncssh.ConnectionLost("")), "cut"),
    "rekey timeout": Way(lambda wire: wire.server._rekey_too_slow(), "cut"),  # noqa: SLF001
    "shutdown": Way(lambda wire: wire.server.cut_off(Ending.SHUTDOWN), "shutdown"),
    "fault": Way(lambda wire: wire.server.cut_off(Ending.FAILED), "failed"),
}
"""All that ends a connection; none of them says that what was sent has been read."""

ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


async def end_of_reader(one: Reading, way: Callable[[Wire], None]) -> Receipt:
    """Send a reader everything, let it go, and return its publisher's receipt."""
    source = one.publisher()
    source.send(TEXT)
    source.end()
    await one.wire.settle()
    assert one.wire.client.data() == TEXT
    assert one.wire.client.of_kind(MSG_CHANNEL_CLOSE)
    assert not source.receipts
    way(one.wire)
    await one.wire.until(lambda: source.receipts)
    await one.wire.settle()
    return source.receipts[0]


@path_names
@ways
async def test_lost_before_it_confirmed(path: str, way: Way) -> None:
    """A connection that ends after the last byte, but without an answer, confirms nothing."""
    async with reading(path, "sub build") as one:
        receipt = await end_of_reader(one, way.go)
        assert receipt == Receipt(len(TEXT), 1, 1)
        assert receipt.undelivered
        assert one.ended == {way.outcome: 1}


@path_names
@pytest.mark.parametrize(
    "payloads",
    [(close(0),), (eof(0), close(0)), (close(0), goodbye()), (close(0), data(7, b"x"))],
    ids=["close", "end of file", "goodbye", "nonsense"],
)
async def test_close_confirms(path: str, payloads: tuple[bytes, ...]) -> None:
    """A close that answers ours does, also with the end of the connection in the same read."""
    async with reading(path, "sub build") as one:
        receipt = await end_of_reader(one, _send(*payloads))
        assert receipt == Receipt(len(TEXT), 1, 0)
        assert one.ended == {"done": 1}
        assert one.delivered == len(TEXT)


@path_names
async def test_close_before_a_reset_confirms(path: str) -> None:
    """What was read before the reset counts, though the session hears of both in one turn."""

    def close_and_reset(wire: Wire) -> None:
        _send(close(0))(wire)
        wire.server_side.break_off(ConnectionResetError())

    async with reading(path, "sub build") as one:
        assert await end_of_reader(one, close_and_reset) == Receipt(len(TEXT), 1, 0)
        assert one.ended == {"done": 1}


@path_names
async def test_pipe_that_only_reads_confirms_as_sub_does(path: str) -> None:
    """A pipe whose input has ended is a subscriber: its connection's end is no confirmation."""
    for way, early in ((WAYS["reset"].go, 1), (_send(close(0)), 0)):
        async with reading(path, "pipe build") as one:
            one.wire.client.send(eof(0))
            await one.wire.settle()
            assert await end_of_reader(one, way) == Receipt(len(TEXT), 1, early)
            assert one.ended == {"left" if early else "done": 1}


@path_names
async def test_close_before_everything_was_sent(path: str) -> None:
    """A client that closes its channel while its window keeps the rest back has left early."""
    one = Reading(path)
    one.window = len(TEXT)
    await one.run("sub build")
    source = one.publisher()
    source.send(TEXT, TEXT)
    source.end()
    await one.wire.settle()
    one.wire.client.send(close(0))
    await one.wire.until(lambda: source.receipts)
    await one.wire.settle()
    assert source.receipts == [Receipt(2 * len(TEXT), 1, 1)]
    assert one.ended == {"left": 1}
    assert one.delivered == len(TEXT)
    await one.wire.finish()


@path_names
async def test_cut_leaves_time_to_confirm(path: str) -> None:
    """A session that has been sent everything loses nothing by a cut, and may still answer."""
    async with reading(path, "sub build") as one:
        source = one.publisher()
        source.send(TEXT)
        source.end()
        await one.wire.settle()
        one.session.cut(Outcome.DENIED)
        await one.wire.settle()
        assert not source.receipts
        one.wire.client.send(close(0))
        await one.wire.settle()
        assert source.receipts == [Receipt(len(TEXT), 1, 0)]
        assert one.ended == {"done": 1}


STAYING = pytest.mark.parametrize("command", ["sub -k build", "sub '**'", "pipe -c build"])


def send_all(one: Reading) -> FakeSource:
    """Let a publisher send and end, all before the event loop turns."""
    source = one.publisher()
    source.send(TEXT)
    source.end()
    return source


@path_names
@STAYING
async def test_reader_that_stays_is_served_by_what_is_written(path: str, command: str) -> None:
    """The receipt comes when the bytes are on its connection, and not before."""
    async with reading(path, command) as one:
        source = send_all(one)
        assert one.wire.server_side.written or not source.receipts
        await one.wire.settle()
        assert one.wire.client.data() == TEXT
        assert source.receipts == [Receipt(len(TEXT), 1, 0)]
        one.wire.server_side.break_off(ConnectionResetError())
        await one.wire.settle()
        assert one.ended == {"left": 1}
        assert one.delivered == len(TEXT)


@path_names
@STAYING
@ways
async def test_reader_that_stays_is_lost_before_it_is_written_to(
    path: str, command: str, way: Way
) -> None:
    """Between the end of the connection and that of the session nothing counts as written."""
    async with reading(path, command) as one:
        source = one.publisher()
        source.send(TEXT)
        await one.wire.settle()
        way.go(one.wire)
        source.send(TEXT)
        source.end()
        assert not source.receipts
        await one.wire.settle()
        assert source.receipts == [Receipt(2 * len(TEXT), 1, 1)]
        assert one.ended == {way.outcome: 1}
        assert one.delivered == len(TEXT)


@path_names
@STAYING
@pytest.mark.parametrize("when", ["before", "in the write"])
async def test_transport_that_breaks(path: str, command: str, when: str) -> None:
    """A transport knows that it is broken before it tells: what it was given then is lost."""
    async with reading(path, command) as one:
        transport = one.wire.server_side
        if when == "before":
            transport.closed = True
        else:
            transport.breaks = True
        source = send_all(one)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not source.receipts
        assert transport.closed
        transport.break_off(BrokenPipeError())
        await one.wire.settle()
        assert source.receipts == [Receipt(len(TEXT), 1, 1)]
        assert one.delivered == 0


@path_names
@STAYING
async def test_channel_that_its_client_has_closed(path: str, command: str) -> None:
    """What comes before the session knows of the close is not written, nor is what was queued."""
    one = Reading(path)
    one.window = len(TEXT)
    await one.run(command)
    source = one.publisher()
    source.send(TEXT, TEXT)
    await one.wire.settle()
    _send(close(0))(one.wire)
    source.send(TEXT)
    source.end()
    assert not source.receipts
    await one.wire.settle()
    assert source.receipts == [Receipt(3 * len(TEXT), 1, 1)]
    assert one.ended == {"left": 1}
    assert one.delivered == len(TEXT)
    await one.wire.finish()


@path_names
@STAYING
async def test_reader_that_stays_is_cut(path: str, command: str) -> None:
    """What it had been sent by then decides for each publisher; the rest never counts."""
    one = Reading(path)
    one.window = len(TEXT)
    await one.run(command)
    served, early = one.publisher(), one.publisher()
    served.send(TEXT)
    served.end()
    await one.wire.settle()
    early.send(TEXT)
    early.end()
    one.session.cut(Outcome.STALLED)
    await one.wire.settle()
    assert served.receipts == [Receipt(len(TEXT), 1, 0)]
    assert early.receipts == [Receipt(len(TEXT), 1, 1)]
    one.wire.client.send(close(0))
    await one.wire.settle()
    assert one.ended == {"stalled": 1}
    assert one.delivered == len(TEXT)
    await one.wire.finish()


@path_names
@STAYING
@pytest.mark.parametrize("finishes", [True, False])
async def test_what_waits_for_new_keys_is_not_written(
    path: str, command: str, finishes: bool
) -> None:
    """A key exchange holds it back: it counts when that is over, and not if that never ends."""
    async with reading(path, command) as one:
        source = one.publisher()
        source.send(TEXT)
        await one.wire.settle()
        one.wire.client.rekey()
        one.wire.exchange()
        await asyncio.sleep(0)
        assert one.wire.server.exchanges_keys
        router = one.service.router
        router.publish(source.member, Chunk(TEXT))  # it was on its way when it became clogged
        router.end(source.member)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not source.receipts
        if finishes:
            await one.wire.settle()
            assert one.wire.client.data() == 2 * TEXT
            assert source.receipts == [Receipt(2 * len(TEXT), 1, 0)]
        else:
            WAYS["rekey timeout"].go(one.wire)
            await one.wire.settle()
            assert source.receipts == [Receipt(2 * len(TEXT), 1, 1)]
            assert one.delivered == len(TEXT)


@path_names
async def test_client_that_leaves_amid_keys(path: str) -> None:
    """It may not close its channel then: a DISCONNECT has to do, and a lost connection does not."""
    for way, early in ((_send(goodbye()), 0), (WAYS["reset"].go, 1)):

        def rekey_and_go(wire: Wire, way: Callable[[Wire], None] = way) -> None:
            wire.client.rekey()
            _send()(wire)
            way(wire)

        async with reading(path, "sub build") as one:
            assert await end_of_reader(one, rekey_and_go) == Receipt(len(TEXT), 1, early)


@path_names
async def test_goodbye_behind_new_keys_is_read_before_the_end_of_tcp(path: str) -> None:
    """A key exchange takes its time: nothing is read meanwhile, not even that it is over."""

    def rekey_and_go(wire: Wire) -> None:
        wire.client.rekey()
        _send(goodbye())(wire)
        assert not wire.server_side.reading

    async with reading(path, "sub build") as one:
        assert await end_of_reader(one, rekey_and_go) == Receipt(len(TEXT), 1, 0)


@path_names
async def test_end_waits_for_new_keys(path: str) -> None:
    """The end is not sent in a key exchange, so that nothing counts as an answer to it."""
    async with reading(path, "sub build") as one:
        source = one.publisher()
        source.send(TEXT)
        await one.wire.settle()
        one.wire.client.rekey()
        one.wire.exchange()
        await asyncio.sleep(0)
        assert one.wire.server.exchanges_keys
        one.service.router.end(source.member)
        _send(goodbye())(one.wire)
        await one.wire.settle()
        assert source.receipts == [Receipt(len(TEXT), 1, 1)]
        assert one.ended == {"left": 1}


@path_names
async def test_reader_that_others_keep_busy(path: str) -> None:
    """A reader whose queue never empties passes a publisher's mark all the same."""
    one = Reading(path)
    one.window = 0
    await one.run("sub build")
    source, busy = one.publisher(), one.publisher()
    source.send(TEXT)
    source.end()
    busy.send(TEXT)
    one.wire.client.send(adjust(0, len(TEXT)))
    await one.wire.settle()
    busy.send(TEXT)
    await one.wire.settle()
    assert source.receipts == [Receipt(len(TEXT), 1, 0)]
    await one.wire.finish()
