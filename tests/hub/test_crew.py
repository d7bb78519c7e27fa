"""Worker processes: what they are told, and when they are started again."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from pipe.errors import StartError
from pipe.hub import crew
from pipe.hub.crew import Crew, Worker

if TYPE_CHECKING:
    import socket

    from pipe.hub.channel import Message

SHORT_LIFE = """
import os, socket
end = socket.socket(fileno=int(os.environ["_PIPE_WORKER"]))
end.recv(65536)
end.send(b'\\0{"type":"ready"}')
"""
"""A program that is ready, and ends."""


class Hub:
    """Keeps what a crew tells."""

    def __init__(self) -> None:
        self.ends = asyncio.Semaphore(0)

    def first_message(self, worker: Worker) -> Message:
        """Tell it its number."""
        return {"number": worker.ident.number}

    def received(self, worker: Worker, message: Message, descriptor: socket.socket | None) -> None:
        """Nobody says anything else."""

    def came(self, worker: Worker) -> None:
        """It is ready."""

    def went(self, worker: Worker) -> None:  # noqa: ARG002
        """Count an end."""
        self.ends.release()


async def test_pause_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies again and again is started again later and later."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", SHORT_LIFE])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(crew, "LONGEST_PAUSE_SECONDS", 0.03)
    hub = Hub()
    workers = Crew(1, hub)
    with structlog.testing.capture_logs() as lines:
        await workers.start()
        for _ in range(4):
            await hub.ends.acquire()
        workers.stop(now=True)
        await workers.wait_gone()
    assert [line["pause_seconds"] for line in lines][:4] == [0.01, 0.02, 0.03, 0.03]
    assert {line["reason"] for line in lines} == {"ended with status 0"}


async def test_program_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that ends before it is ready is why the start fails, and nothing is left."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", "raise SystemExit(3)"])
    workers = Crew(2, Hub())
    with pytest.raises(StartError, match="status 3 before it was ready"):
        await workers.start()
    assert not workers.workers
    await workers.wait_gone()


async def test_stop_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the pause of a worker that is not started any more."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", SHORT_LIFE])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 3600.0)
    hub = Hub()
    workers = Crew(1, hub)
    await workers.start()
    await hub.ends.acquire()
    workers.stop()
    await workers.wait_gone()
