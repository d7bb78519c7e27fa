"""Fixtures: a server that takes lines, handlers that are closed, waits that are short."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Protocol

import pipe_log
import pytest

from tests.e2e.processes import Input, Process
from tests.e2e.server import ROOT

from .log_server import LogServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class StartPython(Protocol):
    """Runs Python with these arguments, where `pipe_log` can be imported."""

    def __call__(self, *words: str, stdin: Input = None, **variables: str) -> Process:
        """Start it."""


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that waits little, for lines and between tries."""
    monkeypatch.setattr("pipe_log._sender.BATCH_SECONDS", 0.01)
    monkeypatch.setattr("pipe_log._sender.FIRST_WAIT", 0.001)
    monkeypatch.setattr("pipe_log._sender.LONGEST_WAIT", 0.01)


@pytest.fixture
def log_server() -> Iterator[LogServer]:
    """A server that takes lines."""
    with LogServer() as server:
        yield server


@pytest.fixture
def handler(log_server: LogServer, short_waits: None) -> Iterator[pipe_log.Handler]:  # noqa: ARG001
    """A handler whose lines go there."""
    handler = pipe_log.Handler(log_server.url, token="secret", service="web")
    yield handler
    handler.close()


@pytest.fixture
def python() -> Iterator[StartPython]:
    """Programs that end with the test."""
    started: list[Process] = []

    def start(*words: str, stdin: Input = None, **variables: str) -> Process:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "client"), **variables}
        command = [sys.executable, "-X", "dev", *words]
        started.append(Process(command, stdin=stdin, environment=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
