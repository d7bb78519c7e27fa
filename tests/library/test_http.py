"""HTTP's own: a connection that breaks, and a server that wants to know who it is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import WSMsgType

import pipe
from pipe.client.http import Socket
from pipe.library.ends import ConnectionLost
from tests.web.served import serving


class Broken:
    """A WebSocket on which nothing can be sent any more, and something has come before."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)
        self._receiving = False
        self.gone = asyncio.Event()

    async def send_bytes(self, data: bytes) -> None:
        """It is closing."""
        self.gone.set()
        raise ConnectionResetError(len(data))

    async def receive(self) -> object:
        """Return the next piece, and in the end that it is closed; aiohttp wants one at a time."""
        assert not self._receiving
        self._receiving = True
        data = next(self._pieces, None)
        if data is None:
            await self.gone.wait()
        self._receiving = False
        return SimpleNamespace(
            type=WSMsgType.CLOSED if data is None else WSMsgType.BINARY, data=data
        )


def stream(broken: Broken) -> Socket:
    """A stream that is read, on it."""
    opened: Any = broken
    session: Any = None
    return Socket(session, opened, lambda _: None, reads=True)


async def test_who_cannot_write_can_still_read() -> None:
    """What has come before a connection broke is there, although it is a write that fails."""
    link = stream(Broken(b"one", b"two"))
    with pytest.raises(ConnectionLost):
        await link.send(b"lost")
    assert [await link.receive() for _ in range(3)] == [b"one", b"two", b""]


async def test_write_fails_while_another_task_reads() -> None:
    """Both are told of the end."""
    link = stream(Broken())
    reading = asyncio.ensure_future(link.receive())
    await asyncio.sleep(0)
    with pytest.raises(ConnectionLost):
        await link.send(b"lost")
    assert await reading == b""


@pytest.mark.parametrize(("token", "told"), [(None, "HTTP needs a token"), ("x", "no such token")])
async def test_who_is_not_let_in(token: str | None, told: str) -> None:
    """Whoever shows no token is told where one comes from, and not how curl is given it."""
    async with serving() as served:
        with pytest.raises(pipe.LoginRefused, match=told):
            await pipe.connect(served.url, token=token).__aenter__()
