"""Messages between the hub and one worker, over a pair of Unix sockets.

Messages are JSON, arrive whole and in order, and one may bring a descriptor along.  A message that
asks is answered by one.  Whatever the other end does, no call waits and none raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Message = dict[str, Any]

PIECE_BYTES = 32 * 1024
"""A longer message goes in pieces: the kernel takes no more at once than a socket's buffer."""

TURN_PIECES = 64
"""Pieces that are read in one turn of the event loop."""

_LAST, _MORE = b"\0", b"\1"


class Lost(Exception):
    """The other end is gone, so nothing answers."""


class Channel:
    """One end.

    Args:
        end: the socket, of `make_pair`; it belongs to the channel from now on.
        receive: takes each message, and the socket that it brought, if it did.
        lost: called once when the other end is gone.
    """

    def __init__(
        self,
        end: socket.socket,
        receive: Callable[[Message, socket.socket | None], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = end
        self._receive = receive
        self._lost = lost
        self._pieces: list[bytes] = []  # of a message that is not whole
        self._queue: deque[tuple[bytes, socket.socket | None]] = deque()
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self.closed = False
        end.setblocking(False)
        self._loop.add_reader(end.fileno(), self._read)

    @property
    def full(self) -> bool:
        """Whether the other end reads more slowly than it is told."""
        return bool(self._queue)

    def send(self, message: Message, descriptor: socket.socket | None = None) -> None:
        """Send a message, and perhaps a descriptor, whose copy here is closed."""
        if self.closed:
            if descriptor:
                descriptor.close()
            return
        data = json.dumps(message, separators=(",", ":")).encode()
        pieces = [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
        for piece in pieces[:-1]:
            self._queue.append((_MORE + piece, None))
        self._queue.append((_LAST + pieces[-1], descriptor))
        if self._empty.is_set():
            self._write()

    async def ask(self, message: Message, *, patience: float | None = None) -> Any:  # noqa: ANN401 - it is JSON
        """Send a message, and return the answer.

        Args:
            message: what is asked.
            patience: seconds to wait; None for ever, as for who may have much to do.

        Raises:
            Lost: there will be none, or it has not come.
        """
        if self.closed:
            raise Lost
        number = next(self._numbers)
        future = self._questions[number] = self._loop.create_future()
        self.send({**message, "ask": number})
        try:
            async with asyncio.timeout(patience):
                return await future
        except TimeoutError:
            raise Lost from None
        finally:
            self._questions.pop(number, None)

    def answer(self, question: Message, value: object) -> None:
        """Answer a message that asked."""
        self.send({"answer": question["ask"], "value": value})

    async def wait_sent(self) -> None:
        """Return once everything is sent, or the other end is gone."""
        await self._empty.wait()

    def close(self) -> None:
        """End it; ``lost`` is not called."""
        if self.closed:
            return
        self.closed = True
        self._drop()
        self._loop.remove_reader(self._end.fileno())
        self._end.close()
        for future in self._questions.values():
            if not future.done():
                future.set_exception(Lost())

    def _drop(self) -> None:
        """Let go of what is unsent."""
        for _, descriptor in self._queue:
            if descriptor:
                descriptor.close()
        self._queue.clear()
        if not self._empty.is_set():
            self._empty.set()
            self._loop.remove_writer(self._end.fileno())

    def _fail(self) -> None:
        if not self.closed:
            self.close()
            self._lost()

    def _write(self) -> None:
        while self._queue:
            data, descriptor = self._queue[0]
            try:
                if descriptor:
                    socket.send_fds(self._end, [data], [descriptor.fileno()])
                else:
                    self._end.send(data)
            except (BlockingIOError, InterruptedError):
                if self._empty.is_set():
                    self._empty.clear()
                    self._loop.add_writer(self._end.fileno(), self._write)
                return
            except (BrokenPipeError, ConnectionResetError):
                break  # what the other end has said before it went is still to be read
            except OSError:
                # Not from within a call of the user's.
                self._loop.call_soon(self._fail)
                return
            self._queue.popleft()
            if descriptor:
                descriptor.close()
        self._drop()

    def _read(self) -> None:
        for _ in range(TURN_PIECES):
            try:
                data, descriptor = _receive_piece(self._end)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionResetError:
                continue  # it has not read all; what it has said comes next
            except OSError:
                data, descriptor = b"", None
            if not data:
                self._fail()
                return
            self._pieces.append(data[1:])
            if data[:1] == _LAST:
                message = json.loads(b"".join(self._pieces))
                self._pieces.clear()
                self._take(message, descriptor)
            if self.closed:
                return

    def _take(self, message: Message, descriptor: socket.socket | None) -> None:
        number = message.get("answer")
        if number is None:
            self._receive(message, descriptor)
            return
        future = self._questions.get(number)
        if future and not future.done():
            future.set_result(message["value"])


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Make both ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def receive_first(end: socket.socket) -> Message | None:
    """Wait for the first message, where there is no loop yet; None if the other end is gone."""
    pieces = []
    while True:
        data, _ = _receive_piece(end)
        if not data:
            return None
        pieces.append(data[1:])
        if data[:1] == _LAST:
            message: Message = json.loads(b"".join(pieces))
            return message


def _receive_piece(end: socket.socket) -> tuple[bytes, socket.socket | None]:
    data, descriptors, _, _ = socket.recv_fds(end, PIECE_BYTES + 1, 1)
    if not descriptors:
        return data, None
    with contextlib.suppress(OSError):
        return data, socket.socket(fileno=descriptors[0])
    return data, None
