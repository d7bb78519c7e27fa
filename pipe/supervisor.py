"""Who has started the server and looks after it, such as systemd: sd_notify(3).

It is told when the server serves, while workers are replaced, and when the server stops, so that
whatever depends on it starts once the ports are open, and a start that fails is seen as such.  With
``WatchdogSec=`` in the unit it also hears that the event loop turns, and replaces a server that has
none.  Where nobody wants to know, nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Self

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = structlog.get_logger()

ADDRESS_VARIABLE = "NOTIFY_SOCKET"
PERIOD_VARIABLE = "WATCHDOG_USEC"
PROCESS_VARIABLE = "WATCHDOG_PID"

SEND_SECONDS = 1.0
"""How long a message may wait for one who does not read; the event loop waits with it."""


class Supervisor:
    """The one that there is, or nobody.

    Args:
        address: of its socket; empty: there is none.
        patience: seconds without a beat after which it takes the server for dead; 0: it does not.
    """

    def __init__(self, address: str = "", patience: float = 0.0) -> None:
        self._address = address
        self._patience = patience

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str]) -> Self:
        """Find out who it is, and take that out of what other processes inherit from this one."""
        address = environment.pop(ADDRESS_VARIABLE, "")
        if address.startswith("@"):  # a name that is no file's
            address = f"\0{address[1:]}"
        period = environment.pop(PERIOD_VARIABLE, "")
        process = environment.pop(PROCESS_VARIABLE, "")
        ours = process in {"", str(os.getpid())}
        return cls(address, int(period) / 1e6 if ours and period.isdecimal() else 0.0)

    def ready(self) -> None:
        """The server serves."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Workers are being replaced; `ready` says that it is done."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The server takes nobody new."""
        self._tell("STOPPING=1")

    async def beat(self) -> None:
        """Say that the event loop turns, for as long as this is not cancelled."""
        while self._address and self._patience:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._patience / 2)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.settimeout(SEND_SECONDS)
                connection.connect(self._address)
                connection.send("\n".join(lines).encode())
        except OSError as error:
            log.warning("supervisor not told", what=lines[0], reason=error.strerror or str(error))
