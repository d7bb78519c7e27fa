"""The lane against asyncssh's own path: the same packets, cut anywhere, have the same effect.

What is compared is all that can be seen from outside: the chunks and other events of each session,
every packet that comes back, the reason for a disconnect, and how many packets were counted.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import asyncssh
import pytest
from asyncssh.constants import MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, Byte, String, UInt32
from hypothesis import given, settings
from hypothesis import strategies as st

from pipe.settings import Lane
from tests.e2e.processes import DEADLINE
from tests.ssh.messages import MSG_UNKNOWN, adjust, close, data, debug, eof, request
from tests.ssh.wire import Recorder, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipe.stream.chunks import Chunk
    from tests.ssh.led_client import Disconnect, Received

WINDOW = 65_536
"""Bytes, the least that the server can be set to: so that it is opened again and again."""

CHANNELS = 2


AES256 = ("aes256-gcm@openssh.com",)


def keepalive() -> bytes:
    """What OpenSSH sends to see whether a server lives."""
    return Byte(MSG_GLOBAL_REQUEST) + String("keepalive@openssh.com") + Boolean(True)


def ignore(content: bytes) -> bytes:
    """An IGNORE message."""
    return Byte(2) + String(content)


class Seen(NamedTuple):
    """All that a sequence of packets had as its effect.

    The end of a session is not part of the ``order`` of all events, only of its own ``events``:
    asyncssh tells it one turn later.
    """

    order: list[tuple[int, object]]
    events: dict[int, list[object]]
    answers: list[Received]
    disconnect: Disconnect | None
    lost: list[str]


Step = bytes | str
"""A payload, or `REKEY`."""

REKEY = "rekey"


async def play(
    lane: Lane, steps: Sequence[Step], cuts: Iterable[int] = (), *, ciphers: Sequence[str] = AES256
) -> tuple[Seen, int]:
    """Send these on a fresh connection with two sessions; also return how many bytes they were."""
    wire = await Wire.ready(lane, window=WINDOW, ciphers=ciphers)
    await wire.open(CHANNELS)
    wire.events.clear()
    wire.client.received.clear()
    wire.cut(cuts)
    for step in steps:
        if isinstance(step, str):
            await wire.settle()
            wire.client.rekey()
        elif step[0] == 2:
            wire.client.send_ignore(step[5:])
        else:
            wire.client.send(step)
    await wire.settle()
    if not wire.lost:
        wire.client.send(Byte(MSG_UNKNOWN))  # the answer tells how many packets were counted
        await wire.settle()
    size = wire.carried
    lost = [str(reason) for reason in wire.lost]
    seen = Seen(
        [event for event in wire.events if event[1] != "closed"],
        {n: [event for number, event in wire.events if number == n] for n in range(CHANNELS)},
        list(wire.client.received),
        wire.client.goodbye,
        lost,
    )
    await wire.finish()
    return seen, size


SHORT: tuple[Step, ...] = (
    data(0, b"a"),
    data(1, b"bb"),
    adjust(0, 1),
    ignore(b"noise"),
    data(0, b"17 bytes of data."),
    keepalive(),
    request(1, "keepalive@openssh.com"),
    data(1, b""),
    debug("hello"),
    data(0, b"last"),
    eof(0),
    data(1, b"more"),
    close(0),
    data(1, b"end"),
)


async def test_every_single_cut() -> None:
    """A short stream that arrives in two reads is the same wherever the first one ends."""
    expected, size = await play(Lane.ASYNCSSH, SHORT)
    assert expected.events[0] == [b"a", b"17 bytes of data.", b"last", "eof", "closed"]
    assert not expected.lost
    for position in range(size + 1):
        assert (await play(Lane.FAST, SHORT, [position]))[0] == expected, f"cut at {position}"


async def test_byte_by_byte() -> None:
    """A stream that arrives byte by byte is the same on both lanes."""
    expected, size = await play(Lane.ASYNCSSH, SHORT)
    for lane in Lane:
        assert (await play(lane, SHORT, range(size)))[0] == expected


REKEYED: tuple[Step, ...] = (
    data(0, b"before"),
    REKEY,
    data(0, b"while keys are exchanged: asyncssh keeps it back"),
    adjust(1, 5),
    ignore(b"x"),
    data(1, b"after"),
    REKEY,
    data(0, b"again"),
    eof(1),
)


async def test_every_single_cut_through_rekeying() -> None:
    """Keys that change twice leave a stream as it is, wherever a read ends."""
    expected, size = await play(Lane.ASYNCSSH, REKEYED)
    assert not expected.lost
    assert expected.events[0][0] == b"before"
    assert len(expected.order) == 5
    for position in range(size + 1):
        seen, _ = await play(Lane.FAST, REKEYED, [position])
        assert seen == expected, f"cut at {position}"


async def test_rekeying_byte_by_byte() -> None:
    """The same where every read brings one byte."""
    expected, size = await play(Lane.ASYNCSSH, REKEYED)
    assert (await play(Lane.FAST, REKEYED, range(size)))[0] == expected


channels = st.integers(0, CHANNELS - 1)
sizes = st.sampled_from([1, 2, 3, 6, 7, 8, 22, 23, 24, 255, 256, 1000, 32_767, 32_768])
contents = st.builds(lambda size, fill: bytes([fill]) * size, sizes, st.integers(0, 255))
windows = st.integers(0, 2**20)
good = (
    st.builds(data, channels, contents)
    | st.builds(data, channels, st.binary(max_size=40))
    | st.builds(adjust, channels, windows)
    | st.builds(ignore, st.binary(max_size=300))
    | st.builds(debug, st.text(max_size=20))
    | st.builds(keepalive)
    | st.builds(
        request,
        channels,
        st.sampled_from(["keepalive@openssh.com", "window-change", "frobnicate", "exec", "env"]),
        st.binary(max_size=20),
        reply=st.booleans(),
    )
    | st.builds(eof, channels)
    | st.builds(close, channels)
)
bad = (
    st.builds(data, st.integers(CHANNELS, 2**32 - 1), contents)
    | st.builds(adjust, st.integers(CHANNELS, 2**32 - 1), windows)
    | st.builds(lambda channel, tail: data(channel, b"x") + tail, channels, st.binary(min_size=1))
    | st.builds(lambda channel, cut: data(channel, b"xyz")[:-cut], channels, st.integers(1, 11))
    | st.builds(lambda channel, tail: adjust(channel, 1) + tail, channels, st.binary(min_size=1))
    | st.builds(lambda channel, cut: adjust(channel, 1)[:-cut], channels, st.integers(1, 8))
    | st.builds(lambda kind, rest: Byte(kind) + rest, st.integers(80, 127), st.binary(max_size=30))
    | st.builds(lambda channel: data(channel, bytes(32_768)) * 3, channels)
)


def without_what_follows_a_close(steps: list[bytes]) -> list[bytes]:
    """Leave out what depends on whether the loop has turned since.

    asyncssh forgets a closed channel a turn later, and words its complaint accordingly.
    """
    closed: set[bytes] = set()
    kept = []
    for step in steps:
        if 90 <= step[0] <= 100 and step[1:5] in closed:
            continue
        kept.append(step)
        if step[0] == 97:
            closed.add(step[1:5])
    return kept


scripts = st.lists(good, min_size=1, max_size=25).map(without_what_follows_a_close)
cuts = st.lists(st.integers(0, 100_000), max_size=12)


@settings(max_examples=60)
@given(scripts, cuts)
async def test_any_stream_cut_anywhere(steps: list[bytes], positions: list[int]) -> None:
    """Valid packets of all kinds, on several channels, in several reads."""
    expected, _ = await play(Lane.ASYNCSSH, steps)
    seen, _ = await play(Lane.FAST, steps, positions)
    assert seen == expected


@settings(max_examples=60)
@given(scripts, bad, cuts)
async def test_any_stream_with_a_bad_end(
    steps: list[bytes], last: bytes, positions: list[int]
) -> None:
    """The same before a packet that is wrong, with as much of an effect as it has there."""
    script = without_what_follows_a_close([*steps, last])
    expected, _ = await play(Lane.ASYNCSSH, script)
    seen, _ = await play(Lane.FAST, script, positions)
    assert seen == expected


@settings(max_examples=30)
@given(st.lists(good | st.just(REKEY), min_size=1, max_size=15), cuts)
async def test_any_stream_with_rekeying(steps: list[Step], positions: list[int]) -> None:
    """The same with new keys in between."""
    script = [step for step in steps if isinstance(step, str) or step[0] not in {96, 97}]
    expected, _ = await play(Lane.ASYNCSSH, script)
    seen, _ = await play(Lane.FAST, script, positions)
    assert seen == expected


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes256-ctr"])
async def test_other_ciphers_take_asyncsshs_path(cipher: str) -> None:
    """What the lane cannot serve has the same effect, through asyncssh's own parser."""
    expected, size = await play(Lane.ASYNCSSH, SHORT, ciphers=[cipher])
    for positions in ([], range(size), [size // 2]):
        assert (await play(Lane.FAST, SHORT, positions, ciphers=[cipher]))[0] == expected


async def test_different_ciphers_in_the_two_directions() -> None:
    """A client that wants AES-GCM in one direction only is served as well, on asyncssh's path."""
    for pair in (
        ("aes128-gcm@openssh.com", "aes256-ctr"),
        ("aes256-ctr", "aes128-gcm@openssh.com"),
    ):
        wire = Wire(Lane.FAST)
        wire.client.offer(*[[name] for name in pair])
        await wire.log_in()
        await wire.open()
        assert wire.server.lane is Lane.ASYNCSSH
        wire.client.send(data(0, b"there"))
        await wire.settle()
        [session] = wire.sessions
        session.port.write(session.chunks[0])
        await wire.settle()
        assert wire.client.data() == b"there"
        await wire.finish()


async def test_a_connection_on_the_lane_stays_on_aes_gcm() -> None:
    """A client that has AES-GCM and asks for something else later on gets no other cipher."""
    wire = await Wire.ready(Lane.FAST)
    await wire.open()
    wire.client.rekey(["chacha20-poly1305@openssh.com"])
    await wire.settle()
    assert wire.lost
    assert "No matching encryption algorithm" in str(wire.lost[0])
    await wire.finish()


async def test_it_stays_on_aes_gcm_even_if_it_was_offered_more() -> None:
    """The same for a client that waited for the server's KEXINIT, which then offers all ciphers."""
    wire = Wire(Lane.FAST)
    wire.cut([len(b"SSH-2.0-AsyncSSH_") + len(asyncssh.__version__) + 2])
    wire.connect()
    wire.exchange()  # both versions, and not the client's KEXINIT
    async with asyncio.timeout(DEADLINE):
        while b"chacha20-poly1305" not in wire.server_side.written:  # noqa: ASYNC110 - for a timer
            await asyncio.sleep(0.01)
    await wire.until(lambda: wire.client.ready)
    await wire.open()
    assert wire.server.lane is Lane.FAST
    wire.client.rekey(["chacha20-poly1305@openssh.com"])
    await wire.settle()
    assert "No matching encryption algorithm" in str(wire.lost[0])
    await wire.finish()


async def test_rekeying_from_another_cipher_to_aes_gcm() -> None:
    """Sessions from before stay on asyncssh's path, new ones are on the lane, and all work."""
    wire = await Wire.ready(Lane.FAST, ciphers=["chacha20-poly1305@openssh.com"])
    await wire.open()
    wire.client.rekey(["aes128-gcm@openssh.com"])
    await wire.settle()
    assert wire.server.lane is Lane.FAST
    await wire.open(first=1)
    for number, session in enumerate(wire.sessions):
        wire.client.send(data(number, b"to %d" % number))
        await wire.settle()
        session.port.write(session.chunks[0])
        await wire.settle()
        assert wire.client.data(number) == b"to %d" % number
    await wire.finish()


def forward(target: Recorder, _source: Recorder, chunk: Chunk) -> None:
    """Write a chunk to another session, as the router does."""
    target.port.write(chunk)


async def test_channel_number_of_the_sender_is_not_the_readers() -> None:
    """What comes on one channel goes out under the reader's own number, whatever both are."""
    for sender in (0, 1):
        for reader in (0, 1, 7, 2**32 - 1):
            source, target = await Wire.ready(Lane.FAST), await Wire.ready(Lane.FAST)
            await source.open(2)
            await target.open(first=reader)
            source.on_chunk = partial(forward, target.sessions[0])
            source.client.send(data(sender, b"hello"))
            await source.settle()
            await target.settle()
            assert target.client.data(reader) == b"hello"
            assert len(target.client.chunks(reader)) == 1
            await source.finish()
            await target.finish()


async def test_sequence_numbers_run_on() -> None:
    """Packets of the lane and of asyncssh are counted as one row, over a change of keys too."""
    wires = [await Wire.ready(lane) for lane in Lane]
    for wire in wires:
        await wire.open()
        for _ in range(3):
            wire.client.send(data(0, b"x"))
            wire.client.send(adjust(0, 1))
            wire.client.send_ignore(b"y")
        await wire.settle()
    numbers = [await wire.receive_sequence() for wire in wires]
    assert numbers[0] == numbers[1]
    for wire in wires:
        wire.client.rekey()
        await wire.settle()
        wire.client.send(data(0, UInt32(0)))
        await wire.settle()
    assert len({await wire.receive_sequence() for wire in wires}) == 1
    for wire in wires:
        await wire.finish()
