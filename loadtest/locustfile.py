"""Load for Locust: people who chat, publish, follow and send files, each through the real `ssh`.

    make load                                             a minute of it, headless, and a table
    make load ARGS="--users 100 --run-time 5m"            more of it
    make load LOCUST_SHAPE=spike                          or steady, or slow-readers
    .venv/bin/locust -f loadtest/locustfile.py            the web page, on http://127.0.0.1:8089
    .venv/bin/locust -f loadtest/locustfile.py --headless --users 8 Chatter Streamer

Without `--host` a fresh server is started for the run.  With `--host ssh://example.org:2222` it
takes `--ssh-key FILE`, and `--ssh-user NAME` for the account of that key.

The client is OpenSSH's `ssh`, a process for each session, and no library.  A library would do the
cryptography of all users in Locust's one process: that would be full long before the server is,
and what it then measures is itself.  Locust is built on gevent, which no asyncio client (asyncssh)
runs under, and which replaces the threads and sockets below paramiko; pipes to a process are the
one thing that needs no such trust.  It is also what users run.  The price is some 5 ms and 8 MiB
for each `ssh`, so hundreds of users, not many thousands, fit on a machine; Locust's workers spread
them over several.  Locust has replaced the blocking calls of the standard library with gevent's by
the time this file is read: threads here are greenlets.

What is measured, all in milliseconds of wall time as a user would see them:

    login        from starting `ssh` to the server's first line on stderr
    round trip   from writing a 64-byte line into a room to reading it back
    delivery     from writing a line to a feed to a follower's reading it (by the machines' clocks)
    first byte   from starting a reader, its publisher waiting, to its first byte
    transfer     from a reader's first byte to its last; with the bytes it makes the throughput
    slow read    what a slow reader waits for its next piece, its own pauses left out

`make bench` is for what the server costs; this is for how it feels when many use it.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import locust
from locust import LoadTestShape, User, between, constant, constant_pacing
from locust.runners import WorkerRunner

if TYPE_CHECKING:
    from collections.abc import Callable

HOST: Final = "127.0.0.1"
ACCOUNT: Final = "load"

MESSAGE_BYTES: Final = 64
ROOM_SIZE: Final = 4
"""Chatters in one room: each line is delivered to all of them."""

TRANSFER_BYTES: Final = 4 << 20
READ_BYTES: Final = 1 << 16

SLOW_PIECE_BYTES: Final = 1 << 15
SLOW_PAUSE_SECONDS: Final = 0.25

PATIENCE_SECONDS: Final = 30.0
"""For any one answer; who waits longer has been let down."""

DEFAULT_USERS: Final = 20
DEFAULT_SECONDS: Final = 60.0

SHAPE: Final = os.environ.get("LOCUST_SHAPE", "")

events: Any = locust.events  # has no types, and Locust itself is there for `make load` only

_Function = TypeVar("_Function", bound="Callable[..., object]")


def task(function: _Function) -> _Function:
    """Locust's decorator, with a type: what a user does again and again."""
    mark: Any = locust.task
    marked: _Function = mark(function)
    return marked


# Where the load goes


class Target(NamedTuple):
    """The server, and the key that logs in there."""

    host: str
    port: int
    user: str
    key: Path

    def command(self, words: str) -> list[str]:
        """What runs `words` on the server, with none of the machine's own configuration."""
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
        )
        settings = [word for option in options for word in ("-o", option)]
        place = ["-i", str(self.key), "-p", str(self.port), f"{self.user}@{self.host}"]
        return ["ssh", "-F", "none", *settings, *place, words]


class FreshServer:
    """A server of this run's own, with its data in a temporary folder, ended with the run."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pipe-load-"))
        self._lines: collections.deque[str] = collections.deque(maxlen=20)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipe", "serve", "--host", HOST, "--port", "0"),
                *("--data-dir", str(self._folder / "data"), "--signup", "open"),
                *("--metrics-port", "0", "--log-format", "json"),
                *(["--lane", lane] if (lane := os.environ.get("LOAD_LANE")) else []),
            ],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for Locust, which then ends the server
        )
        atexit.register(self.stop)
        self.target = Target(HOST, self._wait_port(), ACCOUNT, self._make_key())
        threading.Thread(target=self._drain, daemon=True).start()

    def _wait_port(self) -> int:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry.get("event") == "serving":
                    return int(entry["ssh"].rpartition(":")[2])
        sys.exit(f"the server did not start:\n{''.join(self._lines)}")

    def _drain(self) -> None:
        assert self._process.stderr is not None
        self._lines.extend(self._process.stderr)  # keeps the last lines

    def _make_key(self) -> Path:
        key = self._folder / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return key

    def introduce(self) -> None:
        """Claim the account, so that its first sessions do not race for it."""
        subprocess.run(self.target.command("version"), check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it; a second call does nothing."""
        atexit.unregister(self.stop)
        early = self._process.poll()
        if early is None:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGTERM)  # the second one: do not wait for streams
            self._process.wait()
        else:
            print(f"the server ended by itself, with status {early}:", *self._lines, sep="\n")
        shutil.rmtree(self._folder, ignore_errors=True)


