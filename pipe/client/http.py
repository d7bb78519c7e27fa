"""Streams of a server over HTTP, each a WebSocket with a connection of its own.

A WebSocket says how a stream has ended, which a response of HTTP cannot, and its reader's answer to
the server's close confirms that all was read.  aiohttp gives that answer when the close is received
here, behind all that came before.  Who leaves early hangs up instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import ClientTimeout, WSMsgType
from yarl import URL

from pipe.client.lines import Lines
from pipe.errors import Outcome, UsageError
from pipe.language.names import random_path
from pipe.language.requests import Pipe, Publish, Subscribe
from pipe.language.wording import count
from pipe.language.writing import flags_of
from pipe.library.ends import (
    CONNECTION_LOST,
    ConnectionLost,
    End,
    LoginRefused,
    Unavailable,
    end_from_json,
)
from pipe.stream.ports import Receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientResponse, ClientSession, ClientWebSocketResponse

    from pipe.language.requests import List

SENT_BYTES = 256 * 1024
"""The longest message that is sent."""

MAX_MESSAGE_BYTES = 2 << 20
"""The longest that is taken; the server sends 1 MiB at most."""

CONNECT_SECONDS = 30.0

MODES = {Publish: "pub", Subscribe: "sub", Pipe: "pipe"}

NOT_OVER_HTTP = ("progress", "size", "hold")
"""Flags about stderr, and about sessions of SSH."""

ONLY_SSH = "commands are for SSH: write the server's address as ssh://USER@HOST:PORT"

NOBODY_TEXT = (
    "access denied: HTTP needs a token: 'tokens add' over SSH makes one, for PIPE_TOKEN or token="
)

LOST = End(Outcome.CUT, CONNECTION_LOST, "the connection to the server is lost", lost=True)


class Socket:
    """One stream: a `pipe.library.streams.Link`.

    Args:
        session: its own.
        opened: the WebSocket.
        tell: gets lines about the stream.
        reads: whether a program reads it; if not, it listens by itself.
    """

    def __init__(
        self,
        session: ClientSession,
        opened: ClientWebSocketResponse,
        tell: Callable[[str], None],
        *,
        reads: bool,
    ) -> None:
        self._session = session
        self._socket = opened
        self._tell = tell
        self._reads = reads
        self._loop = asyncio.get_running_loop()
        self.lines = Lines()
        self._said: End | None = None
        self._receipt: Receipt | None = None
        self._end: End | None = None
        self._over = asyncio.Event()
        self._turn = asyncio.Lock()  # of whoever takes what comes
        self._unread: deque[bytes] = deque()  # of that, what came before a program has asked
        self._listener = None if reads else self._loop.create_task(self._listen())

    # -- to the server ----------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send bytes as soon as the connection takes them.

        Raises:
            PipeError: the stream has ended.
        """
        for start in range(0, len(data), SENT_BYTES):
            self._check_open()
            piece = data if len(data) <= SENT_BYTES else data[start : start + SENT_BYTES]
            await self._send(self._socket.send_bytes, piece)

    async def send_eof(self) -> None:
        """Say that everything is sent."""
        if not self._end:
            with contextlib.suppress(UsageError):
                await self._send(self._socket.send_str, '{"eof":true}')

    async def _send(self, send: Callable[[Any], Any], message: object) -> None:
        try:
            await send(message)
        except (ConnectionError, aiohttp.ClientError):
            if self._reads:  # nobody else hears how it has ended
                await self._listen()
            await self._over.wait()
            self._check_open()

    def _check_open(self) -> None:
        if self._end:
            self._end.check()
            raise UsageError("the stream has ended: nothing can be written to it any more")

    # -- from the server --------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """Return what has come; empty at the end, which this confirms."""
        if self._reads:
            async with self._turn:
                return self._unread.popleft() if self._unread else await self._next()
        await self._over.wait()
        return b""

    async def _next(self) -> bytes:
        while not self._end:
            try:
                message = await self._socket.receive()
            except (ConnectionError, aiohttp.ClientError):
                self._finish()
                break
            if message.type is WSMsgType.BINARY:
                if message.data:
                    return bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                self._hear(json.loads(message.data))
            else:
                self._finish()
        return b""

    async def _listen(self) -> None:
        """Hear how it ends.  Nothing more can be sent, so what comes before that is not much."""
        async with self._turn:
            while data := await self._next():
                if self._reads:
                    self._unread.append(data)

    def _hear(self, said: dict[str, Any]) -> None:
        if "end" in said:
            self._said = end_from_json(said["end"])
        elif "receipt" in said:
            counts = said["receipt"]
            self._receipt = Receipt(counts["bytes"], counts["subscribers"], counts["left_early"])
        elif said.get("waiting"):
            self._tell(f"waiting for {count(said['waiting'], 'subscriber')}")
        elif "note" in said:
            self.lines.feed(f"{said['note']}\n".encode())
            self._tell(said["note"])

    def _finish(self) -> None:
        self._end = self._said._replace(receipt=self._receipt) if self._said else LOST
        self._over.set()

    async def wait_end(self) -> End:
        """Wait until it has ended."""
        await self._over.wait()
        await self._hang_up()
        return self._end or LOST

    async def abort(self) -> None:
        """Leave now, without a word: a close would confirm what was not read."""
        if not self._end:
            self._end = LOST
            self._over.set()
            _shut(self._socket.get_extra_info("socket"))
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._listener and self._listener is not asyncio.current_task():
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await self._socket.close()
        await self._session.close()

    def drop(self) -> None:
        """The same from any thread, or none at all if its loop is closed."""
        with contextlib.suppress(RuntimeError):
            if not self._session.closed:
                asyncio.run_coroutine_threadsafe(self.abort(), self._loop)


