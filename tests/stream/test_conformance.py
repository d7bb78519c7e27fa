"""The fakes pass the suite that all sinks and sources pass, so a test with them means something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.errors import Outcome
from pipe.language.names import TopicName
from tests.conformance import (
    MAX_CHUNK_BYTES,
    RecordingRouter,
    SinkConformance,
    SinkEnd,
    SourceConformance,
    SourceEnd,
)
from tests.fakes import publisher, subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = TopicName("alice", ("build",))


class FakeSinkEnd(SinkEnd):
    """`tests.fakes.FakeSink`, by hand."""

    def __init__(self, name: TopicName, bound: int) -> None:
        self.router = RecordingRouter()
        self.bound = bound
        self._sink = subscriber(self.router, name, bound=bound)
        self.member = self._sink.member
        self._read = 0

    async def read(self, size: int) -> bytes:
        """Drain so much."""
        assert size <= self._sink.pending
        self._sink.drain(size)
        return self._new()

    async def read_to_end(self) -> bytes:
        """Drain all."""
        self._sink.drain()
        assert self._sink.over
        return self._new()

    def _new(self) -> bytes:
        start, self._read = self._read, len(self._sink.client)
        return bytes(self._sink.client[start:])

    def written(self) -> int:
        """What is drained is written."""
        return len(self._sink.client)

    async def settle(self) -> None:
        """Nothing is ever on its way."""

    async def vanish(self) -> None:
        """Go."""
        self._sink.vanish()

    async def exit_status(self) -> int:
        """What the router said."""
        assert self._sink.exit_status is not None
        return self._sink.exit_status


class FakeSourceEnd(SourceEnd):
    """`tests.fakes.FakeSource`, by hand."""

    def __init__(self, name: TopicName, *, synchronous: bool) -> None:
        self.router = RecordingRouter()
        self._source = publisher(self.router, name, synchronous=synchronous)
        self.member = self._source.member

    async def send(self, data: bytes) -> None:
        """Queue it in packets."""
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            self._source.send(data[start : start + MAX_CHUNK_BYTES])

    async def send_end(self) -> None:
        """Queue the end."""
        self._source.end()

    async def until(self, condition: Callable[[], object]) -> None:
        """Publish what may be published."""
        self._source.pump()
        assert condition()

    async def settle(self) -> None:
        """Nothing is ever on its way."""

    async def vanish(self) -> None:
        """Go."""
        self._source.vanish()

    async def exit_status(self) -> int:
        """A publisher that has its receipt has done well."""
        return 0 if self._source.receipts else Outcome.BROKEN.status


class TestFakeSink(SinkConformance):
    """`tests.fakes.FakeSink`."""

    @pytest.fixture(params=[8, 100, 10_000])
    def end(self, request: pytest.FixtureRequest) -> FakeSinkEnd:
        """A fake subscriber with a small or large buffer."""
        return FakeSinkEnd(NAME, request.param)


class TestFakeSource(SourceConformance):
    """`tests.fakes.FakeSource`."""

    @pytest.fixture(params=[False, True], ids=["pumped", "synchronous"])
    def end(self, request: pytest.FixtureRequest) -> FakeSourceEnd:
        """A fake publisher that publishes when asked to, or from inside `resume`."""
        return FakeSourceEnd(NAME, synchronous=request.param)
