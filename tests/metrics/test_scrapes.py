"""The metrics' own HTTP server: what it answers, and what those who misuse it can cost."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from typing import TYPE_CHECKING

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.registry import Collector

from pipe.metrics import scrapes
from pipe.metrics.scrapes import MAX_CONNECTIONS, MAX_HEAD_BYTES, ScrapeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prometheus_client.metrics_core import Metric

HOST = "127.0.0.1"

PATIENCE = 30.0

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Looks(Collector):
    """Counts how often somebody looked at the figures."""

    def __init__(self) -> None:
        self.count = 0
        self.broken = False

    def collect(self) -> Iterator[Metric]:
        """Count this one."""
        if self.broken:
            raise RuntimeError("no figures")
        self.count += 1
        return iter(())


class Scene:
    """A server with one counter."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.looks = Looks()
        registry.register(self.looks)
        Counter("seen", "What was seen.", registry=registry).inc(3)
        self.server = ScrapeServer(registry)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One more connection."""
        return await asyncio.open_connection(HOST, self.server.port)

    async def ask(self, request: bytes) -> tuple[str, bytes]:
        """The head and the body of the answer; the server closes behind it."""
        reader, writer = await self.connect()
        writer.write(request)
        try:
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode(), body


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Scene]:
    """A scene for as long as the block lasts."""
    scene = Scene()
    await scene.server.start(HOST, 0)
    try:
        yield scene
    finally:
        scene.server.close()
        await asyncio.sleep(0)


def with_field(name: str, value: str) -> bytes:
    """A scrape with one more field in its head."""
    return GET[:-2] + f"{name}: {value}\r\n\r\n".encode()


async def test_scrape() -> None:
    """A GET gets the figures as Prometheus reads them, and their length."""
    async with serving() as scene:
        head, body = await scene.ask(GET)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/plain; version=" in head
    assert f"Content-Length: {len(body)}" in head
    assert b"\nseen_total 3.0\n" in body


async def test_scrape_of_openmetrics() -> None:
    """A scraper that asks for OpenMetrics gets it."""
    async with serving() as scene:
        head, body = await scene.ask(
            with_field("Accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")
        )
    assert "Content-Type: application/openmetrics-text; version=1.0.0" in head
    assert body.endswith(b"# EOF\n")


async def test_scrape_that_takes_gzip() -> None:
    """A scraper that says so gets less to read."""
    async with serving() as scene:
        head, body = await scene.ask(with_field("accept-encoding", "gzip"))
    assert "Content-Encoding: gzip" in head
    assert b"\nseen_total 3.0\n" in gzip.decompress(body)


async def test_head() -> None:
    """HEAD gets the head alone."""
    async with serving() as scene:
        head, body = await scene.ask(GET.replace(b"GET", b"HEAD"))
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 0" not in head
    assert body == b""


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/1.1", "404 Not Found"),
        (b"GET /metricsx HTTP/1.1", "404 Not Found"),
        (b"GET /metrics?x=1 HTTP/1.0", "200 OK"),
        (b"POST /metrics HTTP/1.1", "405 Method Not Allowed"),
        (b"nonsense", "400 Bad Request"),
        (b"GET /metrics SSH-2.0", "400 Bad Request"),
        (b"\xff\x00 /metrics HTTP/1.1", "405 Method Not Allowed"),
    ],
)
async def test_other_requests(request_line: bytes, status: str) -> None:
    """Who asks for something else is told so."""
    async with serving() as scene:
        head, _ = await scene.ask(request_line + b"\r\nHost: x\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert ("Allow: GET, HEAD" in head) == status.startswith("405")


async def test_head_in_pieces() -> None:
    """A head may come byte by byte."""
    async with serving() as scene:
        reader, writer = await scene.connect()
        for number in range(len(GET)):
            writer.write(GET[number : number + 1])
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("request_", [b"x" * 9000, with_field("X", "y" * 9000)])
async def test_head_without_end(request_: bytes) -> None:
    """A head has a largest size, whether it ends behind it or not."""
    assert len(request_) > MAX_HEAD_BYTES
    async with serving() as scene:
        reader, writer = await scene.connect()
        writer.write(request_)
        line = await asyncio.wait_for(reader.readline(), PATIENCE)
        writer.close()
    assert line == b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


async def test_slow_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not finish a request is closed."""
    monkeypatch.setattr(scrapes, "PATIENCE_SECONDS", 0.05)
    async with serving() as scene:
        reader, writer = await scene.connect()
        writer.write(GET[:-1])
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
        assert scene.looks.count == 0


async def test_connections_are_bounded() -> None:
    """One too many takes the place of the oldest; who asks at once is answered all the same."""
    async with serving() as scene:
        idle = [await scene.connect() for _ in range(MAX_CONNECTIONS + 5)]
        for reader, _ in idle[:5]:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        head, _ = await scene.ask(GET)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert not idle[-1][0].at_eof()
        for _, writer in idle:
            writer.close()


async def test_scrapes_without_end_share_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait are answered by one look, which comes after a rest."""
    monkeypatch.setattr(scrapes, "REST_FACTOR", 500)
    async with serving() as scene:
        await scene.ask(GET)
        answers = await asyncio.gather(*(scene.ask(GET) for _ in range(MAX_CONNECTIONS)))
        assert {head.partition("\r\n")[0] for head, _ in answers} == {"HTTP/1.1 200 OK"}
        assert scene.looks.count == 2


async def test_figures_that_cannot_be_given() -> None:
    """A fault of ours is an answer, and a line in the log."""
    async with serving() as scene:
        scene.looks.broken = True
        with structlog.testing.capture_logs() as lines:
            head, _ = await scene.ask(GET)
        assert head.startswith("HTTP/1.1 500 Internal Server Error\r\n")
        assert [line["event"] for line in lines] == ["cannot give metrics"]
        scene.looks.broken = False
        head, _ = await scene.ask(GET)
        assert head.startswith("HTTP/1.1 200 OK\r\n")


async def test_close_ends_all() -> None:
    """What is open when the server stops is closed with it."""
    async with serving() as scene:
        reader, writer = await scene.connect()
        writer.write(b"GET /")
        await asyncio.sleep(0.01)
        scene.server.close()
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        writer.close()
