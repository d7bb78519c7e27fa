"""The systems under test: how each starts, which words it takes, what it has cost so far.

All of them listen on the loopback address with an Ed25519 host key and let one key log in.
"""

from __future__ import annotations

import abc
import contextlib
import enum
import getpass
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from loadtest import procfs
from loadtest.workspace import (
    AES,
    HOST,
    BenchError,
    Endpoint,
    Processes,
    Workspace,
    last_line,
    make_key,
    ssh_command,
    wait_logged_in,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

START_LIMIT: Final = 30.0
"""Seconds from starting a server until it listens."""
_FIRST_LOGIN_LIMIT: Final = 30.0
_SCRAPE_LIMIT: Final = 10.0
_LOG_LINES: Final = 10
_SSHD_JAIL: Final = Path("/run/sshd")
"""Where sshd locks its children in before the login; it does not start as root without it."""
_SETTLE: Final = 0.1
"""Seconds that a server gets to tidy up after its last client, before its CPU time is read."""


class Ability(enum.Enum):
    """What a case may ask of a system."""

    TRANSFER = "one publisher, one subscriber"
    LOGIN = "a command that does nothing"
    FAN_OUT = "one publisher, many subscribers"
    WEB = "the same by HTTP"
    LOGS = "log lines to their users"
    MEMORY = "resident memory of one process stands for the service"
    WORKERS = "what several processes cost, or what they are compared with"
    JOINS = "the time that a session takes to join, its clients in one worker or two"
    HUB = "what only a hub and its workers can do"


class System(abc.ABC):
    """One server under test; use it in a ``with`` statement, which starts and stops it."""

    abilities = frozenset(Ability) - {Ability.WEB, Ability.LOGS, Ability.JOINS, Ability.HUB}
    no_op = "version"
    """A command that ends at once with status 0."""

    def __init__(self, space: Workspace) -> None:
        self.space = space
        self.directory = space.directory / space.new_name("server")
        self.port = 0
        self._log = self.directory / "log"
        self._processes: Processes = space.processes()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abc.abstractmethod
    def user(self) -> str:
        """The name that clients log in under."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Prepares `directory` and returns the command line of the server."""

    def publish(self, topic: str, subscribers: int) -> str:
        """Returns the command of a publisher that waits for so many subscribers."""
        return f"pub {topic}" if subscribers == 1 else f"pub -m {subscribers} {topic}"

    def subscribe(self, topic: str) -> str:
        """Returns the command of a subscriber."""
        return f"sub {topic}"

    def twin(self) -> System:
        """Returns another system of the same kind, not started."""
        return type(self)(self.space)

    def topic(self, stem: str) -> str:
        """Returns the name of a topic that nobody has used yet."""
        return self.space.new_name(stem)

    @property
    def endpoint(self) -> Endpoint:
        """Where clients find it."""
        return Endpoint(self.port, self.user, self.space.key)

    @property
    def writer_endpoint(self) -> Endpoint:
        """Where publishers find it."""
        return self.endpoint

    def reader_endpoint(self, number: int) -> Endpoint:  # noqa: ARG002 (one process has all)
        """Where the subscriber of a number, from 0, finds it."""
        return self.endpoint

    @property
    def pid(self) -> int:
        """The id of its first process.

        Raises:
            BenchError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise BenchError(f"the server has ended: {last_line(self._log) or 'no message'}")
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Returns the CPU time that it has used since its start."""
        return procfs.tree_cpu_seconds(self.pid)

    def command_seconds(self) -> float:
        """Returns the CPU time of the commands that it has run, which `cpu_seconds` leaves out."""
        return 0.0

    def settle(self) -> None:
        """Waits until what the last clients have caused is done and accounted for."""
        time.sleep(_SETTLE)

    def __enter__(self) -> Self:
        self.directory.mkdir()
        self.port = _free_port()
        with self._log.open("wb") as log:
            self._process = self._processes.spawn(self.command(), stdout=log, stderr=log)
        try:
            wait_until(self._listens, START_LIMIT, "the start of the server")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the server and what it has started."""
        self._processes.end()

    def last_words(self) -> str:
        """Returns the end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def log_in_once(self) -> None:
        """Logs in for the first time, which may claim the name, and sees that it works.

        Raises:
            BenchError: it does not.
        """
        run_ssh(self.endpoint, self.no_op, _FIRST_LOGIN_LIMIT)

    def _listens(self) -> bool:
        return self.pid > 0 and procfs.is_listening(self.port)


class Ours(System):
    """The product itself."""

    abilities = frozenset(Ability) - {Ability.HUB}
    lane = "fast"
    program = "pipe"
    user = "bench"
    web_port = 0

    def __init__(self, space: Workspace) -> None:
        super().__init__(space)
        self._metrics_port = _free_port()

    def command(self) -> list[str]:
        """Returns the command line of the server."""
        options = {
            "host": HOST,
            "port": self.port,
            "data-dir": self.directory / "data",
            "metrics-port": self._metrics_port,
            "web-port": self.web_port,
            "signup": "open",
            "lane": self.lane,
            "log-format": "json",
            **self.more_options(),
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [sys.executable, "-m", self.program, "serve", *arguments]

    def more_options(self) -> dict[str, str]:
        """Returns the settings that only this kind has."""
        return {}

    def log_in_once(self) -> None:
        """Sees as well that connections run on the lane asked for, not on one it fell back to.

        Raises:
            BenchError: they do not, and its figures would stand under the wrong name.
        """
        super().log_in_once()
        subscribe = self.subscribe(self.space.new_name("lane"))
        with self.space.processes() as group:
            wait_logged_in([group.ssh(self.endpoint, subscribe, cipher=AES)])
            lanes = self._lanes()
        if lanes != {self.lane}:
            raise BenchError(f"connections run on lane {', '.join(sorted(lanes)) or 'unknown'}")

    def _lanes(self) -> set[str]:
        """Returns the lanes that have connections, by the server's own metrics."""
        text = self._scrape()
        found = re.findall(r'^pipe_lane_connections\{lane="(\w+)"\} (\S+)$', text, re.MULTILINE)
        return {lane for lane, count in found if float(count)}

    def _scrape(self) -> str:
        connection = http.client.HTTPConnection(HOST, self._metrics_port, timeout=_SCRAPE_LIMIT)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()


class OursOnAsyncssh(Ours):
    """The product with the data path that asyncssh has."""

    abilities = frozenset({Ability.TRANSFER, Ability.LOGIN, Ability.FAN_OUT, Ability.MEMORY})
    lane = "asyncssh"


class OverHTTP(Ours):
    """The product with its HTTP front."""

    def __init__(self, space: Workspace) -> None:
        super().__init__(space)
        self.web_port = _free_port()
        self._token = ""

    def token(self) -> str:
        """Returns a token for all of the user's own topics.

        Raises:
            BenchError: the server gives none.
        """
        if not self._token:
            words = "tokens add --read '**' --write '**'"
            command = ssh_command(self.endpoint, words, cipher=None)
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
            self._token = done.stdout.decode().strip()
        if not self._token:
            raise BenchError("no token")
        return self._token

    def readers(self) -> int:
        """Returns how many readers there are."""
        text = self._scrape()
        [found] = re.findall(r'^pipe_sessions\{mode="subscribe"\} (\S+)$', text, re.MULTILINE)
        return round(float(found))


class ByHop(Ours):
    """The product with two workers, and clients that stay where they are accepted.

    A program of the tests gives a client from 127.0.1.N to worker N, and makes worker N the home of
    topics ``atN…``.  Here publishers are in worker 2 and topics in worker 1, with the first reader
    and every second one; the others are in worker 2.
    """

    abilities = frozenset({Ability.WORKERS, Ability.JOINS, Ability.HUB})
    program = "tests.e2e.hopping"
    moves = False
    _reads, _writes = "127.0.1.1", "127.0.1.2"

    def more_options(self) -> dict[str, str]:
        """Returns how many workers there are."""
        return {"workers": "2"}

    def topic(self, stem: str) -> str:
        """Returns the name of a topic at home in worker 1 that nobody has used yet."""
        return self.space.new_name(f"at1{stem}")

    @property
    def writer_endpoint(self) -> Endpoint:
        """Worker 2."""
        return replace(self.endpoint, source=self._writes)

    def reader_endpoint(self, number: int) -> Endpoint:
        """Worker 1 for even numbers, worker 2 for odd ones."""
        return replace(self.endpoint, source=(self._reads, self._writes)[number % 2])

    def worker(self, number: int) -> int:
        """Returns the process id of a worker.

        Raises:
            BenchError: it does not run.
        """
        for child in procfs.children(self.pid):
            if procfs.words(child)[-2:] == ["worker", str(number)]:
                return child
        raise BenchError(f"there is no worker {number}")

    def log_in_once(self) -> None:
        """Sees as well that clients move to other workers, or that they do not.

        Raises:
            BenchError: it is otherwise.
        """
        super().log_in_once()
        run_ssh(self.writer_endpoint, f"pub --block=false {self.topic('move')}", _FIRST_LOGIN_LIMIT)
        wait_until(
            lambda: "session ended" in self._log.read_text(), START_LIMIT, "a line in the log"
        )
        if ("connection taken over" in self._log.read_text()) is not self.moves:
            raise BenchError("clients " + ("do not move" if self.moves else "move"))


class Moved(ByHop):
    """The same where clients move to the workers in which their topics are at home."""

    abilities = frozenset({Ability.WORKERS, Ability.JOINS})
    program = "tests.e2e.moving"
    moves = True


class Relay(System):
    """The plain asyncssh relay of `loadtest.relay`."""

    user = "bench"

    def command(self) -> list[str]:
        """Returns the command line of the server."""
        host_key = self.directory / "host_key"
        make_key(host_key)
        arguments = [HOST, str(self.port), str(host_key), f"{self.space.key}.pub"]
        return [sys.executable, "-m", "loadtest.relay", *arguments]


class Sshd(System):
    """OpenSSH's own server, with a fifo between two ``cat``s.

    The shells and ``cat``s write down what they used themselves (``times`` of the shell, to a
    millisecond or a tick), and that is taken off: the figure is that of ``sshd`` alone.
    """

    abilities = frozenset({Ability.TRANSFER, Ability.LOGIN})
    no_op = "true"
    user = getpass.getuser()
    _made_jail = False

    def command(self) -> list[str]:
        """Returns the command line of the server."""
        program = _find_sshd()
        if os.geteuid() == 0 and not _SSHD_JAIL.exists():
            _SSHD_JAIL.mkdir(mode=0o755)
            self._made_jail = True
        host_key = self.directory / "host_key"
        make_key(host_key)
        configuration = {
            "ListenAddress": f"{HOST}:{self.port}",
            "HostKey": host_key,
            "AuthorizedKeysFile": f"{self.space.key}.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxStartups": "1000",
            "PrintMotd": "no",
            "PrintLastLog": "no",
        }
        file = self.directory / "sshd_config"
        file.write_text("".join(f"{name} {value}\n" for name, value in configuration.items()))
        return [program, "-D", "-e", "-f", str(file)]

    def publish(self, topic: str, subscribers: int) -> str:  # noqa: ARG002 (a fifo has one)
        """Returns the command of the writing cat."""
        return f"cat > {self._fifo(topic)}; times >> {self._times}"

    def subscribe(self, topic: str) -> str:
        """Returns the command of the reading cat."""
        return f"cat {self._fifo(topic)}; times >> {self._times}"

    def cpu_seconds(self) -> float:
        """Returns what sshd has used since its start, without the commands it ran."""
        return super().cpu_seconds() - self.command_seconds()

    def settle(self) -> None:
        """Waits until every session has ended and its time counts as sshd's."""
        wait_until(lambda: not procfs.children(self.pid), START_LIMIT, "the end of sshd's sessions")
        super().settle()

    def stop(self) -> None:
        """Ends the server and the commands that wait for the other end of a fifo."""
        # Such a cat outlives its session: to open both ends for a moment sets it free.
        for fifo in self.directory.glob("fifo-*"):
            os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
        super().stop()
        if self._made_jail:
            _SSHD_JAIL.rmdir()
            self._made_jail = False

    @property
    def _times(self) -> Path:
        return self.directory / "times"

    def _fifo(self, topic: str) -> Path:
        path = self.directory / f"fifo-{topic}"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return path

    def command_seconds(self) -> float:
        """Returns what the shells and cats have used: those that run and those that have ended."""
        running = _command_seconds_below(self.pid)
        try:
            text = self._times.read_text()
        except FileNotFoundError:
            return running
        # Pairs of user and system time, as POSIX has `times` print them: 0m0.004s 0m0.120s
        ended = re.findall(r"(\d+)m([\d.]+)s", text)
        return running + sum(60 * int(minutes) + float(seconds) for minutes, seconds in ended)


SYSTEMS: Final[Mapping[str, tuple[str, type[System]]]] = {
    "fast": ("ours, lane fast", Ours),
    "asyncssh": ("ours, lane asyncssh", OursOnAsyncssh),
    "relay": ("plain asyncssh", Relay),
    "sshd": ("sshd + fifo", Sshd),
    "hop": ("2 workers, by a hop", ByHop),
    "moved": ("2 workers, moved", Moved),
}
"""Name -> title and how to make it, in the order in which they take turns."""


def run_ssh(endpoint: Endpoint, remote: str, limit: float) -> None:
    """Runs one command over an OpenSSH client of its own.

    Raises:
        BenchError: it did not end with status 0 in `limit` seconds.
    """
    command = ssh_command(endpoint, remote, cipher=None)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"a login took more than {limit:.0f} s") from None
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").split("\n")
        raise BenchError(f"`{remote}` ended with status {done.returncode}: {' '.join(words)[:200]}")


def _command_seconds_below(pid: int) -> float:
    """Returns the CPU time of the living descendants that are not sshd's own processes."""
    return sum(
        _command_seconds_below(child)
        if procfs.name(child).startswith("sshd")
        else procfs.tree_cpu_seconds(child)
        for child in procfs.children(pid)
    )


def _find_sshd() -> str:
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BenchError("no sshd on this machine")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
