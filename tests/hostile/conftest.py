"""Fixtures: a server with an innocent user on it, shared by a file or for one test alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.e2e.conftest import keys  # noqa: F401 - a fixture
from tests.e2e.server import PIPE, Server, Status

from .ciphers import LANE, PLAIN
from .innocent import Innocent
from .peer import Target
from .scene import Scene

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from tests.e2e.clients import KeyRing

    from .ciphers import Suite

SERVED_BY = os.environ.get("PIPE_TEST_LANES", "fast").split(",")[0]
"""The lane of the server.  On the fast one its peers choose by their cipher whether they are served
by that, or by asyncssh's own path behind it."""


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run with one cipher what the data path makes no difference to; ``-m slow`` runs the other.

    Before the login, and but for a stream's packets after it, both ciphers lead to the same code.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        on_plain = callspec and callspec.params.get("suite") is PLAIN
        if on_plain and not item.get_closest_marker("data_path"):
            item.add_marker(pytest.mark.slow)


class SetScene(Protocol):
    """Starts a server with these settings, and an innocent user on it."""

    def __call__(self, *, within: Sequence[str] = (), **settings: str | int) -> Scene:
        """Start one more, `within` being as for `Server`."""


def _set_scene(
    directory: Path,
    keys: KeyRing,  # noqa: F811
    within: Sequence[str] = (),
    **settings: str | int,
) -> Scene:
    # Nobody is asked whether they live but where a test wants that: how many such questions are
    # under way, and whom they end, would depend on how long an attack takes.
    patient = {"keepalive_interval": "1h", **settings}
    server = Server(directory, keys, SERVED_BY, PIPE, within=within, **patient)
    try:
        target = Target("127.0.0.1", server.port, "innocent", keys.openssh("innocent"))
        return Scene(server, Innocent(target))
    except BaseException:
        server.stop()
        raise


class Stage:
    """The scene that a test file shares, replaced after a test that spoilt it."""

    def __init__(self, directory: Path, keys: KeyRing) -> None:  # noqa: F811
        self._directory = directory
        self._keys = keys
        self._started = 0
        self._scene: Scene | None = None

    def get(self) -> Scene:
        """The scene as it is, or a new one."""
        if self._scene is None:
            self._started += 1
            self._scene = _set_scene(self._directory / f"data{self._started}", self._keys)
        return self._scene

    def spoil(self) -> None:
        """Have the next test start afresh."""
        scene, self._scene = self._scene, None
        if scene:
            _tear_down(scene)

    def close(self) -> None:
        """End it in good order."""
        scene, self._scene = self._scene, None
        if scene:
            _end(scene)


def _tear_down(scene: Scene) -> None:
    scene.drop_peers()
    scene.innocent.kill()
    scene.server.stop()


def _end(scene: Scene) -> None:
    """Check at the end that nothing is left, neither on the server nor in its log."""
    server = scene.server
    try:
        scene.drop_peers()
        scene.innocent.finish()
        server.wait_empty()
        server.wait_metric("pipe_connections", 0)
        assert server.stop() == Status.OK
        server.check_log()
    finally:
        _tear_down(scene)


@pytest.fixture(scope="module")
def stage(keys: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:  # noqa: F811
    """Where the file's scenes play."""
    stage = Stage(tmp_path_factory.mktemp("server"), keys)
    yield stage
    stage.close()


@pytest.fixture
def scene(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A server with the usual settings, that nobody but the innocent user is on."""
    scene = stage.get()
    scene.figures.clear()
    try:
        yield scene
    finally:
        scene.drop_peers()
        scene.server.drop_clients()
        _report(request, scene)
        if getattr(request.node, "failed", True):
            stage.spoil()


@pytest.fixture
def set_scene(
    keys: KeyRing,  # noqa: F811
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[SetScene]:
    """Scenes for one test alone."""
    scenes: list[Scene] = []

    def start(*, within: Sequence[str] = (), **settings: str | int) -> Scene:
        scenes.append(_set_scene(tmp_path / f"data{len(scenes)}", keys, within, **settings))
        return scenes[-1]

    yield start
    for scene in scenes:
        _report(request, scene)
        if getattr(request.node, "failed", True) or scene.spoilt or not scene.server.running:
            _tear_down(scene)
        else:
            _end(scene)


@pytest.fixture(params=[LANE, PLAIN], ids=["lane", "plain"])
def suite(request: pytest.FixtureRequest) -> Suite:
    """The cipher, and by it the server's data path, that the attacker has chosen."""
    chosen: Suite = request.param
    return chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 - pytest passes arguments by name
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether their test has failed."""
    report = yield
    if report.when == "call":
        item.failed = report.failed  # type: ignore[attr-defined]
    return report


def _report(request: pytest.FixtureRequest, scene: Scene) -> None:
    for figures in scene.figures:
        request.node.user_properties.append(("figures", str(figures)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what each attack came to."""
    lines = [
        f"{report.nodeid.rpartition('/')[2]}: {text}"
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "figures" and report.when == "teardown"
    ]
    if lines:
        terminalreporter.section("what the attacks came to")
        for line in dict.fromkeys(lines):
            terminalreporter.line(line)
