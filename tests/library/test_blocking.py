"""Programs without an event loop, against a server in another thread's."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

import pipe
from tests.library.places import credentials, soon
from tests.ssh.serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def against_a_server(folder: Path, program: Callable[[pipe.BlockingServer], None]) -> None:
    """Run a program in a thread of its own."""

    def run() -> None:
        with pipe.connect_blocking(url, **options) as server:
            program(server)

    async with serving(folder) as service:
        url, options = credentials(service, folder)
        await soon(asyncio.to_thread(run))


async def test_streams(tmp_path: Path) -> None:
    """A script writes in one thread and reads in another, and has the receipt."""

    def program(server: pipe.BlockingServer) -> None:
        receipts: list[pipe.Receipt | None] = []

        def write() -> None:
            with server.publish("build") as stream:
                stream.write(b"one")
                stream.write(b"two")
            receipts.append(stream.receipt)

        writer = threading.Thread(target=write)
        writer.start()
        assert b"".join(server.subscribe("build")) == b"onetwo"
        writer.join()
        assert receipts == [pipe.Receipt(6, 1, 0)]
        assert "alice" in server.command("whoami")
        assert server.topics() == []

    await against_a_server(tmp_path, program)


async def test_pipe(tmp_path: Path) -> None:
    """A pipe hears itself if it asks to."""

    def program(server: pipe.BlockingServer) -> None:
        with server.pipe("chat", replay=True) as stream:
            stream.write(b"hello")
            assert next(stream) == b"hello"
            assert [topic.pipes for topic in server.topics("chat")] == [1]

    await against_a_server(tmp_path, program)


async def test_errors(tmp_path: Path) -> None:
    """Errors are those of the other calls, and a block that fails breaks its stream."""

    def program(server: pipe.BlockingServer) -> None:
        with pytest.raises(pipe.TimedOut), server.publish("build", timeout=0.05) as stream:
            stream.write(b"x")
        with server.subscribe("build") as reader:
            with pytest.raises(ZeroDivisionError):
                fail_in_mid_stream(server, reader)
            with pytest.raises(pipe.Broken):
                reader.read()

    await against_a_server(tmp_path, program)


def fail_in_mid_stream(server: pipe.BlockingServer, reader: pipe.BlockingReader) -> None:
    """Leave a writer's block by an error."""
    with server.publish("build") as stream:
        stream.write(b"half")
        assert next(reader) == b"half"
        raise ZeroDivisionError
