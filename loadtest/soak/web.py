"""Clients by HTTP, behind the same calls as those by SSH: a GET, and an upload.

Their status is what `ssh` would have ended with, by the table in docs/using.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import aiohttp

from tests.e2e.server import Status

from .clients import NO_STATUS, READ_BYTES, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

OK: Final = 200
ENDED: Final = 424
"""The publisher ended with a status of its own, which is in a header."""

STATUSES: Final = {
    OK: Status.OK,
    412: Status.TIMEOUT,
    429: Status.TIMEOUT,
    502: Status.BROKEN,
    503: Status.SHUTDOWN,
    504: Status.TIMEOUT,
}
QUEUE: Final = 4
"""Pieces that an upload takes ahead."""


class Web(Client):
    """A request, and what comes of it."""

    def __init__(self, session: aiohttp.ClientSession, address: str, *, uploads: bool) -> None:
        super().__init__()
        self._uploads = uploads
        self._session = session
        self._address = address
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(QUEUE)
        self._response: aiohttp.ClientResponse | None = None
        self._status = NO_STATUS
        self._request: asyncio.Task[aiohttp.ClientResponse]

    @classmethod
    def read_from(cls, session: aiohttp.ClientSession, address: str) -> Web:
        """GET it."""
        client = cls(session, address, uploads=False)
        client._ask(client._get())
        return client

    @classmethod
    def write_to(cls, session: aiohttp.ClientSession, address: str) -> Web:
        """PUT what is sent from now on."""
        client = cls(session, address, uploads=True)
        client._ask(client._put())
        return client

    def _ask(self, request: Coroutine[None, None, aiohttp.ClientResponse]) -> None:
        self._request = asyncio.create_task(request)
        self._begin()

    async def _get(self) -> aiohttp.ClientResponse:
        return await self._session.get(self._address)

    async def _put(self) -> aiohttp.ClientResponse:
        return await self._session.put(self._address, data=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        while piece := await self._pieces.get():
            yield piece

    async def _read(self) -> bytes:
        try:
            self._response = response = await asyncio.shield(self._request)
            piece = await response.content.read(min(self.piece, READ_BYTES))
        except (aiohttp.ClientError, asyncio.CancelledError) as error:
            raise OSError(f"{error!r}") from error
        if not piece:
            told = response.headers.get("Pipe-Status") if response.status == ENDED else None
            self._status = int(told or STATUSES.get(response.status, Status.USAGE))
        if response.status == OK and not self._uploads:
            return piece
        self.errors += piece
        return await self._read() if piece else b""

    async def _read_error(self) -> bytes:
        return b""

    async def _wait_status(self) -> int:
        return self._status

    async def send(self, data: bytes) -> None:
        """Write, at the pace at which it is taken."""
        put = asyncio.ensure_future(self._pieces.put(data))
        await asyncio.wait({put, self._request}, return_when=asyncio.FIRST_COMPLETED)
        if not put.done():
            put.cancel()
            raise ConnectionResetError("it has its answer already")

    def end_input(self) -> None:
        """The body ends."""
        self._tasks.append(asyncio.create_task(self._end()))

    async def _end(self) -> None:
        with contextlib.suppress(OSError):
            await self.send(b"")

    def leave(self) -> None:
        """Close the connection."""
        self.kill()

    def kill(self) -> None:
        """The same."""
        self._request.cancel()
        if self._response is not None:
            self._response.close()
