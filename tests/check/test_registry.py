"""The check of the container registry."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from pipe.check.findings import Level
from pipe.check.registry import check_registry
from tests.e2e.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.settings import Settings


class Answer(BaseHTTPRequestHandler):
    """Is a registry at ``/hub`` for whoever has the password."""

    def do_GET(self) -> None:
        """Answer."""
        known = self.headers["Authorization"] == "Basic cGlwZTpzZWNyZXQ="  # pipe:secret
        self.send_response((200 if known else 401) if self.path == "/hub/v2/" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("url", "level", "said"),
    [
        ("http://pipe:secret@127.0.0.1:%d/hub", Level.OK, "answers"),
        ("http://pipe:guess@127.0.0.1:%d/hub", Level.WARNING, "give a name and password"),
        ("http://127.0.0.1:%d", Level.WARNING, "answers 404 at /v2/"),
        ("https://127.0.0.1:%d", Level.WARNING, "does not answer"),
    ],
)
def test_answers(make: Callable[..., Settings], url: str, level: Level, said: str) -> None:
    """What the registry says to the login is told, without the password."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        settings = make(registry_url=url % server.server_port, web_port=8222)
        (found,) = check_registry(settings)
        thread.join()
    assert (found.level, said in found.text) == (level, True)
    assert "secret" not in found.text
    assert "guess" not in found.text


def test_silence(make: Callable[..., Settings]) -> None:
    """A registry that is not there is a warning: the server starts without."""
    url = f"http://127.0.0.1:{free_port()}"
    (found,) = check_registry(make(registry_url=url, web_port=8222))
    assert (found.level, "Connection refused" in found.text) == (Level.WARNING, True)
