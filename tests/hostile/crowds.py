"""Crowds: what one user can do at once who stays inside all limits, for tests and the benchmark.

A `Crowd` is many connections of ten sessions each, all on one topic: half publish and wait for
nobody, half read and stay.  What all of them are to do at once is made ready first, so that the
client's own work does not spread it over time.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import TYPE_CHECKING, Final, Self

from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_SUCCESS,
)
from asyncssh.packet import SSHPacket, String, UInt32

from .attacks import MIB, SHUT_SECONDS, fill, logged_in, transfer
from .peer import MAX_PACKET, WINDOW, Channel, Peer, message, open_channel
from .transport import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .ciphers import Suite
    from .peer import Target

SESSIONS: Final = 10
"""Of each connection: as many as the server's usual settings allow."""

COMMANDS: Final = ("pub -b=false -c crowd", "sub -k -c crowd")


class Crowd:
    """So many sessions of one user, open and without a command yet."""

    def __init__(self, target: Target, suite: Suite, sessions: int) -> None:
        self.target = target
        self.peers: list[Peer] = []
        self._channels: list[Channel] = []
        try:
            for _ in range(-(-sessions // SESSIONS)):
                peer = Peer(target, suite=suite)
                self.peers.append(peer)
                peer.log_in()
                self._open(peer, min(SESSIONS, sessions - len(self._channels)))
        except BaseException:
            self.drop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def _open(self, peer: Peer, count: int) -> None:
        peer.send(*[open_channel("session", n, WINDOW, MAX_PACKET) for n in range(count)])
        for _ in range(count):
            packet = SSHPacket(peer.expect(MSG_CHANNEL_OPEN_CONFIRMATION)[1:])
            number, remote = packet.get_uint32(), packet.get_uint32()
            channel = peer.channels[number] = Channel(peer, number, remote, packet.get_uint32())
            self._channels.append(channel)

    def join(self, commands: Sequence[str] = COMMANDS) -> None:
        """Have all sessions run their commands, at once; returns when the server has said yes."""
        each = itertools.cycle(commands)
        frames = {
            peer: b"".join(
                peer.frame(channel.request("exec", String(next(each))))
                for channel in peer.channels.values()
            )
            for peer in self.peers
        }
        self._send(frames)
        for peer in self.peers:
            for _ in peer.channels:
                peer.expect(MSG_CHANNEL_SUCCESS)

    def close(self) -> None:
        """Close all sessions at once; returns when the server has closed them too."""
        frames = {
            peer: b"".join(
                peer.frame(message(MSG_CHANNEL_CLOSE, UInt32(channel.remote)))
                for channel in peer.channels.values()
            )
            for peer in self.peers
        }
        self._send(frames)
        for peer in self.peers:
            for _ in peer.channels:
                peer.expect(MSG_CHANNEL_CLOSE)

    def _send(self, frames: dict[Peer, bytes]) -> None:
        for peer, data in frames.items():
            peer.send_bytes(data)

    def reset(self) -> None:
        """Hang up by reset, all connections at once."""
        while self.peers:
            self.peers.pop().reset()

    def drop(self) -> None:
        """Hang up."""
        while self.peers:
            self.peers.pop().drop()


# -- records --------------------------------------------------------------------------------------


def flood_of_newlines(target: Target, suite: Suite, flags: str = "", size: int = 16 * MIB) -> int:
    """Publish nothing but newlines as records, to two readers; how many bytes they got."""
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(logged_in(target, suite)) for _ in range(2)]
        channels = [reader.run("sub -c lines") for reader in readers]
        writer = stack.enter_context(logged_in(target, suite))
        publisher = writer.run(f"pub -c -m 2 --frame line {flags} lines")
        transfer(publisher, channels, b"\n" * size, PATIENCE)
        publisher.end()
        for channel in channels:
            channel.wait()
        return sum(channel.size for channel in channels)


def newlines_that_waited(target: Target, suite: Suite, flags: str, count: int = 100) -> int:
    """Publishers with windows full of newlines wait; then a reader comes.  Bytes that it got."""
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(logged_in(target, suite)) for _ in range(count // SESSIONS)]
        writers = [
            peer.run("pub -c --frame line waited") for peer in peers for _ in range(SESSIONS)
        ]
        for writer in writers:
            fill(writer, writer.window, SHUT_SECONDS)
            writer.end()
        reading = stack.enter_context(logged_in(target, suite))
        reader = reading.run(f"sub -c {flags} waited")
        reader.wait()
        return reader.size


def waiting_publishers(target: Target, suite: Suite, count: int = 500) -> int:
    """Publishers that wait for a reader, who comes and goes and comes back; how often."""
    times = 3
    with Crowd(target, suite, count) as crowd, logged_in(target, suite) as reading:
        crowd.join(["pub -c waiting"])
        for _ in range(times):
            channel = reading.run("sub -c waiting")
            channel.close()
            channel.wait()
    return times


FLOODS: Final[dict[str, Callable[[Target, Suite], object]]] = {
    "newlines, multicast": flood_of_newlines,
    "newlines, round robin": functools.partial(flood_of_newlines, flags="-d round_robin"),
    "100 x newlines, sub -s drop": functools.partial(newlines_that_waited, flags="-s drop"),
    "100 x newlines, sub -s block": functools.partial(newlines_that_waited, flags="-s block"),
    "500 pub wait": waiting_publishers,
}
