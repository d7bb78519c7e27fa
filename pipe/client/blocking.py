"""The same for programs without an event loop: each call waits.  A thread has the loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from pipe.client.server import Server, connect
from pipe.library.streams import Duplex, Reader, Writer
from pipe.library.verbs import TopicInfo, Verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from pipe.stream.ports import Receipt

_Result = TypeVar("_Result")
_Options = ParamSpec("_Options")
_Inner = TypeVar("_Inner", bound=Writer | Reader)
_Outer = TypeVar("_Outer", bound="_BlockingStream[Any]")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait until something is done, and return what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while it waits
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _BlockingStream(Generic[_Inner]):
    def __init__(self, loop: _Loop, stream: _Inner) -> None:
        self._loop = loop
        self._stream = stream

    def __enter__(self) -> Self:
        self._loop.wait(self._stream.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - a type, an error, a traceback
        self._loop.wait(self._stream.__aexit__(*error))

    def close(self) -> None:
        """Leave now: what a writer has sent without an end of file is a broken stream."""
        self._loop.wait(self._stream.aclose())


class BlockingWriter(_BlockingStream[Writer]):
    """A `pipe.Writer` whose calls wait."""

    @property
    def receipt(self) -> Receipt | None:
        """What became of the stream; None before the end."""
        return self._stream.receipt

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Publish bytes; as of `pipe.Writer`."""
        self._loop.wait(self._stream.write(data))


class BlockingReader(_BlockingStream[Reader]):
    """A `pipe.Reader` whose calls wait: an iterator of pieces of the stream."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = self._loop.wait(_next(self._stream))
        if piece is None:
            raise StopIteration
        return piece

    def read(self) -> bytes:
        """Read to the end of the stream; as of `pipe.Reader`."""
        return self._loop.wait(self._stream.read())


class BlockingDuplex(_BlockingStream[Duplex]):
    """A `pipe.Duplex` whose calls wait; one thread may read while another one writes."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = self._loop.wait(_next(self._stream))
        if piece is None:
            raise StopIteration
        return piece

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Publish bytes; as of `pipe.Duplex`."""
        self._loop.wait(self._stream.write(data))

    def write_eof(self) -> None:
        """Write no more, and go on reading."""
        self._loop.wait(self._stream.write_eof())


async def _next(stream: Reader) -> bytes | None:
    """The next piece; a StopAsyncIteration would be lost on its way to another thread."""
    return await anext(stream, None)


def _blocking(
    verb: Callable[Concatenate[Verbs, _Options], _Inner],
    outer: Callable[[_Loop, _Inner], _Outer],
) -> Callable[Concatenate[BlockingServer, _Options], _Outer]:
    """Make a verb's method, with the verb's own options and description."""

    def method(
        self: BlockingServer, /, *arguments: _Options.args, **options: _Options.kwargs
    ) -> _Outer:
        return outer(self._loop, verb(self._server, *arguments, **options))

    method.__name__, method.__doc__ = verb.__name__, verb.__doc__
    return method


class BlockingServer:
    """A `pipe.Server` whose calls wait, entered with ``with``.

    Instances come from `pipe.connect_blocking`.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> Self:
        self._loop = _Loop()
        try:
            self._loop.wait(self._server.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - a type, an error, a traceback
        try:
            self._loop.wait(self._server.__aexit__(*error))
        finally:
            self._loop.close()

    publish = _blocking(Verbs.publish, BlockingWriter)
    subscribe = _blocking(Verbs.subscribe, BlockingReader)
    pipe = _blocking(Verbs.pipe, BlockingDuplex)

    def topics(self, pattern: str | None = None) -> list[TopicInfo]:
        """List the topics that there are, or those that match a pattern."""
        return self._loop.wait(self._server.topics(pattern))

    def command(self, text: str, stdin: bytes = b"") -> str:
        """Run a command that only answers; as of `pipe.Server`."""
        return self._loop.wait(self._server.command(text, stdin))


def connect_blocking(
    url: str,
    *,
    token: str | None = None,
    identity: str | Path | None = None,
    known_hosts: str | Path | None = None,
    config: str | Path | None = None,
    reconnect: bool = False,
    on_status: Callable[[str], None] | None = None,
) -> BlockingServer:
    """Reach a server from a program without an event loop: ``with pipe.connect_blocking(url)``.

    Its arguments are those of `pipe.connect`; ``on_status`` is called in another thread.

    Raises:
        UsageError: The address cannot be used.
    """
    server = connect(
        url,
        token=token,
        identity=identity,
        known_hosts=known_hosts,
        config=config,
        reconnect=reconnect,
        on_status=on_status,
    )
    return BlockingServer(server)
