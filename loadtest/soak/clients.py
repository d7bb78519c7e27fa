"""One client: OpenSSH's program or asyncssh's library, behind the same few calls.

What arrives is kept, and whoever waits for it is woken.  A client can hold its reading, which is
what makes a slow reader, and can end in four ways: by itself, by leaving, killed, or by a reset of
its TCP connection.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncssh

from loadtest.workspace import HOST, Endpoint, ssh_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READ_BYTES: Final = 1 << 16
NO_STATUS: Final = 255
"""What `ssh` exits with when it was not let in or lost its connection; here both kinds do."""

CONNECT_SECONDS: Final = 30.0
REKEY_BYTES: Final = 1 << 20
_LINGER_NOTHING: Final = struct.pack("ii", 1, 0)
"""A close with this answers the peer with RST (socket(7), SO_LINGER)."""

CUT: Final = re.compile("closed by remote host|Read from remote host|client_loop: send disconnect")
"""What `ssh` says when it loses its connection, with which it drops what it has not written."""

CLOSED: Final = (OSError, asyncssh.Error)
"""How a connection that has ended shows itself to who reads or writes."""


class GoneError(AssertionError):
    """A client has ended that should still be there; the message has its last words."""


@dataclass(frozen=True)
class Wish:
    """How a client connects.

    Attributes:
        cipher: the only one that it offers; empty: what it likes best.
        rekey: whether it exchanges keys again after every MiB.
        window: bytes that the server may send ahead, where that can be chosen; 0: the default.
    """

    user: str
    key: Path
    port: int
    cipher: str = ""
    rekey: bool = False
    window: int = 0


class Client(abc.ABC):
    """A client that runs one command.

    Attributes:
        received: what came on its stdout.
        piece: the most bytes that it reads at once.
        pause: seconds between two reads.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.errors = bytearray()
        self.piece = READ_BYTES
        self.pause = 0.0
        self.ended = False
        self._news = asyncio.Event()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._tasks: list[asyncio.Task[None]] = []

    # -- reading ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._tasks = [
            asyncio.create_task(self._read_output()),
            asyncio.create_task(self._read_errors()),
        ]

    async def _read_output(self) -> None:
        with contextlib.suppress(*CLOSED):
            while True:
                await self._may_read.wait()
                data = await self._read()
                if not data:
                    break
                self.received += data
                self._tell()
                if self.pause:
                    await asyncio.sleep(self.pause)
        self.ended = True
        self._tell()

    async def _read_errors(self) -> None:
        with contextlib.suppress(*CLOSED):
            while data := await self._read_error():
                self.errors += data
                self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def hold(self) -> None:
        """Read no more for now."""
        self._may_read.clear()

    @property
    def holds(self) -> bool:
        """Whether it reads nothing."""
        return not self._may_read.is_set()

    def go_on(self) -> None:
        """Read again."""
        self._may_read.set()

    async def wait_received(self, size: int = 1) -> None:
        """Return once so many bytes have come.

        Raises:
            GoneError: it ended before.
        """
        await self._wait(lambda: len(self.received) >= size, f"{size} bytes")

    async def wait_said(self, text: str) -> None:
        """Return once this came on stderr.

        Raises:
            GoneError: it ended before.
        """
        await self._wait(lambda: text.encode() in self.errors, repr(text))

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            if self.ended:
                raise GoneError(f"ended before {what}, with {len(self.received)}: {self.words}")
            await self._news.wait()

    async def wait_news(self) -> None:
        """Return once it has heard more, or has ended."""
        await self._news.wait()

    @property
    def was_cut(self) -> bool:
        """Whether it is `ssh` and says that it has lost its connection, in its log."""
        return False

    @property
    def words(self) -> str:
        """What it said on stderr."""
        return self.errors.decode(errors="replace").strip()

    async def wait(self) -> int:
        """Return the exit status once it has ended and all that it wrote has been read."""
        self.go_on()
        await asyncio.gather(*self._tasks)
        return await self._wait_status()

    async def close(self) -> None:
        """End it whatever it does."""
        self.go_on()
        self.kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(*CLOSED):
            await self._wait_status()

    @abc.abstractmethod
    async def _read(self) -> bytes:
        """The next piece of stdout; empty at its end."""

    @abc.abstractmethod
    async def _read_error(self) -> bytes:
        """The same of stderr."""

    @abc.abstractmethod
    async def _wait_status(self) -> int: ...

    # -- writing and leaving ----------------------------------------------------------------------

    @abc.abstractmethod
    async def send(self, data: bytes) -> None:
        """Write to stdin, at the pace at which it is taken.

        Raises:
            OSError: it has ended.
        """

    @abc.abstractmethod
    def end_input(self) -> None:
        """Let end of file follow what was sent."""

    @abc.abstractmethod
    def leave(self) -> None:
        """Go as a user goes: a signal, or the end of the connection with a word."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Go without a word: SIGKILL, or a reset of the TCP connection."""


