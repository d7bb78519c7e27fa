"""What happens to the HTTP front when its port is somebody else's."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipe.app import start_web
from pipe.errors import StartError
from pipe.service import Service
from pipe.settings import Settings
from pipe.store import Store

from .served import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Accounts of nobody."""
    async with await Store.open("sqlite://") as store:
        yield store


def take(port: int) -> socket.socket:
    """Listen on a port of this machine, whoever else does so."""
    taken = socket.socket()
    try:
        taken.bind((HOST, port))
        taken.listen()
    except OSError:  # somebody has it already, which is as good
        taken.close()
    return taken


async def test_port_that_was_asked_for_stops_the_start(store: Store) -> None:
    """The start fails, as for the port of SSH."""
    with closing(take(0)) as taken:
        service = Service(Settings(web_port=taken.getsockname()[1]), store)
        with pytest.raises(StartError, match="Address already in use"):
            await start_web(service)


async def test_port_that_nobody_asked_for_is_left(store: Store) -> None:
    """A second server on a machine goes on without, and leads nobody to the first one's pages."""
    with closing(take(8222)):
        service = Service(Settings(), store)
        assert await start_web(service) is None
        assert service.web_url == ""


async def test_no_port(store: Store) -> None:
    """With port 0 there is nothing of HTTP."""
    service = Service(Settings(web_port=0), store)
    assert await start_web(service) is None
    assert service.web_url == ""
