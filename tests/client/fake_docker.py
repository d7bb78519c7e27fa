"""A daemon that speaks Docker's API on a socket, as far as a shipper of logs asks it.

It answers as Docker 28 does: chunked, a frame for each message of a container without a terminal,
lines above 16 KiB in several messages, each of these with its time.
"""

from __future__ import annotations

import contextlib
import decimal
import json
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.e2e.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MESSAGE_SIZE: Final = 16 * 1024
STREAMS: Final = {"stdout": 1, "stderr": 2}
FIRST_SECOND: Final = 4_000_000_000
"""Unix time of the first message, in a future that no clock has reached; each takes a second."""


class Message(NamedTuple):
    """What Docker keeps of what a container wrote."""

    second: int
    stream: str
    text: bytes

    def stamped(self) -> bytes:
        """With its time before it, as `timestamps` asks for."""
        minutes, seconds = divmod(self.second - FIRST_SECOND, 60)
        return b"2096-10-02T07:%02d:%02d.000000000Z " % (6 + minutes, 40 + seconds) + self.text


@dataclass
class Container:
    """A container and its log."""

    identifier: str
    name: str
    labels: Mapping[str, str]
    tty: bool = False
    running: bool = True
    messages: list[Message] = field(default_factory=list)


class FakeDocker:
    """Docker's daemon at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log_requests: list[str] = []
        self._containers: dict[str, Container] = {}
        self._events: list[dict[str, Any]] = []
        self._second = FIRST_SECOND
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self.start()

    # What happens to containers

    def run(
        self, name: str, *, tty: bool = False, labels: Mapping[str, str] | None = None
    ) -> Container:
        """Start a container, for the first time or again."""
        if labels is None:
            labels = {"pipe.logs": "true"}
        identifier = name.encode().hex().ljust(64, "0")
        with self._changed:
            container = self._containers.setdefault(
                identifier, Container(identifier, name, labels, tty)
            )
            container.running = True
            actor = {"ID": identifier, "Attributes": {**labels, "name": name}}
            event = {"status": "start", "id": identifier, "Type": "container", "Actor": actor}
            self._events.append({**event, "Action": "start"})
            self._changed.notify_all()
        return container

    def write(self, container: Container, text: bytes, stream: str = "stdout") -> None:
        """Let it write a line, or what comes before one."""
        with self._changed:
            for start in range(0, len(text), MESSAGE_SIZE):
                part = text[start : start + MESSAGE_SIZE]
                container.messages.append(Message(self._second, stream, part))
                self._second += 1
            self._changed.notify_all()

    def end(self, container: Container) -> None:
        """Let it end."""
        with self._changed:
            container.running = False
            self._changed.notify_all()

    # What happens to the daemon

    def start(self) -> None:
        """Listen; again, if it has stopped."""
        self.path.unlink(missing_ok=True)
        with self._changed:
            self._events.clear()
        server = socketserver.ThreadingUnixStreamServer(str(self.path), self._handler())
        server.daemon_threads = True
        server.block_on_close = False
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the socket and all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.notify_all()
        wait_until(lambda: not self._open, "all connections closed")

    # What it answers

    def _selected(self, query: Mapping[str, list[str]]) -> list[Container]:
        wanted = json.loads(query["filters"][0]).get("label", [])
        return [
            container
            for container in self._containers.values()
            if {f"{name}={value}" for name, value in container.labels.items()} >= set(wanted)
        ]

    def _listed(self, query: Mapping[str, list[str]]) -> list[dict[str, Any]]:
        return [
            {"Id": container.identifier, "Names": ["/" + container.name]}
            for container in self._selected(query)
            if container.running
        ]

    def _inspected(self, container: Container) -> dict[str, Any]:
        return {
            "Id": container.identifier,
            "Name": "/" + container.name,
            "State": {"Running": container.running},
            "Config": {"Tty": container.tty, "Labels": container.labels},
        }

    def _all_events(self, query: Mapping[str, list[str]]) -> Iterator[bytes]:
        told = len(self._events)  # as without `since`: those that come from now on
        while self._server:
            with self._changed:
                while len(self._events) <= told and self._server:
                    self._changed.wait()
                events, told = self._events[told:], len(self._events)
            chosen = {container.identifier for container in self._selected(query)}
            for event in events:
                if event["id"] in chosen:
                    yield json.dumps(event).encode() + b"\n"

    def _log(self, container: Container, query: Mapping[str, list[str]]) -> Iterator[bytes]:
        since = decimal.Decimal(query["since"][0])
        told = 0
        while self._server:
            with self._changed:
                while len(container.messages) <= told and self._server and container.running:
                    self._changed.wait()
                running = container.running
                messages, told = container.messages[told:], len(container.messages)
            for message in messages:
                if message.second < since:
                    continue
                data = message.stamped()
                if not container.tty:
                    data = struct.pack(">BxxxI", STREAMS[message.stream], len(data)) + data
                yield data
            if not running:
                return

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        docker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                docker._open.add(self.connection)

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                docker._open.discard(self.connection)

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def do_GET(self) -> None:
                target = urlsplit(self.path)
                docker._route(self, target.path, parse_qs(target.query))

            def address_string(self) -> str:
                return "socket"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler

    def _route(
        self, handler: BaseHTTPRequestHandler, path: str, query: Mapping[str, list[str]]
    ) -> None:
        if path == "/events":
            return self._stream(handler, "application/json", lambda: self._all_events(query))
        if path == "/containers/json":
            return self._answer(handler, 200, self._listed(query))
        _, _, identifier, what = path.split("/")
        container = self._containers.get(identifier)
        if container is None:
            return self._answer(handler, 404, {"message": f"No such container: {identifier}"})
        if what == "json":
            return self._answer(handler, 200, self._inspected(container))
        self.log_requests.append(container.name)
        kind = "raw" if container.tty else "multiplexed"
        return self._stream(
            handler,
            f"application/vnd.docker.{kind}-stream",
            lambda: self._log(container, query),
        )

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _stream(
        self, handler: BaseHTTPRequestHandler, kind: str, pieces: Callable[[], Iterator[bytes]]
    ) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in pieces():
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")