class OpenSSH(Client):
    """The program."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path | None) -> None:
        super().__init__()
        self._process = process
        self._log = log
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr

    @classmethod
    async def start(cls, wish: Wish, command: str, log: Path | None = None) -> OpenSSH:
        """Start it; ``log`` is a file for what it tells of its key exchanges."""
        endpoint = Endpoint(wish.port, wish.user, wish.key)
        words = ssh_command(endpoint, command, cipher=wish.cipher or None, log=log)
        if wish.rekey:
            words[1:1] = ["-o", f"RekeyLimit={REKEY_BYTES}"]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the soak, which ends them in order
        )
        client = cls(process, log)
        client._begin()
        return client

    async def _read(self) -> bytes:
        return await self._stdout.read(self.piece)

    async def _read_error(self) -> bytes:
        return await self._stderr.read(READ_BYTES)

    async def _wait_status(self) -> int:
        return await self._process.wait()

    async def send(self, data: bytes) -> None:
        """Write, at the pace at which it reads."""
        if self._stdin.is_closing():
            raise BrokenPipeError("it has ended")
        self._stdin.write(data)
        await self._stdin.drain()

    def end_input(self) -> None:
        """Close its stdin."""
        self._stdin.close()

    def leave(self) -> None:
        """As Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def rekeys(self) -> int:
        """How often it has exchanged keys again, by its log."""
        if self._log is None:
            return 0
        return max(0, self._log.read_bytes().count(b"SSH2_MSG_NEWKEYS sent") - 1)

    @property
    def was_cut(self) -> bool:
        """By its log."""
        return bool(self._log and CUT.search(self._log.read_text(errors="replace")))

    def drop_log(self) -> None:
        """Remove it."""
        if self._log is not None:
            self._log.unlink()
            self._log = None


class Library(Client):
    """asyncssh, with a connection of its own or a share in one."""

    def __init__(
        self, connection: asyncssh.SSHClientConnection, process: asyncssh.SSHClientProcess[bytes]
    ) -> None:
        super().__init__()
        self._connection = connection
        self._process = process

    @classmethod
    async def start(
        cls, wish: Wish, command: str, connection: asyncssh.SSHClientConnection | None = None
    ) -> Library:
        """Log in, unless there is a connection, and run the command."""
        connection = connection or await connect(wish)
        window = {"window": wish.window} if wish.window else {}
        try:
            process = await connection.create_process(command, encoding=None, **window)
        except BaseException:
            connection.abort()
            raise
        client = cls(connection, process)
        client._begin()
        return client

    async def _read(self) -> bytes:
        return await self._process.stdout.read(self.piece)

    async def _read_error(self) -> bytes:
        return await self._process.stderr.read(READ_BYTES)

    async def _wait_status(self) -> int:
        with contextlib.suppress(*CLOSED):
            await self._process.wait_closed()
        status = self._process.exit_status
        return NO_STATUS if status is None else status

    async def wait(self) -> int:
        """Return the exit status; a connection of its own ends with it."""
        status = await super().wait()
        self._connection.close()
        return status

    async def close(self) -> None:
        """End the connection and what waits for it."""
        await super().close()
        with contextlib.suppress(*CLOSED):
            await self._connection.wait_closed()

    async def send(self, data: bytes) -> None:
        """Write, at the pace at which the server takes it."""
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def end_input(self) -> None:
        """Send end of file."""
        self._process.stdin.write_eof()

    def leave(self) -> None:
        """Say goodbye."""
        self._connection.close()

    def kill(self) -> None:
        """Reset the connection."""
        reset(self._connection)


async def connect(wish: Wish) -> asyncssh.SSHClientConnection:
    """Log in with asyncssh.

    Raises:
        asyncssh.Error, OSError: it is not let in.
    """
    return await asyncio.wait_for(
        asyncssh.connect(
            HOST,
            wish.port,
            username=wish.user,
            client_keys=[str(wish.key)],
            known_hosts=None,
            agent_path=None,
            config=None,
            encryption_algs=[wish.cipher] if wish.cipher else (),
            rekey_bytes=REKEY_BYTES if wish.rekey else 1 << 30,
        ),
        CONNECT_SECONDS,
    )


def reset(connection: asyncssh.SSHClientConnection) -> None:
    """End a TCP connection with RST."""
    end = connection.get_extra_info("socket")
    if end is not None and end.fileno() >= 0:
        with socket.socket(fileno=os.dup(end.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
    connection.abort()
