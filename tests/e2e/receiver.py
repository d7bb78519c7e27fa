"""A receiver of webhooks, on a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from . import clients
from .processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Posted(NamedTuple):
    """A POST that has come."""

    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers each POST with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.posts: list[Posted] = []
        self.release = threading.Event()
        self.release.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                receiver.posts.append(Posted(dict(self.headers), self.rfile.read(size)))
                receiver.release.wait()
                with contextlib.suppress(OSError):
                    self.send_response(receiver.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((clients.HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{clients.HOST}:{self._server.server_port}/hooks"

    def wait(self, count: int) -> list[Posted]:
        """Return what has come, once it is so much."""
        wait_until(lambda: len(self.posts) >= count, f"{count} POSTs")
        return self.posts

    def close(self) -> None:
        """End it."""
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver, as long as it is wanted."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
