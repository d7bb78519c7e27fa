"""The first protocol of each connection: asks the gate, then hands over to SSH or hangs up.

A refused client gets no bytes and costs no more than its accept: no SSH state is made for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


class Doorman(asyncio.Protocol):
    """Waits for one connection.

    Args:
        welcome: returns the protocol for a client with this IP address, or None to hang up.
    """

    def __init__(self, welcome: Callable[[str], asyncio.Protocol | None]) -> None:
        self._welcome = welcome

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the gate, and hand over or hang up."""
        host = (transport.get_extra_info("peername") or ("",))[0]
        protocol = self._welcome(str(host))
        stream = cast("asyncio.Transport", transport)
        if protocol is None:
            stream.abort()
        else:
            stream.set_protocol(protocol)
            protocol.connection_made(stream)