class HTTP:
    """A server of HTTP.

    Args:
        url: where its page is.
        token: what lets us in.
        tell: gets lines about streams.
    """

    holds = False

    def __init__(self, url: str, token: str | None, tell: Callable[[str], None]) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tell = tell

    async def connect(self) -> None:
        """Find out whether it can be reached, and whether it knows us."""
        await self._get("/api/whoami")

    async def open(self, request: Publish | Subscribe | Pipe) -> Socket:
        """Begin a stream.

        Raises:
            PipeError: it was refused.
        """
        flags = flags_of(request)
        for name in NOT_OVER_HTTP:
            if name in flags:
                raise UsageError(f"--{name} is for SSH only: leave it out")
        query = urlencode({"mode": MODES[type(request)], "status": "true", **flags})
        path = f"/pipe/{quote(request.topic or random_path())}?{query}"
        session = self._session()
        try:
            async with self._asking():
                opened = await session.ws_connect(
                    URL(self._url + path, encoded=True), max_msg_size=MAX_MESSAGE_BYTES
                )
        except BaseException:
            await session.close()
            raise
        return Socket(session, opened, self._tell, reads=not isinstance(request, Publish))

    async def run(self, command: str, **terminal: Any) -> Socket:  # noqa: ARG002, ANN401
        """Refuse.

        Raises:
            UsageError: commands are for SSH.
        """
        raise UsageError(ONLY_SSH)

    async def answer(self, command: str, stdin: bytes) -> str:  # noqa: ARG002
        """Refuse.

        Raises:
            UsageError: commands are for SSH.
        """
        raise UsageError(ONLY_SSH)

    async def list_topics(self, request: List) -> list[dict[str, Any]]:
        """List topics, as the JSON of ``ls`` has them."""
        flags = {"pattern": request.pattern} if request.pattern else {}
        found: list[dict[str, Any]] = await self._get(f"/api/topics?{urlencode(flags)}")
        return found

    async def close(self) -> None:
        """Each stream has its own connection."""

    async def _get(self, path: str) -> Any:  # noqa: ANN401 - whatever the JSON is
        session = self._session()
        try:
            async with self._asking(), session.get(URL(self._url + path, encoded=True)) as response:
                return await response.json()
        finally:
            await session.close()

    def _session(self) -> ClientSession:
        return aiohttp.ClientSession(
            headers=self._headers,
            timeout=ClientTimeout(sock_connect=CONNECT_SECONDS),
            raise_for_status=_check,
        )

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        try:
            yield
        except (
            aiohttp.ClientResponseError,
            aiohttp.ServerDisconnectedError,
            ConnectionResetError,
        ) as error:
            raise ConnectionLost(
                f"{self._url}: no answer in HTTP: is it where the server's page is?"
            ) from error
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
            raise ConnectionLost(f"{self._url}: {reason}") from error


def _shut(transport_socket: socket.socket | None) -> None:
    """End a connection both ways: nothing more is sent, not even a goodbye."""
    if transport_socket is not None and transport_socket.fileno() >= 0:
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(transport_socket.fileno())) as copy,
        ):
            copy.shutdown(socket.SHUT_RDWR)


async def _check(response: ClientResponse) -> None:
    """Raise what a refusal says."""
    if response.status < 400:
        return
    try:
        end = end_from_json(json.loads(await response.read()))
    except (ValueError, KeyError, TypeError):
        raise Unavailable(
            f"the server answers with {response.status}: is {response.url.origin()} a pipe server?"
        ) from None
    if response.status == 401:
        shown = "Authorization" in response.request_info.headers
        raise LoginRefused(end.message if shown else NOBODY_TEXT)
    end.check()
