"""Streams of a server over SSH, each on a channel of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncssh

from pipe.client.confirm import HeldClose
from pipe.client.lines import PREFIX, Lines
from pipe.errors import UsageError
from pipe.language.requests import SSH_PORT, List, Pipe, Publish, Subscribe, ssh_command
from pipe.language.writing import command_of
from pipe.library.ends import ConnectionLost, End, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUEUE_BYTES = 256 * 1024
"""What waits to be read before the channel is asked to wait; its window holds more."""

WRITE_BYTES = 32 * 1024
"""What is written to a channel at once: a packet, as asyncssh moves what is left of more."""

BUFFER_BYTES = 256 * 1024
"""What a channel may have to send before a write waits."""

MAX_STREAMS = 8
"""On one connection: a server allows ten sessions by default, and commands need some."""

GOODBYE_SECONDS = 3.0
"""How long a connection may take to close."""

KEEPALIVE_SECONDS = 30
KEEPALIVES = 3
"""A connection without an answer to so many is lost."""

NO_KEY = (
    "it knows none of the keys that this tried; if you have none, 'ssh-keygen -t ed25519' makes one"
)

CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""What the server's fast path speaks, before all others."""


class Session(asyncssh.SSHClientSession[bytes]):
    """One command on a channel: a `pipe.library.streams.Link`.

    Args:
        release: called once it is over.
        tell: gets each line of stderr.
        hear: gets stderr as it comes.
        reads: whether the server waits for the confirmation that all was read.
    """

    def __init__(
        self,
        release: Callable[[], None],
        tell: Callable[[str], None],
        hear: Callable[[bytes], None] | None,
        *,
        reads: bool,
    ) -> None:
        self._release = release
        self._reads = reads
        self._hear = hear
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self.lines = Lines()
        self._close: HeldClose | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._paused = False
        self._status: int | None = None
        self._at_end = False
        self._end: End | None = None
        self._left = False
        self._begun = False
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    # -- asyncssh ---------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan
        self._begun = True
        if self._left:
            chan.abort()
        chan.set_write_buffer_limits(high=BUFFER_BYTES)
        if self._reads:
            self._close = HeldClose(chan, self._news.set)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Bytes of the stream, or of stderr."""
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            if self._hear:
                self._hear(data)
            for line in self.lines.feed(data):
                self._tell(line)
            return
        self._queue.append(data)
        self._queued += len(data)
        self._news.set()
        if self._queued >= QUEUE_BYTES and not self._paused:
            self._paused = True
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        """The server sends no more; what we send may go on."""
        self._at_end = True
        return True

    def exit_status_received(self, status: int) -> None:
        """The command has ended."""
        self._status = status

    def resize(self, size: tuple[int, int]) -> None:
        """Our terminal has another size: columns, rows."""
        if not self._end:
            self._channel.change_terminal_size(*size)

    def pause_writing(self) -> None:
        """The channel's buffer is full."""
        self._open.clear()

    def resume_writing(self) -> None:
        """It has room."""
        self._open.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The channel is closed, or the whole connection is lost."""
        self._end = self.lines.end(self._status, cut=not self._at_end)
        self._release()
        for event in (self._over, self._open, self._news):
            event.set()

    # -- the stream -------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send bytes as soon as the channel has room.

        Raises:
            PipeError: the stream has ended.
        """
        for start in range(0, len(data), WRITE_BYTES):
            await self._open.wait()
            self._check_open()
            piece = data if len(data) <= WRITE_BYTES else data[start : start + WRITE_BYTES]
            try:
                self._channel.write(piece)
            except BrokenPipeError:  # the server has closed it, and we are about to hear why
                await self._over.wait()
                self._check_open()
                raise UsageError("the stream has ended: nothing can be written to it") from None

    def _check_open(self) -> None:
        if self._end:
            self._end.check()
            raise UsageError("the stream has ended: nothing can be written to it any more")

    async def send_eof(self) -> None:
        """Say that everything is sent."""
        if not self._end:
            self._channel.write_eof()

    async def receive(self) -> bytes:
        """Return what has come; empty at the end, which this confirms."""
        while not self._queue:
            if self._paused:
                self._paused = False
                self._channel.resume_reading()
            elif self._close and self._close.has_come:
                self._close.let_through()
            elif self._end:
                return b""
            else:
                self._news.clear()
                await self._news.wait()
        data = self._queue.popleft() if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        return data

    async def wait_end(self) -> End:
        """Wait until the session has ended."""
        await self._over.wait()
        return self._end or self.lines.end(None)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._end is not None

    async def abort(self) -> None:
        """Leave now."""
        self._leave()

    def drop(self) -> None:
        """The same from any thread, or none at all if its loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._leave)

    def forsake(self) -> None:
        """Leave, although it may not have begun."""
        if self._begun:
            self._leave()
        elif not self._left:
            self._left = True
            self._release()

    def _leave(self) -> None:
        """Close the channel.  Where a close has come, ours would confirm what was not read."""
        if self._end or self._left:
            return
        self._left = True
        self._queue.clear()
        with contextlib.suppress(OSError):
            if self._reads:
                self._channel.send_signal("PIPE")
            self._channel.abort()
        if self._close:
            self._close.let_through()


class SSH:
    """A server's connections: one, and more where that has as many streams as it may.

    Args:
        options: of `asyncssh.connect`.
        name: the server's, for people.
        tell: gets each line that the server says about a stream.
        hear: gets the same as it comes.
    """

    holds = True

    def __init__(
        self,
        options: dict[str, Any],
        name: str,
        tell: Callable[[str], None],
        hear: Callable[[bytes], None] | None = None,
    ) -> None:
        self._hear = hear
        self._options = options
        self._name = name
        self._tell = tell
        self._open: dict[asyncssh.SSHClientConnection, int] = {}
        self._connecting = asyncio.Lock()

    def again(self) -> SSH:
        """Return another way to the same server, with connections of its own."""
        return SSH(self._options, self._name, self._tell, self._hear)

    async def connect(self) -> None:
        """Have a connection.

        Raises:
            ConnectionLost: there is none.
        """
        async with self._connecting:
            await self._find()

    async def _find(self) -> asyncssh.SSHClientConnection:
        for connection, streams in list(self._open.items()):
            if connection.is_closed():
                del self._open[connection]
            elif streams < MAX_STREAMS:
                return connection
        connection = await connect(self._options, self._name)
        self._open[connection] = 0
        return connection

    async def open(self, request: Publish | Subscribe | Pipe) -> Session:
        """Begin a stream."""
        return await self.run(command_of(request), reads=not isinstance(request, Publish))

    async def run(self, command: str, *, reads: bool = False, **terminal: Any) -> Session:  # noqa: ANN401
        """Begin a command; ``terminal`` is what `asyncssh` is to be told of ours.

        Raises:
            ConnectionLost: the connection is gone, or there never was one.
        """
        async with self._connecting:
            connection = await self._find()
            self._open[connection] += 1
        session = Session(partial(self._release, connection), self._tell, self._hear, reads=reads)
        try:
            await connection.create_session(lambda: session, command, encoding=None, **terminal)
        except (OSError, asyncssh.Error) as error:
            session.forsake()
            raise ConnectionLost(f"{self._name}: {_reason(error)}") from error
        except AttributeError:
            if not session.over:  # asyncssh stumbles over a session that has ended already
                raise
        except asyncio.CancelledError:
            session.forsake()
            raise
        return session

    async def answer(self, command: str, stdin: bytes) -> str:
        """Run a command that only answers.

        Raises:
            PipeError: it was refused.
        """
        session = await self.run(command)
        try:
            await session.send(stdin)
            await session.send_eof()
            answer = b""
            while data := await session.receive():
                answer += data
            (await session.wait_end()).check()
        finally:
            await session.abort()
        return answer.decode()

    async def list_topics(self, request: List) -> list[dict[str, Any]]:
        """List topics, as the JSON of ``ls`` has them."""
        lines = await self.answer(command_of(replace(request, json=True)), b"")
        return [json.loads(line) for line in lines.splitlines()]

    def _release(self, connection: asyncssh.SSHClientConnection) -> None:
        if connection in self._open:
            self._open[connection] -= 1

    async def close(self) -> None:
        """Close all of them."""
        for connection in self._open:
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                for connection in self._open:
                    await connection.wait_closed()
        for connection in self._open:
            connection.abort()
        self._open.clear()


class _Client(asyncssh.SSHClient):
    """Keeps what the server says before the login: why it lets somebody in, or not."""

    def __init__(self) -> None:
        self.banner = ""

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002
        """Keep it."""
        self.banner = (self.banner + msg)[-4096:]


def ssh_options(
    host: str,
    port: int | None,
    user: str | None,
    identity: str | Path | None,
    known_hosts: str | Path | None,
    config: str | Path | None,
) -> dict[str, Any]:
    """Return what `asyncssh.create_connection` is to be told; the rest is in the configuration."""
    options: dict[str, Any] = {
        "host": host,
        "encryption_algs": CIPHERS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVES,
    }
    if port is not None:
        options["port"] = port
    if user is not None:
        options["username"] = user
    if identity is not None:
        options |= {"client_keys": [str(identity)], "agent_path": None}
    if known_hosts is not None:
        options["known_hosts"] = str(known_hosts)
    if config is not None:
        options["config"] = [str(config)]
    return options


async def connect(options: dict[str, Any], name: str) -> asyncssh.SSHClientConnection:
    """Connect and log in.

    Raises:
        LoginRefused: the server is not the one that is known, or does not let us in.
        ConnectionLost: it cannot be reached.
    """
    clients: list[_Client] = []

    def make() -> _Client:
        clients.append(_Client())
        return clients[-1]

    try:
        connection, _ = await asyncssh.create_connection(make, **options)
    except asyncssh.HostKeyNotVerifiable as error:
        how = ssh_command(name, options.get("port", SSH_PORT), options.get("username", ""))
        raise LoginRefused(
            f"{name}: its host key is not in known_hosts: log in once with '{how} whoami', and"
            " compare it"
        ) from error
    except asyncssh.PermissionDenied as error:
        said = clients[-1].banner.strip().splitlines() if clients else []
        why = said[-1].removeprefix(PREFIX).replace("ssh NAME@", "ssh://NAME@") if said else ""
        raise LoginRefused(f"{name}: {why or NO_KEY}") from error
    except asyncssh.ConnectionLost as error:
        place = _place(name, options)
        raise ConnectionLost(
            f"{place}: it hung up before the login: is SSH at that port?"
        ) from error
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise ConnectionLost(f"{_place(name, options)}: {_reason(error)}") from error
    return connection


def _place(name: str, options: dict[str, Any]) -> str:
    return f"{name}, port {options['port']}" if "port" in options else name


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncssh.Error):
        return error.reason
    if isinstance(error, OSError) and error.filename:  # of the configuration, or a key
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and (number := _number(error)):
        listens = ": no server listens there" if number == errno.ECONNREFUSED else ""
        return f"{os.strerror(number).lower()}{listens}"
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or "no answer"


def _number(error: OSError) -> int:
    """Return the system's number of an error; where several addresses failed, of the first."""
    if error.errno and error.errno > 0:
        return error.errno
    several = re.search(r"\[Errno (\d+)\]", str(error))
    return int(several[1]) if several else 0
