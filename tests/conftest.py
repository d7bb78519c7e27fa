"""What all tests share: hypothesis' profiles, the event loops, and a guard against leftovers."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import hypothesis
import pytest
import uvloop

from .postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DRIVES_A_SERVER = frozenset({"e2e", "hostile", "browser"})
"""Packages of tests whose server, or browser, runs in its own process: the test's loop makes no
difference."""

IN_ANY_LOOP = frozenset({"library", "limits", "stream"})
"""Packages of tests for what other programs run in loops of their own; a server's is uvloop's."""

# No deadline anywhere: a machine that is busy with other tests would decide what fails.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001 - pytest passes arguments by name
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every async test is for uvloop and for asyncio, unless its server is a process of its own."""
    if DRIVES_A_SERVER.intersection(item.path.parts):
        return {"uvloop": uvloop.new_event_loop}
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to ``-m slow`` what runs on asyncio and would be run so by no program.

    What drives a server comes first: these files take longest, and the last ones that pytest-xdist
    deals out should be short.
    """
    items.sort(key=lambda item: not DRIVES_A_SERVER.intersection(item.path.parts))
    for item in items:
        callspec = getattr(item, "callspec", None)
        on_asyncio = callspec and asyncio.new_event_loop in callspec.params.values()
        if on_asyncio and not IN_ANY_LOOP.intersection(item.path.parts):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """The tests end all threads that they start and that would keep a process from ending."""
    before = set(threading.enumerate())
    yield
    left = [t.name for t in threading.enumerate() if t not in before and not t.daemon]
    assert not left, f"threads still running: {left}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that all tests share, each with a database of its own."""
    with Postgres() as postgres:
        yield postgres
