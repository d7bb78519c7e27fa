"""asyncssh's channel, without unused state and with an answer to commands that are not text."""

from __future__ import annotations

from typing import Any

from asyncssh.packet import SSHPacket, String

from pipe.ssh.confirmation import ConfirmedChannel
from pipe.ssh.lane.close_event import CloseEvent
from pipe.ssh.openssh import BROKEN_PIPE
from pipe.ssh.windows import TunnelChannel


class LaneChannel(ConfirmedChannel):
    """A session's channel on a connection of the lane."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - asyncssh's own
        super().__init__(*arguments, **options)
        self._close_event = CloseEvent()  # type: ignore[assignment]  # all that is used of one

    def _process_eow_at_openssh_dot_com_request(self, packet: SSHPacket) -> bool:
        """The client's stdout is gone: pass that to the session as a signal."""
        packet.check_end()
        return self._process_signal_request(SSHPacket(String(BROKEN_PIPE)))

    @property
    def peer_window(self) -> int:
        """How many bytes the client would take now, counting what the lane's ports have sent."""
        return self._send_window

    def _process_env_request(self, packet: SSHPacket) -> bool:
        """Accept a variable and drop it: asyncssh would keep every one that a client sends."""
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        self.note_variable(name, value)
        return True

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        """Pass on any command: asyncssh refuses one that is not UTF-8, and ssh cannot say why."""
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))


class LaneTunnelChannel(TunnelChannel):
    """A tunnel's channel on a connection of the lane."""

    @property
    def peer_window(self) -> int:
        """How many bytes the client would take now, counting what the lane's ports have sent."""
        return self._send_window
