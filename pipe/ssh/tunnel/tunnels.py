"""The tunnels of one connection: which are opened, and how many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import asyncssh

from pipe.service import Login
from pipe.ssh.tunnel.places import why_not
from pipe.ssh.tunnel.transport import Tunnel
from pipe.ssh.windows import MAX_PACKET_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.ssh.connection import Connection
    from pipe.ssh.login.restrictions import Restrictions

MAX_TUNNELS = 32
"""Tunnels at once on one connection, besides its sessions.  Browsers and Docker open a dozen; each
may hold ``window`` bytes that it has not read, and some 256 KiB more."""


class Tunnels:
    """The tunnels of one connection.

    Args:
        service: what all connections share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.open_now = 0
        self.used = False  # whether there ever was one

    def open(
        self,
        host: str,
        port: int,
        caller: Caller,
        restrictions: Restrictions,
        connection: Connection,
        closed: Callable[[], None],
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], Tunnel]:
        """Open one.

        Args:
            host: where the client wants it to lead, as it wrote it.
            port: the same.
            caller: who has logged in.
            restrictions: of that login.
            connection: carries it.
            closed: called when it is gone.

        Raises:
            ChannelOpenError: not to there, not by this login, or not now; the message says which.
        """
        service = self._service
        reason = service.access.why_barred(caller) or why_not(
            host, port, service.settings.resolved_public_host, restrictions
        )
        if reason:
            raise prohibited(reason)
        if service.tunnels is None:
            raise prohibited("this server has no HTTP to forward to")
        if self.open_now >= MAX_TUNNELS:
            service.metrics.refused.labels("tunnels").inc()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE,
                f"more than {MAX_TUNNELS} tunnels on one connection",
            )
        self.open_now += 1
        self.used = True
        login = Login(caller, connection.peer_address, connection.visit.holders)
        channel = connection.create_tcp_channel(
            window=service.settings.window, max_pktsize=MAX_PACKET_BYTES
        )
        return channel, Tunnel(connection, service.tunnels, login, partial(self._close, closed))

    def _close(self, closed: Callable[[], None]) -> None:
        self.open_now -= 1
        closed()


def prohibited(reason: str) -> asyncssh.ChannelOpenError:
    """Refuse a channel, and say why."""
    return asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason)
