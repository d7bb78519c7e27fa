"""One connection without a network, with the real sessions behind it and a client led by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from asyncssh.constants import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST, MSG_GLOBAL_REQUEST
from asyncssh.packet import Boolean, Byte, SSHPacket, String

from pipe.errors import Outcome
from pipe.rights.callers import Caller
from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.channel import Channel
from tests.fakes import NoStore
from tests.ssh.messages import execute, open_session
from tests.ssh.wire import Wire

if TYPE_CHECKING:
    from pipe.settings import Lane


class Line:
    """One connection of alice's, with the real sessions behind it."""

    def __init__(self, lane: Lane) -> None:
        store = cast("Any", NoStore())
        self.service = Service(Settings(lane=lane), store)
        self.wire = Wire(lane, service=self.service)
        self.wire.make_session = lambda _: Channel(
            self.service, self.wire.server, Caller("alice", "SHA256:a")
        )
        self.client = self.wire.client

    async def start(self, number: int, command: str) -> None:
        """Open a session that runs a command; it has this number at both ends."""
        await self.say(open_session(number))
        await self.say(execute(number, command))

    async def say(self, *payloads: bytes) -> None:
        """Send these, and wait for what comes of it."""
        for payload in payloads:
            self.client.send(payload)
        await self.wire.settle()

    async def ask(self, name: str, body: bytes = b"") -> int:
        """Make a global request; return the kind of its one answer."""
        before = len(self.client.received)
        await self.say(Byte(MSG_GLOBAL_REQUEST) + String(name) + Boolean(True) + body)
        [answer] = self.client.received[before:]
        return answer.kind

    def statuses(self, number: int) -> list[int]:
        """The exit statuses that a session was given."""
        found = []
        for body in self.client.of_kind(MSG_CHANNEL_REQUEST):
            packet = SSHPacket(body)
            if packet.get_uint32() == number and packet.get_string() == b"exit-status":
                packet.get_boolean()
                found.append(packet.get_uint32())
        return found

    def closed(self, number: int) -> bool:
        """Whether the server has closed a channel."""
        return number.to_bytes(4, "big") in self.client.of_kind(MSG_CHANNEL_CLOSE)

    def ended(self, mode: str) -> dict[str, float]:
        """How many sessions of a mode have ended, by outcome."""
        value = self.service.metrics.registry.get_sample_value
        counts = {
            one.label: value("pipe_sessions_ended_total", {"mode": mode, "outcome": one.label})
            for one in Outcome
        }
        return {label: count for label, count in counts.items() if count}
