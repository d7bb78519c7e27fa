"""Packets that break the protocol: they end their connection as asyncssh ends it, and nothing else.

Nothing of a bad packet, and nothing behind it, reaches a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import pytest
import structlog
from asyncssh.constants import MSG_DISCONNECT, MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, Byte, String, UInt32

from pipe.settings import Lane
from pipe.ssh.server import CIPHERS
from pipe.stream.chunks import Chunk
from tests.ssh.led_client import Client, Disconnect
from tests.ssh.messages import adjust, close, data, eof, padded
from tests.ssh.wire import LANES, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 65_536

MAX_PACKET = 262_144
"""Bytes of a packet that the server takes: what asyncssh and OpenSSH have as the limit."""

BEHIND = data(0, b"behind")


async def ended_by(lane: Lane, attack: Callable[[Client], bytes]) -> Wire:
    """A connection with one session after good data, the attack's bytes, and good data behind."""
    wire = await Wire.ready(lane, window=WINDOW)
    await wire.open()
    wire.client.send(data(0, b"good"))
    wire.client.send_raw(attack(wire.client))
    wire.client.send_raw(wire.client.frame(padded(BEHIND)))
    await wire.settle()
    return wire


def assert_nothing_came_of_it(wire: Wire) -> None:
    """All that the session saw was there before."""
    assert wire.events == [(0, "exec any"), (0, b"good"), (0, "closed")]
    assert wire.server_side.closed


def payload(content: bytes) -> Callable[[Client], bytes]:
    """A well-formed packet with this payload."""
    return lambda client: client.frame(padded(content))


def several(*contents: bytes) -> Callable[[Client], bytes]:
    """Several of them."""
    return lambda client: b"".join(client.frame(padded(content)) for content in contents)


def wrong_tag(client: Client) -> bytes:
    """A packet whose last bit was changed on its way."""
    frame = bytearray(client.frame(padded(data(0, b"bad"))))
    frame[-1] ^= 1
    return bytes(frame)


def wrong_text(client: Client) -> bytes:
    """A packet whose ciphertext was changed on its way."""
    frame = bytearray(client.frame(padded(data(0, b"bad"))))
    frame[12] ^= 0x80
    return bytes(frame)


def shorter_length(client: Client) -> bytes:
    """A packet whose length was changed on its way to another that would do."""
    frame = bytearray(client.frame(padded(data(0, bytes(100)))))
    frame[3] -= 16
    return bytes(frame)


def replayed(client: Client) -> bytes:
    """A packet that came before, once more."""
    frame = client.frame(padded(adjust(0, 1)))
    return frame + frame


AS_ASYNCSSH: dict[str, Callable[[Client], bytes]] = {
    "wrong tag": wrong_tag,
    "wrong ciphertext": wrong_text,
    "changed length": shorter_length,
    "replayed packet": replayed,
    "data on a channel that is not there": payload(data(1, b"bad")),
    "data on the last channel number": payload(data(2**32 - 1, b"bad")),
    "window adjust on a channel that is not there": payload(adjust(9, 1)),
    "data shorter than it says": payload(data(0, b"bad")[:-1]),
    "data longer than it says": payload(data(0, b"bad") + b"!"),
    "data of 2³²-1 bytes, it says": payload(data(0, b"")[:5] + b"\xff" * 4 + b"bad"),
    "data without a length": payload(data(0, b"")[:7]),
    "data without a channel": payload(data(0, b"")[:3]),
    "window adjust without a number": payload(adjust(0, 1)[:-2]),
    "window adjust with more behind it": payload(adjust(0, 1) + b"!"),
    "end of file with more behind it": payload(eof(0) + b"!"),
    "close with more behind it": payload(close(0) + b"!"),
    "data after end of file": several(eof(0), data(0, b"bad")),
    "a second end of file": several(eof(0), eof(0)),
    "stderr from a client": payload(Byte(95) + UInt32(0) + UInt32(1) + String("bad")),
    "an answer that nobody asked for": payload(Byte(99) + UInt32(0)),
    "a key exchange's packet outside of one": payload(Byte(30) + String(bytes(32))),
    "new keys that nobody agreed on": payload(Byte(21)),
    "a server's packet": payload(Byte(6) + String("ssh-userauth")),
    "an IGNORE that is too short": payload(Byte(2) + UInt32(100)),
    "a service that is not there": payload(Byte(5) + String("ssh-nothing")),
}
"""What asyncssh takes notice of: the lane leaves it to it."""


