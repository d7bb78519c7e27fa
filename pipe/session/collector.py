"""Collects a client's whole input for commands that read a file, such as a key, not a stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.errors import UsageError
from pipe.language.sizes import format_size

if TYPE_CHECKING:
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member


class Collector:
    """Keeps what an `Intake` hands on until its end: a `pipe.session.intake.Destination`.

    Args:
        limit: the most bytes to keep; more are an error.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._collected: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def publish(self, member: Member, chunk: Chunk) -> None:  # noqa: ARG002
        """Keep a chunk, unless there are too many."""
        if self._collected.done():
            return
        self._data += chunk.data
        if len(self._data) > self._limit:
            self._collected.set_exception(
                UsageError(f"there is more than {format_size(self._limit)} on stdin")
            )

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:  # noqa: ARG002
        """Keep records as a chunk; commands do not ask for records."""
        self.publish(member, records)
        return 0

    def end(self, member: Member) -> None:  # noqa: ARG002
        """Note the end of the input."""
        if not self._collected.done():
            self._collected.set_result(bytes(self._data))

    async def wait_collected(self) -> bytes:
        """Return all bytes once the client has sent its end of file.

        Raises:
            UsageError: there are too many.
        """
        return await self._collected
