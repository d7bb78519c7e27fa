"""What Docker's containers write: those with the label `pipe.logs=true`, also if they start later.

The labels `pipe.service` and `pipe.user` say more about a container's lines. A thread follows each
container; it goes on where it was when the daemon, or the container, comes back.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from ._frames import Frames, Terminal, just_after
from ._sender import BUFFER_LIMIT, FIRST_WAIT, LONGEST_WAIT
from ._texts import Source
from ._words import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._frames import Written
    from ._sender import Sender

DEFAULT_SOCKET: Final = "/var/run/docker.sock"

LABEL: Final = "pipe.logs=true"
SERVICE_LABELS: Final = ("pipe.service", "com.docker.compose.service")
USER_LABEL: Final = "pipe.user"

MOST_CONTAINERS: Final = 1000
"""Each is a thread and a connection."""

MOST_REMEMBERED: Final = 10_000
"""Containers of which we know how far they were read."""

TIMEOUT: Final = 30.0
"""Seconds for an answer to begin. What follows may take as long as it likes."""

READ_SIZE: Final = 64 * 1024
EVENT_LIMIT: Final = 1024 * 1024
"""Bytes: far more than the labels of a container."""


class DockerError(Exception):
    """The daemon answered otherwise than it should.

    Args:
        text: what it answered.
        final: whether asking again would be in vain.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


FAILURES: Final = (OSError, http.client.HTTPException, DockerError, ValueError, LookupError)
"""What a daemon that is away, cut off or broken looks like."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT)
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect(self) -> None:
        """Connect to the socket."""
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(self._path)
        self.sock = self.socket

    def close(self) -> None:
        """Close the socket too, which a response may have taken over."""
        super().close()
        self.socket.close()


class Daemon:
    """Docker's API, at a path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, target: str, **query: str) -> Any:  # noqa: ANN401 - JSON
        """Answer a question."""
        with self._open(target, query) as answer:
            return json.loads(answer.read())

    def events(self) -> Iterator[str]:
        """The identifiers of the containers that run, then of those that start."""
        filters = {"type": ["container"], "event": ["start"], "label": [LABEL]}
        with self._open("/events", {"filters": json.dumps(filters)}) as events:
            running = self.get("/containers/json", filters=json.dumps({"label": [LABEL]}))
            yield from (container["Id"] for container in running)
            rest = b""
            while data := _read(events):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > EVENT_LIMIT:
                    raise DockerError("an event without an end")
                for line in filter(None, lines):
                    event = json.loads(line)
                    yield event.get("id") or event["Actor"]["ID"]

    def logs(self, identifier: str, since: str) -> Iterator[bytes]:
        """What a container has written since a moment, and writes until it ends."""
        query = {
            "follow": "true",
            "stdout": "true",
            "stderr": "true",
            "timestamps": "true",
            "since": since,
        }
        with self._open(f"/containers/{quote(identifier)}/logs", query) as answer:
            while data := _read(answer):
                yield data

    @contextlib.contextmanager
    def _open(self, target: str, query: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        with contextlib.closing(_UnixConnection(self.path)) as connection:
            connection.request("GET", f"{target}?{urlencode(query)}")
            with connection.getresponse() as answer:
                if answer.status != http.client.OK:
                    text = printable(answer.read(500).decode("utf-8", "replace").strip())
                    final = answer.status < 500 or answer.status == http.client.NOT_IMPLEMENTED
                    raise DockerError(f"{answer.status} {text}", final=final)
                connection.socket.settimeout(None)
                yield answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    return answer.read1(READ_SIZE)


def follow_containers(path: str, sender: Sender, source: Source) -> None:
    """Send what the containers write, until the process is interrupted."""
    followers = Followers(Daemon(path), sender, source)
    failures = 0
    while True:
        reason = "it closed the connection"
        try:
            for identifier in followers.daemon.events():
                failures = 0
                followers.follow(identifier)
        except FAILURES as error:
            reason = str(error) or type(error).__name__
        if not failures:
            say(f"no answer from Docker at {path}, will try again: {reason}")
        failures += 1
        _wait(failures)


def _wait(failures: int) -> None:
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures, 16))
    time.sleep(random.uniform(0, bound))  # noqa: S311


class Followers:
    """The threads that follow containers, and how far each container's lines were read."""

    def __init__(self, daemon: Daemon, sender: Sender, source: Source) -> None:
        self.daemon = daemon
        self._sender = sender
        self._source = source
        self._began = f"{time.time():.9f}"
        self._lock = threading.Lock()
        self._again: dict[str, bool] = {}  # of those followed: whether it has started once more
        self._since: dict[str, str] = {}
        self._room = threading.Lock()

    def follow(self, identifier: str) -> None:
        """Follow a container that runs, unless a thread does so."""
        with self._lock:
            if identifier in self._again:
                self._again[identifier] = True
                return
            if len(self._again) >= MOST_CONTAINERS:
                say(f"container {identifier[:12]} is one too many: its lines are not sent")
                return
            self._again[identifier] = False
        threading.Thread(target=self._run, args=(identifier,), daemon=True).start()

    def _run(self, identifier: str) -> None:
        failures = 0
        while True:
            try:
                running = self._send_lines(identifier)
                failures = 0
            except FAILURES as error:
                running = not (isinstance(error, DockerError) and error.final)
                if not running or not failures:
                    say(f"container {identifier[:12]}: {error or type(error).__name__}")
                failures += 1
            with self._lock:
                if not running and not self._again[identifier]:
                    del self._again[identifier]
                    return
                self._again[identifier] = False
            _wait(failures)

    def _send_lines(self, identifier: str) -> bool:
        """Send what a container writes until that ends, and return whether it runs nevertheless."""
        about = self.daemon.get(f"/containers/{quote(identifier)}/json")
        source = self._describe(about)
        output = Terminal() if about["Config"]["Tty"] else Frames()
        for data in self.daemon.logs(identifier, self._since.get(identifier, self._began)):
            self._send(identifier, source, output.feed(data))
        self._send(identifier, source, output.end())
        about = self.daemon.get(f"/containers/{quote(identifier)}/json")
        return bool(about["State"]["Running"])

    def _describe(self, about: Any) -> Source:  # noqa: ANN401 - JSON
        labels = about["Config"].get("Labels") or {}
        names = [labels[label] for label in SERVICE_LABELS if labels.get(label)]
        service = self._source.service or (names or [about["Name"].lstrip("/")])[0]
        user = {"user": labels[USER_LABEL]} if labels.get(USER_LABEL) else {}
        return Source(service, {**user, **self._source.fields})

    def _send(self, identifier: str, source: Source, output: Iterable[Written]) -> None:
        # Docker keeps what is not read yet: so wait for room rather than drop anything.
        with self._room:
            self._sender.wait_room(BUFFER_LIMIT // 2, patiently=True)
            for stream, moment, text in output:
                more = {"stream": stream} if stream == "stderr" else {}
                self._sender.put(source.line(text, moment, **more))
                if moment:
                    self._note(identifier, moment)

    def _note(self, identifier: str, moment: str) -> None:
        self._since.pop(identifier, None)
        self._since[identifier] = just_after(moment)
        if len(self._since) > MOST_REMEMBERED:
            self._since.pop(next(iter(self._since)))
