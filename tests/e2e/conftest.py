"""Fixtures: the people's keys, a server that a test file shares, and servers of a test's own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Protocol

import pytest

from .clients import KeyRing
from .desks import Desks
from .nodes import Nodes
from .payloads import MIB, Blob, write_blob
from .server import LANES, PATIENT, WORKERS, Server, Status
from .strangers import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import Postgres


class StartServer(Protocol):
    """Starts a server with these settings beside the usual ones."""

    def __call__(self, *, program: str = PATIENT, **settings: str | int) -> Server:
        """Start one more."""


def pytest_configure() -> None:
    """Let clients be interrupted however the tests were started."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in the background of a shell starts with SIGINT ignored, and would hand that on to
        # the clients that tests interrupt.  A handler here is none in a program that is executed.
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run on one lane only what the lane makes no difference to; ``-m slow`` runs it on the other.

    Who may do what, which words are printed and what is counted is decided above the data path.
    """
    for item in items:
        if WORKERS > 1 and item.get_closest_marker("one_worker"):
            item.add_marker(pytest.mark.skip(reason="with one worker only"))
        callspec = getattr(item, "callspec", None)
        lane = callspec.params.get("lane") if callspec else None
        everywhere = item.get_closest_marker("data_path") or not item.get_closest_marker("e2e")
        if lane not in {None, LANES[0]} and not everywhere:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyRing:
    """Everybody's keys."""
    return KeyRing(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Blob:
    """A file of 32 MiB: far more than all buffers on the way, the clients' own among them."""
    return write_blob(tmp_path_factory.mktemp("blob") / "noise", 32 * MIB)


@pytest.fixture(scope="session")
def big() -> bool:
    """Whether the machine has been given to tests that move gigabytes."""
    return os.environ.get("PIPE_TEST_BIG") == "1"


@pytest.fixture(scope="module", params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    """The server's data path."""
    value: str = request.param
    return value


class SharedServer:
    """A server that lasts for a test file, and is replaced after a test that spoilt it."""

    def __init__(
        self,
        directory: Path,
        keys: KeyRing,
        lane: str,
        program: str = PATIENT,
        **settings: str | int,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._lane = lane
        self._program = program
        self._settings = settings
        self._started = 0
        self._server: Server | None = None

    def get(self) -> Server:
        """The server that runs, or a new one."""
        if self._server is None:
            self._started += 1
            self._server = Server(
                self._directory / f"data{self._started}",
                self._keys,
                self._lane,
                self._program,
                within=(),
                **self._settings,
            )
        return self._server

    def check(self) -> None:
        """Fail if the test before left anything behind, and then start afresh."""
        server = self.get()
        try:
            server.drop_clients()
            assert server.running, server.log
            server.wait_empty()
            server.check_log()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> int:
        """End it, if there is one, and return its exit status."""
        server, self._server = self._server, None
        return server.stop() if server else Status.OK


@pytest.fixture(scope="module")
def shared_server(
    lane: str, keys: KeyRing, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedServer]:
    """What `server` takes its server from."""
    shared = SharedServer(tmp_path_factory.mktemp("server"), keys, lane)
    yield shared
    assert shared.stop() == Status.OK


@pytest.fixture
def server(shared_server: SharedServer) -> Iterator[Server]:
    """A running server on which nobody is; that it is so again afterwards is part of every test."""
    yield shared_server.get()
    shared_server.check()


@pytest.fixture
def start_server(lane: str, keys: KeyRing, tmp_path: Path) -> Iterator[StartServer]:
    """Servers for one test alone, which may end them itself."""
    started: list[Server] = []

    def start(*, program: str = PATIENT, **settings: str | int) -> Server:
        directory = tmp_path / f"data{len(started)}"
        started.append(Server(directory, keys, lane, program, within=(), **settings))
        return started[-1]

    yield start
    for server in started:
        server.stop()
    for server in started:
        server.check_log()


@pytest.fixture
def nodes(tmp_path: Path, keys: KeyRing, postgres: Postgres) -> Iterator[Nodes]:
    """The machines of a mesh: none yet."""
    nodes = Nodes(tmp_path, keys, postgres.new_database())
    yield nodes
    nodes.close()


@pytest.fixture
def desks(server: Server, keys: KeyRing, tmp_path: Path) -> Iterator[Desks]:
    """Terminals that are closed when the test ends."""
    desks = Desks(tmp_path, server, keys)
    yield desks
    desks.close()


@pytest.fixture
def raw() -> Iterator[Raw]:
    """Connections that speak no SSH."""
    raw = Raw()
    yield raw
    raw.close()
