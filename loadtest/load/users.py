"""Who puts the load on the server, and what each of them does again and again."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import locust
from locust import User, between, constant, constant_pacing

from loadtest.load.sessions import READ_BYTES, LetDownError, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from loadtest.load.target import Target

MESSAGE_BYTES: Final = 64
ROOM_SIZE: Final = 4
"""Chatters in one room: each line is delivered to all of them."""

TRANSFER_BYTES: Final = 4 << 20

SLOW_PIECE_BYTES: Final = 1 << 15
SLOW_PAUSE_SECONDS: Final = 0.25

_Function = TypeVar("_Function", bound="Callable[..., object]")


def task(function: _Function) -> _Function:
    """Locust's decorator, with a type: what a user does again and again."""
    mark: Any = locust.task
    marked: _Function = mark(function)
    return marked


class SSHUser(User):  # type: ignore[misc,unused-ignore] # untyped where Locust is not installed
    """Somebody with `ssh`."""

    abstract = True
    target: Target
    numbers = itertools.count()

    def __init__(self, environment: Any) -> None:  # noqa: ANN401
        super().__init__(environment)
        self.number = next(self.numbers)
        self.sessions: list[Session] = []

    def open(self, words: str) -> Session:
        """Start a session that ends with this user at the latest."""
        session = Session(self.target, words)
        self.sessions.append(session)
        return session

    def close(self, *sessions: Session) -> None:
        """End these sessions."""
        for session in sessions:
            self.sessions.remove(session)
            session.close()

    def on_stop(self) -> None:
        """End all sessions."""
        self.close(*self.sessions)

    def report(self, kind: str, name: str, seconds: float, size: int = 0) -> None:
        """Count one measurement."""
        self._count(kind, name, seconds * 1000, size)

    def _count(
        self,
        kind: str,
        name: str,
        milliseconds: float | None,
        size: int = 0,
        error: Exception | None = None,
    ) -> None:
        """Count a measurement, or a failure, which has no time that means something."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=milliseconds,
            response_length=size,
            exception=error,
            context={},
        )

    def attempt(self, kind: str, name: str, action: Callable[[], None]) -> None:
        """Do something that reports its own success; count a failure under this name."""
        try:
            action()
        except LetDownError as error:
            self._count(kind, name, None, error=error)
            time.sleep(1)  # as a person would, and so that a dead server is not stormed
            self.close(*self.sessions)

    def log_in(self, words: str) -> Session:
        """Start a session that greets, and report how long that took."""
        session = self.open(words)
        self.report("ssh", "login", session.wait_greeting())
        return session


class Chatter(SSHUser):
    """Writes a line into a room now and then, and waits until it has come back."""

    weight = 5
    wait_time = between(0.2, 1.0)

    def __init__(self, environment: Any) -> None:  # noqa: ANN401
        super().__init__(environment)
        self.count = 0
        self.unread = b""

    @task
    def say(self) -> None:
        """Send one line; come in first if need be."""
        self.attempt("chat", "round trip", self.say_and_hear)

    def say_and_hear(self) -> None:
        """Send one line and read until it has come back."""
        if not self.sessions:
            self.unread = b""
            self.log_in(f"pipe --replay load-room-{self.number // ROOM_SIZE}")
        [session] = self.sessions
        self.count += 1
        line = f"{self.number} {self.count} ".encode().ljust(MESSAGE_BYTES - 1, b".")
        started = time.perf_counter()
        session.write(line + b"\n")
        while True:
            *lines, self.unread = (self.unread + self.receive(session)).split(b"\n")
            if line in lines:
                break
        self.report("chat", "round trip", time.perf_counter() - started, MESSAGE_BYTES)

    def receive(self, session: Session) -> bytes:
        """What there is to read; the room is never silent for good."""
        if data := session.read():
            return data
        raise LetDownError(f"the room is closed: {session.text}")


class Publisher(SSHUser):
    """Writes a line with the time to a feed, four times a second, whether anybody reads or not."""

    fixed_count = 1
    wait_time = constant_pacing(0.25)

    @task
    def publish(self) -> None:
        """Send one line."""
        self.attempt("feed", "publish", self.send_time)

    def send_time(self) -> None:
        """Send the time."""
        if not self.sessions:
            self.log_in("pub --block=false load-feed")
        [session] = self.sessions
        line = f"{time.time():.6f} ".encode().ljust(MESSAGE_BYTES - 1, b".")
        session.write(line + b"\n")


class Follower(SSHUser):
    """Reads the feed."""

    weight = 3
    wait_time = constant(0)

    @task
    def follow(self) -> None:
        """Read on."""
        self.attempt("feed", "delivery", self.read_times)

    def read_times(self) -> None:
        """Read lines until the feed ends, which it should not."""
        session = self.open("sub --keep-alive load-feed")
        unread = b""
        while data := session.read():
            *lines, unread = (unread + data).split(b"\n")
            now = time.time()
            for line in lines:
                self.report("feed", "delivery", now - float(line.split()[0]), len(line) + 1)
        raise LetDownError(f"the feed has ended: {session.text}")


class Streamer(SSHUser):
    """Sends a file to somebody who then comes to fetch it."""

    weight = 2
    wait_time = between(1, 3)
    payload = random.Random(0).randbytes(TRANSFER_BYTES)

    @task
    def transfer(self) -> None:
        """Send and fetch one file."""
        self.attempt("stream", "transfer", self.send_and_fetch)

    def send_and_fetch(self) -> None:
        """Send one file, fetch it, and see that all of it came."""
        topic = f"load-file-{self.number}"
        sender = self.log_in(f"pub --timeout 30s {topic}")
        writer = threading.Thread(target=self.send, args=(sender,), daemon=True)
        writer.start()
        reader = self.open(f"sub {topic}")
        size = len(reader.read())
        first = time.perf_counter()
        if not size:
            raise LetDownError(f"nothing came: {reader.text}")
        self.report("stream", "first byte", first - reader.started, size)
        while data := reader.read():
            size += len(data)
        last = time.perf_counter()
        reader.wait()
        sender.wait()
        writer.join()
        if size != TRANSFER_BYTES:
            raise LetDownError(f"{size} of {TRANSFER_BYTES} bytes came")
        self.report("stream", "transfer", last - first, size)
        self.close(sender, reader)

    def send(self, sender: Session) -> None:
        """Write the file; what goes wrong here shows at the other end."""
        with contextlib.suppress(LetDownError):
            sender.write(self.payload)
            sender.end_input()


class SlowReader(SSHUser):
    """Reads a fast publisher's endless stream at a fixed slow pace, and so holds it back."""

    weight = 3
    wait_time = constant(0)

    @task
    def crawl(self) -> None:
        """Read on, slowly."""
        self.attempt("slow", "slow read", self.read_slowly)

    def read_slowly(self) -> None:
        """Read the stream, which should never end."""
        topic = f"load-slow-{self.number}"
        sender = self.log_in(f"pub --timeout 30s {topic}")
        threading.Thread(target=self.flood, args=(sender,), daemon=True).start()
        reader = self.open(f"sub {topic}")
        while True:
            started = time.perf_counter()
            data = reader.read(SLOW_PIECE_BYTES)
            if not data:
                raise LetDownError(f"the stream has ended: {reader.text}")
            self.report("slow", "slow read", time.perf_counter() - started, len(data))
            time.sleep(SLOW_PAUSE_SECONDS)

    def flood(self, sender: Session) -> None:
        """Write as fast as the reader lets us, until the session is closed."""
        with contextlib.suppress(LetDownError, ValueError):
            while True:
                sender.write(bytes(READ_BYTES))
