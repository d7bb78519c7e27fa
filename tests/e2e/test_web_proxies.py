"""nginx and haproxy in front, as docs/operations.md has them: nothing broken passes for whole."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from websockets.sync.client import connect

from . import clients
from .payloads import MIB, noise
from .processes import HELD, statuses
from .server import ROOT, Server, Status
from .web import Curl, Program, haproxy, nginx, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer
    from .payloads import Blob

pytestmark = pytest.mark.e2e

GUIDE: Final = (ROOT / "docs" / "operations.md").read_text()

CUT: Final = {18, 56}


def snippet(kind: str, server: Server) -> str:
    """What the guide says for a proxy, with this server's port."""
    [found] = re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found).replace(":8222", f":{server.web_port}")


@pytest.fixture
def behind(start_server: StartServer) -> Server:
    """A server that trusts proxies on this machine."""
    return start_server(web_proxies="127.0.0.1/32")


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(behind: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """A proxy in front of it."""
    if request.param == "nginx":
        text = textwrap.indent(snippet("nginx", behind), "        ")
        program = nginx(tmp_path, text)
    else:
        defaults, _, backend = snippet("haproxy", behind).partition("backend")
        program = haproxy(tmp_path, defaults, f"backend{backend}")
    with program:
        yield program


def test_streams_pass_whole(behind: Server, proxy: Program, blob: Blob) -> None:
    """Large uploads and downloads, late readers and refusals pass as they are."""
    curl = Curl(behind, port=proxy.port)
    writer = curl("/topic/build", "-T", blob.path)
    behind.wait_waiting()
    reader = curl("/topic/build", "-f", keep=False)
    assert statuses(writer, reader) == [Status.OK] * 2
    assert reader.stdout.sha256 == blob.sha256
    assert writer.output == f"sent {blob.size} bytes to 1 subscriber\n"
    assert curl("/topic/build?timeout=100ms", "-f").wait() == 22


def test_broken_streams_are_seen_through_it(behind: Server, proxy: Program) -> None:
    """A publisher that is killed behind a proxy leaves a reader behind it that knows."""
    curl = Curl(behind, port=proxy.port)
    reader = curl("/topic/build", "-N")
    behind.wait_sessions(subscribe=1)
    writer = curl("/topic/build", "-T", ".", stdin=HELD)
    writer.write(noise(MIB))
    reader.wait_stdout(MIB)
    writer.kill()
    assert reader.wait() in CUT


def test_readers_that_leave_are_noticed(behind: Server, proxy: Program) -> None:
    """A reader that is killed behind a proxy is gone at the server."""
    curl = Curl(behind, port=proxy.port)
    reader = curl("/topic/build")
    behind.wait_sessions(subscribe=1)
    reader.kill()
    behind.wait_sessions(subscribe=0)


def test_websockets_pass(behind: Server, proxy: Program) -> None:
    """A WebSocket goes through, both ways, and is closed with the same code."""
    headers = {"Authorization": f"Bearer {token(behind)}"}
    address = f"ws://{clients.HOST}:{proxy.port}/pipe/room?replay=true"
    with connect(address, additional_headers=headers) as socket:
        socket.send(noise(300_000))
        got = b""
        while len(got) < 300_000:
            frame = socket.recv(timeout=60)
            assert isinstance(frame, bytes)
            got += frame
        assert got == noise(300_000)


def test_clients_are_told_apart(behind: Server, proxy: Program) -> None:
    """The server takes the proxy's word for where a client is, and not the client's."""
    headers = {
        "Authorization": f"Bearer {token(behind)}",
        "X-Forwarded-For": "192.0.2.66",
        "Forwarded": "for=192.0.2.66",
    }
    address = f"http://{clients.HOST}:{proxy.port}/api/whoami"
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
        assert client.get(address, headers=headers).json()["address"] == "127.0.0.2"
