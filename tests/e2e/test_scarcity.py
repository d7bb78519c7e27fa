"""A server that is short of memory, of descriptors or of room in its log goes on with less."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from . import clients
from . import server as server_module
from .payloads import MIB, noise
from .processes import statuses
from .server import PIPE, Status, serve_command
from .strangers import Raw, Rude, greeted, refusals

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import StartServer

pytestmark = pytest.mark.e2e


@pytest.mark.one_worker  # several count what they share more than once; a relayed byte waits in two
async def test_memory_alarm(start_server: StartServer) -> None:
    """Writers stand while memory is short and readers go on; then all goes on, and all arrives."""
    probe = start_server()
    probe.introduce("alice")
    alarm = probe.rss_bytes() + 20 * MIB
    server = start_server(memory_alarm=alarm)
    async with contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(Rude(server)) for _ in range(24)]
        for number, rude in enumerate(crowd):
            await rude.subscribe(f"crowd{number}")
            rude.stop_reading()
        # Each of these leaves a transport's worth with the server.
        writers = [
            server.ssh("alice", f"pub crowd{number}", stdin=noise(12 * MIB))
            for number in range(len(crowd))
        ]
        await asyncio.to_thread(server.wait_metric, "pipe_memory_alarm", 1)
        [reader] = await asyncio.to_thread(server.subscribe, "alice", "sub -k urgent")
        late = server.ssh("alice", "pub urgent", stdin=b"late")
        await asyncio.to_thread(late.wait_stderr, "subscribe with")
        assert reader.stdout.size == 0
        for rude in crowd:
            rude.go_on()
        await asyncio.to_thread(reader.wait_stdout, 4)
        ends = await asyncio.to_thread(statuses, *writers, late)
    assert ends == [Status.OK] * (len(writers) + 1)
    server.wait_metric("pipe_memory_alarm", 0)
    assert server.wait_lines("memory is short")
    assert server.wait_lines("memory is free again")


def test_log_has_a_rate(start_server: StartServer, raw: Raw) -> None:
    """Lines of one kind are left out when there are too many, and counted."""
    server = start_server(log_rate=1)
    began = time.monotonic()
    for _ in range(100):
        raw.connect(server, clients.HOST).send(b"GET / HTTP/1.1\r\n")
    server.wait_metric("pipe_disconnects_total", 100, reason="protocol")

    assert server.run("alice", "whoami").wait() == Status.OK, "other lines are not concerned"
    assert len(server.wait_lines("session ended")) == 1
    left_out = server.wait_lines("log lines left out")
    written = len(server.lines("connection without login"))
    assert 10 <= written <= 10 + (time.monotonic() - began) + 1
    assert left_out[0]["kind"] == "connection without login"


@pytest.mark.one_worker  # several have as many descriptors each, and the hub keeps none
def test_descriptors_are_kept_in_reserve(
    start_server: StartServer, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients are refused before the last descriptor is taken, and the log says why."""

    def serve_with_few(program: str, /, **settings: str | int | Path) -> list[str]:
        return ["sh", "-c", 'ulimit -n 120; exec "$@"', "sh", *serve_command(program, **settings)]

    monkeypatch.setattr(server_module, "serve_command", serve_with_few)
    server = start_server(program=PIPE)
    assert sum(greeted(raw.connect(server, clients.HOST)) for _ in range(80)) == 60

    assert refusals(server, "descriptors") == 20
    assert server.wait_lines("connection refused")[0]["reason"] == "descriptors"
    raw.close()
    server.wait_metric("pipe_unauthenticated_connections", 0)
    assert server.run("alice", "whoami").wait() == Status.OK
