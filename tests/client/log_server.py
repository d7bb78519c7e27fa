"""A server of HTTP that takes lines, and answers, hangs, breaks off or goes away as it is told."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tests.e2e.clients import HOST
from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer(NamedTuple):
    """What to say to a request."""

    status: int
    headers: Mapping[str, str] = {}
    text: str = ""


class Misbehaviour:
    """The type of `HANG` and `CUT`."""


HANG: Final = Misbehaviour()
"""Never answer."""

CUT: Final = Misbehaviour()
"""Take the request, and close the connection without an answer."""

TAKEN: Final = Answer(204)


class Request(NamedTuple):
    """What came, when."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    moment: float


class LogServer:
    """Takes lines on a port of its own; `then` says how it answers the next requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._taken: list[bytes] = []
        self._next: queue.SimpleQueue[Answer | Misbehaviour] = queue.SimpleQueue()
        self._open: set[socket.socket] = set()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._port}"

    def then(self, *answers: Answer | Misbehaviour) -> None:
        """Answer the next requests like this; those after them are taken."""
        for answer in answers:
            self._next.put(answer)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines that were taken."""
        return [json.loads(line) for body in self._taken for line in body.splitlines()]

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Return the lines once there are so many."""
        wait_until(lambda: len(self.lines) >= count, f"{count} lines")
        return self.lines

    def wait_requests(self, count: int) -> None:
        """Return once so many requests came, whatever they were answered."""
        wait_until(lambda: len(self.requests) >= count, f"{count} requests")

    def start(self) -> None:
        """Listen, for the first time or again on the same port."""
        server = ThreadingHTTPServer((HOST, self._port), self._handler())
        server.daemon_threads = True
        server.block_on_close = False
        self._port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not self._open, "all connections closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, request: Request) -> Answer | Misbehaviour:
        try:
            answer = self._next.get_nowait()
        except queue.Empty:
            answer = TAKEN
        if isinstance(answer, Answer) and answer.status < 300:
            self._taken.append(request.body)
        self.requests.append(request)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        log = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                log.connections += 1
                log._open.add(self.connection)

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                log._open.discard(self.connection)

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = log._answer(Request(self.path, dict(self.headers), body, time.monotonic()))
                if isinstance(answer, Answer):
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    if answer.status != TAKEN.status:
                        self.send_header("Content-Length", str(len(answer.text)))
                    self.end_headers()
                    self.wfile.write(answer.text.encode())
                    return
                if answer is HANG:
                    self.rfile.read(1)  # until the other side gives up
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler
