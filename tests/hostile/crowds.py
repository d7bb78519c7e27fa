"""Crowds: what one user can do at once who stays inside all limits, for tests and the benchmark.

A `Crowd` is many connections of ten sessions each, all on one topic: half publish and wait for
nobody, half read and stay.  What all of them are to do at once is made ready first, so that the
client's own work does not spread it over time.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, Self

from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_SUCCESS,
)
from asyncssh.packet import SSHPacket, String, UInt32

from .peer import MAX_PACKET, WINDOW, Channel, Peer, message, open_channel

if TYPE_CHECKING:
    from types import TracebackType

    from .ciphers import Suite
    from .peer import Target

SESSIONS: Final = 10
"""Of each connection: as many as the server's usual settings allow."""

COMMANDS: Final = ("pub -b=false -c crowd", "sub -k -c crowd")

RECORD_FLOOD_BYTES: Final = 24 << 20


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()

    def _open(self, peer: Peer, count: int) -> None:
        peer.send(*[open_channel("session", n, WINDOW, MAX_PACKET) for n in range(count)])
        for _ in range(count):
            packet = SSHPacket(peer.expect(MSG_CHANNEL_OPEN_CONFIRMATION)[1:])
            number, remote = packet.get_uint32(), packet.get_uint32()
            channel = peer.channels[number] = Channel(peer, number, remote, packet.get_uint32())
            self._channels.append(channel)

    def join(self) -> None:
        """Have all sessions run their commands, at once; returns when the server has said yes."""
        commands = itertools.cycle(COMMANDS)
        frames = {
            peer: b"".join(
                peer.frame(channel.request("exec", String(next(commands))))
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
