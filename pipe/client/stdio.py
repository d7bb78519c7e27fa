"""stdin and stdout without holding the event loop up, whatever they are.

A file cannot be polled, a terminal should not be made non-blocking, as that is so for everybody who
has it, and whoever reads our stdout may stand still.  So each has a thread, which ends with the
process even while it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from pipe.errors import Outcome, PipeError

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 256 * 1024

STDIN, STDOUT, STDERR = 0, 1, 2


class StdioFailed(PipeError):
    """Our stdin cannot be read, or our stdout not be written to, as on a disk that is full."""

    outcome = Outcome.BROKEN


class Thread:
    """Calls what may wait, one after the other."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def call(self, function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
        """Call a function, and return what it does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def call() -> None:
            try:
                result, error = function(*arguments), None
            except OSError as failed:
                result, error = None, failed
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, error)

        self._calls.put(call)
        return await future

    def _run(self) -> None:
        while True:
            self._calls.get()()


def _settle(future: asyncio.Future[Any], result: object, error: OSError | None) -> None:
    if future.done():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)


class Input:
    """Our stdin."""

    def __init__(self) -> None:
        self._thread = Thread()

    async def read(self) -> bytes:
        """Return what there is next; empty at its end.

        Raises:
            StdioFailed: it cannot be read.
        """
        try:
            data: bytes = await self._thread.call(os.read, STDIN, READ_BYTES)
        except OSError as error:
            raise StdioFailed(f"cannot read stdin: {error.strerror}") from error
        return data


class Output:
    """Our stdout."""

    def __init__(self) -> None:
        self._thread = Thread()

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            BrokenPipeError: nobody reads it.
            StdioFailed: it cannot be written to.
        """
        try:
            await self._thread.call(_write_all, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StdioFailed(f"cannot write to stdout: {error.strerror}") from error


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]


def tell(data: bytes) -> None:
    """Write to stderr, if anybody reads it."""
    with contextlib.suppress(OSError):
        os.write(STDERR, data)
