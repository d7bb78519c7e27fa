"""Worker processes: what they are told, and when they are started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

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

LONG_LIFE = """
import os, socket
end = socket.socket(fileno=int(os.environ["_PIPE_WORKER"]))
end.recv(65536)
end.send(b'\\0{"type":"ready"}')
end.recv(65536)
"""
"""One that stays until it is told something, or its hub is gone."""

TALKATIVE = """
import os, socket
end = socket.socket(fileno=int(os.environ["_PIPE_WORKER"]))
end.recv(65536)
end.send(b'\\0{"type":"ready"}')
for number in range(150):
    end.send(b'\\0{"type":"word"}')
"""
"""One that says more than is read in one turn, and ends."""

NOT_YET = "import time; time.sleep(3600)"
"""One that is never ready."""


class Hub:
    """Keeps what a crew tells."""

    def __init__(self) -> None:
        self.ends = asyncio.Semaphore(0)
        self.heard = 0

    def first_message(self, worker: Worker) -> Message:
        """Tell it its number."""
        return {"number": worker.ident.number}

    def received(
        self,
        worker: Worker,  # noqa: ARG002
        message: Message,  # noqa: ARG002
        descriptor: socket.socket | None,  # noqa: ARG002
    ) -> None:
        """Count what else it says."""
        self.heard += 1

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


async def test_last_words_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a worker has said before its end is taken before it counts as gone."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", TALKATIVE])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 3600.0)
    hub = Hub()
    workers = Crew(1, hub)
    await workers.start()
    (worker,) = workers.workers.values()
    with contextlib.suppress(ChildProcessError):  # somebody else has heard of it first
        # While nothing is read.
        os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    await hub.ends.acquire()
    assert hub.heard == 150
    workers.stop()
    await workers.wait_gone()


async def test_who_is_started_again_is_replaced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died, and is on its way while others take its place, is one of the old ones."""
    programs = iter([SHORT_LIFE, NOT_YET, LONG_LIFE])
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", next(programs)])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 0.0)
    hub = Hub()
    workers = Crew(1, hub)
    await workers.start()
    await hub.ends.acquire()
    while not workers.workers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    (again,) = workers.workers.values()
    assert await workers.start() == [again]
    workers.dismiss(again)
    await hub.ends.acquire()
    assert len(workers.serving) == 1
    workers.stop(now=True)
    await workers.wait_gone()


@pytest.mark.parametrize("again", [False, True])
async def test_stop_while_a_process_is_started(
    monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Whoever is not there yet when all are told to stop does not stay."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", SHORT_LIFE])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 0.0)
    start = asyncio.create_subprocess_exec
    starting = asyncio.Event()
    hub = Hub()
    workers = Crew(1, hub)

    async def begin(*words: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401
        starting.set()
        await asyncio.sleep(0)
        return await start(*words, **options)

    if again:
        await workers.start()
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", LONG_LIFE])
    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
    if again:
        await starting.wait()
        workers.stop()
    else:
        started = asyncio.ensure_future(workers.start())
        await starting.wait()
        workers.stop()
        with pytest.raises(StartError, match="shutting down"):
            await started
    await workers.wait_gone()
    assert not workers.workers


async def test_process_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several processes cannot be made, none stays; one that is due again is retried."""
    monkeypatch.setattr(crew, "program", lambda: [sys.executable, "-SEc", SHORT_LIFE])
    monkeypatch.setattr(crew, "FIRST_PAUSE_SECONDS", 0.001)
    start = asyncio.create_subprocess_exec
    left = [1, 0]  # that can be made

    async def begin(*words: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401
        if not left[0]:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        left[0] -= 1
        return await start(*words, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begin)
    workers = Crew(2, Hub())
    with pytest.raises(StartError, match="temporarily unavailable"):
        await workers.start()
    assert not workers.workers
    left[0] = 1
    hub = Hub()
    workers = Crew(1, hub)
    with structlog.testing.capture_logs() as lines:
        await workers.start()
        while len(lines) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        workers.stop()
        await workers.wait_gone()
    assert [line["pause_seconds"] for line in lines][:3] == [0.001, 0.002, 0.004]
    assert "temporarily unavailable" in lines[1]["reason"]