@pytest.mark.parametrize("name", AS_ASYNCSSH)
async def test_ends_as_asyncssh_ends_it(name: str) -> None:
    """With the same code and words to the client, and the same reason on the server."""
    wires = [await ended_by(lane, AS_ASYNCSSH[name]) for lane in LANES]
    events = [[event for event in wire.events if event[1] != "eof"] for wire in wires]
    assert events == [[(0, "exec any"), (0, b"good"), (0, "closed")]] * 2
    disconnects = [wire.client.goodbye for wire in wires]
    assert disconnects[0] == disconnects[1]
    assert disconnects[0]
    assert [str(wire.lost[0]) for wire in wires] == [disconnects[0].reason] * 2
    for wire in wires:
        await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_window_overrun(lane: Lane) -> None:
    """The byte after the last that the window had room for ends the connection."""
    wire = await Wire.ready(lane, window=WINDOW)
    await wire.open()
    [session] = wire.sessions
    session.port.pause_reading()
    for _ in range(WINDOW // 1024):
        wire.client.send(data(0, bytes(1024)))
    await wire.settle()
    assert not wire.lost
    wire.client.send(data(0, b"!"))
    await wire.settle()
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Window exceeded")
    assert (0, b"!") not in wire.events
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_window_overrun_in_one_packet(lane: Lane) -> None:
    """A packet that is larger than the window ends the connection, and none of it is taken."""
    wire = await Wire.ready(lane, window=WINDOW)
    await wire.open()
    wire.sessions[0].port.pause_reading()
    for size in (32_768, 32_767):
        wire.client.send(data(0, bytes(size)))
    wire.client.send(data(0, b"xx"))
    await wire.settle()
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Window exceeded")
    assert (0, b"xx") not in wire.events
    await wire.finish()


BAD_LENGTHS = {
    "0": 0,
    "1": 1,
    "a block less one": 15,
    "no multiple of a block": 40,
    "one over the maximum": MAX_PACKET + 1,
    "a block over the maximum": MAX_PACKET + 16,
    "2³¹": 2**31,
    "2³²-1": 2**32 - 1,
    "2³²-16": 2**32 - 16,
}


@pytest.mark.parametrize("length", BAD_LENGTHS.values(), ids=BAD_LENGTHS.keys())
async def test_bad_length(length: int) -> None:
    """A length that no packet has ends the connection before anything is decrypted or waited for.

    asyncssh says the same of one that is too large.  One that is too small, or no multiple of the
    block, it tries to open, and complains of the tag; the lane says what OpenSSH says.
    """
    wire = await ended_by(Lane.FAST, lambda _: UInt32(length) + bytes(11))
    assert_nothing_came_of_it(wire)
    assert wire.client.goodbye
    assert wire.client.goodbye.code == asyncssh.DISC_PROTOCOL_ERROR
    await wire.finish()

    plain = await ended_by(Lane.ASYNCSSH, lambda _: UInt32(length) + bytes(MAX_PACKET + 100))
    assert_nothing_came_of_it(plain)
    assert plain.client.goodbye
    too_large = length > MAX_PACKET
    expected = asyncssh.DISC_PROTOCOL_ERROR if too_large else asyncssh.DISC_MAC_ERROR
    assert plain.client.goodbye.code == expected
    await plain.finish()


async def test_bad_length_that_is_authentic() -> None:
    """A packet that is no multiple of a block is refused even if its sender made it so."""
    odd = padded(data(0, b"bad")) + b"\0"
    wire = await ended_by(Lane.FAST, lambda client: client.frame(odd))
    assert_nothing_came_of_it(wire)
    assert wire.client.goodbye
    assert wire.client.goodbye.code == asyncssh.DISC_PROTOCOL_ERROR
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_largest_packet_is_taken(lane: Lane) -> None:
    """As much data as the server allows, with as much padding as there may be."""
    content = bytes(32_768)
    body = data(0, content)
    padding = 255 - (1 + len(body) + 255) % 16
    wire = await ended_by(lane, lambda client: client.frame(padded(body, padding)))
    assert [event for _, event in wire.events] == ["exec any", b"good", content, b"behind"]
    await wire.finish()


def exactly(fill: int, padding: int) -> Callable[[Client], bytes]:
    """A DATA packet of whole blocks that says of itself to have so much padding."""
    body = data(0, b"b" * fill)
    rest = -(1 + len(body)) % 16
    return lambda client: client.frame(Byte(padding) + body + bytes(rest))


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
async def test_too_little_padding(padding: int) -> None:
    """RFC 4253 asks for 4 bytes; with fewer, OpenSSH would end its reader's connection."""
    body = data(0, b"b" * (32 - 1 - 9 - padding))
    wire = await ended_by(Lane.FAST, lambda client: client.frame(padded(body, padding)))
    assert_nothing_came_of_it(wire)
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Bad padding length")
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("padding", [31, 32, 33, 200, 255])
async def test_padding_longer_than_the_packet(lane: Lane, padding: int) -> None:
    """Padding that leaves no room for a payload, or is longer than all of it, ends it."""
    wire = await ended_by(lane, exactly(18, padding))
    assert_nothing_came_of_it(wire)
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("padding", [5, 12, 20, 30])
async def test_padding_that_eats_into_the_data(lane: Lane, padding: int) -> None:
    """A packet whose padding and data together are longer than it is ends it."""
    wire = await ended_by(lane, exactly(18, padding))
    assert_nothing_came_of_it(wire)
    if padding < 30:
        assert wire.client.goodbye
        assert wire.client.goodbye.code == asyncssh.DISC_PROTOCOL_ERROR
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize(
    ("window", "grown"),
    [(2**32 - 1, [1]), (2**32 - 1, [2**32 - 1]), (2**31, [2**31]), (0, [2**31, 2**31])],
)
async def test_window_adjust_overflow(
    lane: Lane, cipher: str, window: int, grown: list[int]
) -> None:
    """A window of more than 2³²-1 bytes ends the connection (RFC 4254, section 5.2)."""
    wire = await Wire.ready(lane, ciphers=[cipher])
    await wire.open(window=window)
    for size in grown:
        wire.client.send(adjust(0, size))
    await wire.settle()
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Window adjust overflow")
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("cipher", CIPHERS)
async def test_window_that_was_used_up_may_grow_again(lane: Lane, cipher: str) -> None:
    """What has been sent is room for the window to grow by, on stdout and on stderr, no more."""
    wire = await Wire.ready(lane, ciphers=[cipher])
    await wire.open(window=2**32 - 1)
    [session] = wire.sessions
    session.port.write(Chunk(bytes(1000)))
    session.channel.write_stderr(bytes(500))
    await wire.settle()
    wire.client.send(adjust(0, 1500))
    await wire.settle()
    assert not wire.lost
    wire.client.send(adjust(0, 1))
    await wire.settle()
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Window adjust overflow")
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_largest_window_is_no_overflow(lane: Lane) -> None:
    """A window of 2³²-1 bytes is allowed, however it came about."""
    wire = await Wire.ready(lane)
    await wire.open(window=1)
    wire.client.send(adjust(0, 2**32 - 2))
    wire.client.send(adjust(0, 0))
    await wire.settle()
    assert not wire.lost
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_data_before_the_command_is_bounded(lane: Lane) -> None:
    """A client that sends without ever saying what to run gets no more room than its window."""
    wire = await Wire.ready(lane, window=WINDOW)
    wire.client.send(b"Z" + String("session") + UInt32(0) + UInt32(WINDOW) + UInt32(32_768))
    await wire.settle()
    for _ in range(3):
        wire.client.send(data(0, bytes(32_768)))
    await wire.settle()
    assert wire.client.adjustments() == []
    assert wire.client.goodbye == Disconnect(asyncssh.DISC_PROTOCOL_ERROR, "Window exceeded")
    await wire.finish()


@pytest.mark.parametrize("lane", LANES)
async def test_an_error_on_one_connection_is_nobody_elses(lane: Lane) -> None:
    """While one connection is ended, another one on the same server goes on."""
    innocent = await Wire.ready(lane)
    await innocent.open()
    guilty = await ended_by(lane, wrong_tag)
    innocent.client.send(data(0, b"still here"))
    await innocent.settle()
    assert innocent.events[-1] == (0, b"still here")
    assert not innocent.lost
    await guilty.finish()
    await innocent.finish()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("tcpip-forward", String("localhost") + UInt32(80)),
        ("streamlocal-forward@openssh.com", String("socket")),
    ],
)
@pytest.mark.parametrize("lane", LANES)
async def test_forwarding_asked_for_at_the_end_is_no_fault_of_ours(
    lane: Lane, name: str, body: bytes
) -> None:
    """Who asks for ports and says goodbye in one breath leaves nothing to judge afterwards."""
    wire = await Wire.ready(lane)
    ask = Byte(MSG_GLOBAL_REQUEST) + String(name) + Boolean(True) + body
    leave = Byte(MSG_DISCONNECT) + UInt32(asyncssh.DISC_BY_APPLICATION) + String("") + String("")
    wire.client.send_raw(several(ask, ask, leave)(wire.client))
    with structlog.testing.capture_logs() as logged:
        await wire.settle()
    assert wire.server_side.closed
    assert logged == []


@pytest.mark.parametrize("lane", LANES)
async def test_fault_after_our_goodbye_closes_all_the_same(lane: Lane) -> None:
    """It is not worth a trace, and yet the end of the connection: nobody else would close it."""
    wire = await Wire.ready(lane)
    wire.server.send_packet(
        MSG_DISCONNECT, UInt32(asyncssh.DISC_BY_APPLICATION), String(""), String("")
    )
    with structlog.testing.capture_logs() as logged:
        try:
            raise RuntimeError("a fault")
        except RuntimeError:
            wire.server.internal_error()
        await wire.settle()
    assert wire.server_side.closed
    assert logged == []
