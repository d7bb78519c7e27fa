"""The first protocol of each connection: asks the gate, and makes way for SSH or hangs up.

A refused client gets no byte and costs no more than its accept: none of SSH's state is made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


class Doorman(asyncio.Protocol):
    """Stands at the door until somebody comes.

    Args:
        welcome: gives the protocol for a client with this IP address; None: hang up.
    """

    def __init__(self, welcome: Callable[[str], asyncio.Protocol | None]) -> None:
        self._welcome = welcome

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        host = (transport.get_extra_info("peername") or ("",))[0]
        protocol = self._welcome(str(host))
        stream = cast("asyncio.Transport", transport)
        if protocol is None:
            stream.abort()
        else:
            stream.set_protocol(protocol)
            protocol.connection_made(stream)
