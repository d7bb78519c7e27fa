"""The transport's protocol on the lane, in place of asyncssh's connection."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Reader(Protocol):
    """A connection that reads into a buffer; its calls are those of `asyncio.BufferedProtocol`."""

    def get_buffer(self) -> memoryview:
        """Where to put what comes next."""

    def buffer_updated(self, size: int) -> None:
        """Handle ``size`` new bytes."""

    def eof_received(self) -> None:
        """The peer has closed its side."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""

    def pause_writing(self) -> None:
        """The transport is above its high water."""

    def resume_writing(self) -> None:
        """The transport is below its low water."""


class BufferReader(asyncio.BufferedProtocol):
    """Lets the transport read into our own buffer, which saves a copy of all input.

    A transport asks for a buffer only if its protocol is not an `asyncio.Protocol`.  asyncssh's
    connection is one, so this replaces it once the connection is on the lane.
    """

    def __init__(self, connection: Reader) -> None:
        self._connection = connection

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to put what comes next."""
        return self._connection.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Handle ``nbytes`` new bytes."""
        self._connection.buffer_updated(nbytes)

    def eof_received(self) -> None:
        """The peer has closed its side."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The transport is above its high water."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The transport is below its low water."""
        self._connection.resume_writing()
