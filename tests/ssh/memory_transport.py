"""A transport in memory: what is written stays until somebody takes it, what comes is delivered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

READ_BYTES = 1 << 18
"""The most that a transport delivers at once, as uvloop's do."""


class MemoryTransport(asyncio.Transport):
    """One end of a connection.  What its protocol writes waits in `written`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closed = False
        self.breaks = False  # at the next write, and tells later, as a socket does
        self._protocol: asyncio.BaseProtocol | None = None

    def deliver(self, data: bytes) -> int:
        """Let the protocol have as much of what the other end wrote as a read brings.

        Returns:
            How many bytes that was.
        """
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            buffer = memoryview(protocol.get_buffer(-1))
            size = min(len(data), len(buffer), READ_BYTES)
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            return size
        size = min(len(data), READ_BYTES)
        cast("asyncio.Protocol", protocol).data_received(data[:size])
        return size

    def break_off(self, error: Exception | None = None) -> None:
        """Lose the connection."""
        self.closed = True
        cast("asyncio.Protocol", self._protocol).connection_lost(error)

    def take(self) -> bytes:
        """What has been written since the last time."""
        data = bytes(self.written)
        self.written.clear()
        return data

    # -- what a protocol calls --------------------------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Invent addresses."""
        invented = {"peername": ("127.0.0.1", 50022), "sockname": ("127.0.0.1", 2222)}
        return invented.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to this one from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom it delivers to."""
        assert self._protocol
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a copy: the writer may use its memory again."""
        self.closed |= self.breaks
        if not self.closed:
            self.written += data

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Keep them all."""
        for data in list_of_data:
            self.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It takes whatever comes."""

    def get_write_buffer_size(self) -> int:
        """All is always sent."""
        return 0

    def pause_reading(self) -> None:
        """Deliver no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Deliver."""
        self.reading = True

    def is_reading(self) -> bool:
        """Whether it delivers."""
        return self.reading

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self.closed

    def abort(self) -> None:
        """It is over."""
        self.closed = True

    def close(self) -> None:
        """It is over."""
        self.closed = True