def add_options(parser: Any, **_: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Let the command line say who logs in."""
    parser.add_argument("--ssh-user", default=ACCOUNT, help="account on --host")
    parser.add_argument("--ssh-key", default="", help="private key of that account")


def set_up(environment: Any, runner: Any = None, **_: Any) -> None:  # noqa: ANN401
    """Find the server that was asked for, or start one."""
    events.quit.add_listener(lambda **_: print_throughput(environment))
    options = environment.parsed_options
    if environment.host is None and not isinstance(runner, WorkerRunner):
        server = FreshServer()
        server.introduce()
        events.quit.add_listener(lambda **_: server.stop())  # by then the users have gone
        SSHUser.target = server.target
        environment.host = f"ssh://{HOST}:{server.target.port}"
        return
    place = urlsplit(environment.host or "")
    if place.scheme != "ssh" or not place.hostname or not options.ssh_key:
        sys.exit("give --host ssh://HOST:PORT together with --ssh-key FILE, or neither")
    key = Path(options.ssh_key).absolute()
    SSHUser.target = Target(place.hostname, place.port or 22, options.ssh_user, key)


def print_throughput(environment: Any) -> None:  # noqa: ANN401 - Locust's own environment
    """Say what Locust's table leaves out: how fast a stream was, in bytes."""
    entry = environment.stats.get("transfer", "stream")
    if entry.total_response_time:
        rate = entry.total_content_length / (entry.total_response_time / 1000) / (1 << 20)
        print(f"\nThroughput of a stream: {rate:.1f} MiB/s, mean of {entry.num_requests}")


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(set_up)


# One session


class LetDownError(Exception):
    """Something that a user was promised did not come."""


class Session:
    """One `ssh` and what it runs on the server."""

    def __init__(self, target: Target, words: str) -> None:
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            target.command(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._said: list[bytes] = []
        self._greeted = threading.Event()
        self._greeted_after = 0.0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while data := pipe.read(READ_BYTES):
                if not self._said:
                    self._greeted_after = time.perf_counter() - self.started
                    self._greeted.set()
                self._said.append(data)
        self._greeted.set()

    def wait_greeting(self) -> float:
        """Return after how many seconds the server's first line came."""
        if not self._greeted.wait(PATIENCE_SECONDS) or not self._greeted_after:
            raise LetDownError(f"no login: {self.text}")
        if self._process.poll():
            raise LetDownError(f"ended at once: {self.text}")
        return self._greeted_after

    @property
    def text(self) -> str:
        """What came on stderr so far, in one line."""
        return " | ".join(b"".join(self._said).decode(errors="replace").split("\n"))

    def write(self, data: bytes) -> None:
        """Write all of it, however long that takes."""
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:
            raise LetDownError(f"cannot write: {error}: {self.text}") from error

    def end_input(self) -> None:
        """Let end of file follow."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read(self, size: int = READ_BYTES) -> bytes:
        """Return what there is, at most `size` bytes; nothing at the end of the stream."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def wait(self) -> None:
        """Wait for a good end."""
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LetDownError(f"did not end: {self.text}") from None
        if status:
            raise LetDownError(f"status {status}: {self.text}")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


# Users


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

    def report(
        self, kind: str, name: str, seconds: float, size: int = 0, error: Exception | None = None
    ) -> None:
        """Count one measurement, or one failure."""
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=seconds * 1000,
            response_length=size,
            exception=error,
            context={},
        )

    def attempt(self, kind: str, name: str, action: Callable[[], None]) -> None:
        """Do something that reports its own success; count a failure under this name."""
        started = time.perf_counter()
        try:
            action()
        except LetDownError as error:
            self.report(kind, name, time.perf_counter() - started, error=error)
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


# Shapes: `LOCUST_SHAPE` names one; without it Locust's own --users and --spawn-rate hold.

ORDINARY: Final[list[type[User]]] = [Publisher, Chatter, Follower, Streamer]

Tick = tuple[int, float, list[type[User]]]


class Shape(LoadTestShape):  # type: ignore[misc,unused-ignore]
    """A course over `--run-time` (60 s), up to `--users` (20)."""

    abstract = True
    use_common_options = True

    def tick(self) -> Tick | None:
        """How many users of which kinds there should be now."""
        shape: Any = self
        options = shape.runner.environment.parsed_options
        most = options.num_users or DEFAULT_USERS
        length = options.run_time if isinstance(options.run_time, int) else 0
        done = shape.get_run_time() / (length or DEFAULT_SECONDS)
        return self.stage(done, most) if done < 1 else None

    def stage(self, done: float, most: int) -> Tick:
        """The same, with the share of the course that is done and the most users there may be."""
        raise NotImplementedError


class Steady(Shape):
    """Everybody comes in the first tenth, and stays."""

    abstract = SHAPE != "steady"

    def stage(self, done: float, most: int) -> Tick:  # noqa: ARG002
        """All of them, from the start on."""
        return most, max(1, most / 6), ORDINARY


class Spike(Shape):
    """A fifth of the users at first; in the middle third all of them, at once."""

    abstract = SHAPE != "spike"

    def stage(self, done: float, most: int) -> Tick:
        """Few, many, few."""
        few = max(2, most // 5)
        return (most, most, ORDINARY) if 1 / 3 <= done < 2 / 3 else (few, few, ORDINARY)


class SlowReaders(Shape):
    """Two thirds of the users at first, all ordinary; then all, slow readers among them."""

    abstract = SHAPE != "slow-readers"

    def stage(self, done: float, most: int) -> Tick:
        """A third of the time without slow readers, to compare with."""
        rate = max(1, most / 6)
        if done < 1 / 3:
            return max(2, most * 2 // 3), rate, ORDINARY
        return most, rate, [*ORDINARY, SlowReader]


if SHAPE not in {"", "steady", "spike", "slow-readers"}:
    sys.exit("LOCUST_SHAPE is steady, spike, slow-readers or empty")
