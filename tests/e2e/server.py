"""The server as a process: started as an operator would, watched by its metrics and its log."""

from __future__ import annotations

import contextlib
import enum
import functools
import http.client
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

from . import clients
from .processes import DEADLINE, Input, Pace, Process, statuses, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.samples import Sample

    from .clients import KeyRing

ROOT: Final = Path(__file__).parents[2]

LANES: Final = tuple(os.environ.get("PIPE_TEST_LANES", "fast,asyncssh").split(","))
"""The data paths on which the whole suite runs, one after the other."""

WORKERS: Final = int(os.environ.get("PIPE_TEST_WORKERS", "1"))
"""How many workers each server has whose test does not say it."""

PIPE: Final = "pipe"
"""Executed, as an operator does it; the others are forked off what has imported them."""
PATIENT: Final = os.environ.get("PIPE_TEST_PROGRAM", "tests.e2e.patient")
MOVING: Final = "tests.e2e.moving"
HOPPING: Final = "tests.e2e.hopping"
"""The programs of which a server is one."""

SIGNS_OF_A_BUG: Final = ("Traceback (most recent call last)", "was never", "never retrieved")


class Status(enum.IntEnum):
    """The exit statuses that the product promises."""

    OK = 0
    USAGE = 64
    SHUTDOWN = 69
    BROKEN = 74
    TIMEOUT = 75
    DENIED = 77
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    NO_CONNECTION = 255
    """Not the product's: what `ssh` says when it was not let in, or lost its connection."""


class Metrics:
    """One scrape, in Prometheus' text format."""

    def __init__(self, text: str) -> None:
        self.text = text

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """Of all samples, and of metrics that have none yet."""
        return frozenset(re.findall(r"^(?:# TYPE )?(\w+)", self.text, re.MULTILINE))

    @functools.cached_property
    def samples(self) -> tuple[Sample, ...]:
        """All of them; a client's own parser takes 10 ms for them."""
        families = text_string_to_metric_families(self.text)
        return tuple(sample for family in families for sample in family.samples)

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples `name` with these labels; 0 where there is none yet."""
        assert name in self.names, f"no metric {name}"
        lines = re.findall(rf"^{name}(\{{.*\}})? (\S+)", self.text, re.MULTILINE)
        wanted = [re.compile(f'[{{,]{label}="{text}"') for label, text in labels.items()]
        return sum(float(value) for found, value in lines if all(w.search(found) for w in wanted))


def free_port() -> int:
    """A port that nobody gets but who binds it by its number.

    A connection that its server's side closed first stays in TIME_WAIT there.  The kernel deals a
    port in that state to nobody, while a listener with SO_REUSEADDR, as servers set it, may bind.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((clients.HOST, 0))
        listener.listen(1)
        address: tuple[str, int] = listener.getsockname()
        with socket.create_connection(address) as caller:
            accepted, _ = listener.accept()
            accepted.close()
            caller.recv(1)
    return address[1]


def serve_command(program: str = PIPE, /, **settings: str | int | Path) -> list[str]:
    """`pipe serve` with these settings, underscores being dashes."""
    words = [sys.executable, "-m", program, "serve"]
    for name, value in settings.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words


class Server:
    """A server with a data directory of its own, and the clients that were started against it.

    `within` are the words of a program that runs the server in its own place, such as `unshare`.
    """

    def __init__(
        self,
        data_dir: Path,
        keys: KeyRing,
        lane: str,
        program: str = PATIENT,
        *,
        within: Sequence[str] = (),
        **settings: str | int,
    ) -> None:
        self.program = program
        self.data_dir = data_dir
        self.keys = keys
        self.lane = lane
        self._within = within
        self.port = free_port()
        self.metrics_port = free_port()
        self.web_port = free_port()
        self._settings: dict[str, str | int | Path] = {
            "host": clients.HOST,
            "port": self.port,
            "data_dir": data_dir,
            "metrics_port": self.metrics_port,
            "web_port": self.web_port,
            "signup": "open",
            "log_format": "json",
            "lane": lane,
            "drain": "10s",
            **({"workers": WORKERS} if WORKERS > 1 else {}),
            **settings,
        }
        self._clients: list[Process] = []
        self._introduced: set[str] = set()
        self.restart()

    def restart(self) -> None:
        """Start it, for the first time or again, on its ports and its data."""
        self.process = Process(
            [*self._within, *serve_command(self.program, **self._settings)],
            environment=clients.bare_environment(),
            directory=ROOT,
            forked=self.program != PIPE and not self._within,
        )
        try:  # the line that tells both addresses comes once it accepts
            ready = rf"(?m)^(?=.*\b{self.port}\b)(?=.*\b{self.metrics_port}\b).*\n"
            self.process.wait_stderr(ready)
        except BaseException:
            self.process.kill()
            raise

    # What it is and does

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """Of all processes that it is: with several workers there is one for each, and the hub."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.running

    @property
    def log(self) -> str:
        """All that it has logged since its last start."""
        return self.process.text

    def lines(self, event: str, **fields: str) -> list[dict[str, Any]]:
        """The lines of its log, where they are JSON, about an event with these fields."""
        found = []
        for line in self.log.splitlines():
            with contextlib.suppress(ValueError):
                values = json.loads(line)
                if values.items() >= {"event": event, **fields}.items():
                    found.append(values)
        return found

    def wait_lines(self, event: str, count: int = 1, **fields: str) -> list[dict[str, Any]]:
        """Return such lines once there are so many: they come after what they tell of."""
        wait_until(lambda: len(self.lines(event, **fields)) >= count, f"{count} x {event!r}")
        return self.lines(event, **fields)

    def rss_bytes(self) -> int:
        """Its resident memory now."""
        return self._memory("VmRSS")

    def peak_rss_bytes(self) -> int:
        """The most resident memory it has had since its start, by the kernel's own account."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        total = 0
        for pid in self.pids:
            status = Path(f"/proc/{pid}/status").read_text()
            found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
            assert found
            total += int(found[1]) * 1024
        return total

    def metrics(self) -> Metrics:
        """Scrape it now, or as soon as its event loop has the time to answer."""
        metrics = wait_until(self._scrape, "figures")
        assert metrics
        return metrics

    def _scrape(self) -> Metrics | None:
        connection = http.client.HTTPConnection(clients.HOST, self.metrics_port, timeout=DEADLINE)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
        except http.client.RemoteDisconnected:
            return None  # the loop was too busy to answer in time
        else:
            assert answer.status == http.client.OK
            return Metrics(answer.read().decode())
        finally:
            connection.close()

    def wait_metric(
        self, name: str, wanted: float, timeout: float = DEADLINE, **labels: str
    ) -> None:
        """Return once the metric has exactly the value `wanted`."""
        self._wait_figures([(name, labels, wanted)], timeout)

    def _wait_figures(
        self, wanted: Sequence[tuple[str, dict[str, str], float]], timeout: float = DEADLINE
    ) -> None:
        """Return once one scrape has all these values."""

        def is_so() -> bool:
            found = self.metrics()
            # A hub leaves out what no worker has answered in time.
            late = "pipe_up" in found.names and any(name not in found.names for name, *_ in wanted)
            return not late and all(
                found.value(name, **labels) == value for name, labels, value in wanted
            )

        what = ", ".join(f"{name}{labels or ''} == {value:g}" for name, labels, value in wanted)
        try:
            wait_until(is_so, what, timeout)
        except AssertionError as error:
            error.add_note("\n".join(str(client) for client in self._clients))
            raise

    def wait_sessions(self, **counts: int) -> None:
        """Return once there are so many sessions of each mode: `wait_sessions(subscribe=3)`."""
        self._wait_figures(_sessions(counts))

    def wait_waiting(self, count: int = 1) -> None:
        """Return once so many publishers wait for a subscriber."""
        self.wait_metric("pipe_waiting_publishers", count)

    # Its clients

    def adopt(self, client: Process) -> Process:
        """Let this client end with the test, whatever becomes of it."""
        self._clients.append(client)
        return client

    def ssh(
        self,
        user: str,
        command: str,
        *,
        stdin: Input = None,
        options: Sequence[str] = (),
        key_of: str = "",
        kind: Sequence[str] = ("ed25519",),
        keep: bool = True,
        pace: Pace | None = None,
        reading: bool = True,
        new_session: bool = False,
    ) -> Process:
        """Start the real `ssh` as `user`, with that person's key or another's.

        `options` and `kind` are as in `clients`, the rest as for `Process`.
        """
        key = self.keys.openssh(key_of or user, kind)
        return self.adopt(
            Process(
                clients.openssh(self.port, key, user, command, options),
                stdin=stdin,
                keep=keep,
                pace=pace,
                reading=reading,
                environment=clients.bare_environment(),
                new_session=new_session,
            )
        )

    def run(self, user: str, command: str, stdin: Input = None) -> Process:
        """Run the real `ssh` to its end."""
        client = self.ssh(user, command, stdin=stdin)
        client.wait()
        return client

    def subscribe(self, user: str, command: str, count: int = 1) -> list[Process]:
        """Start `count` subscribers and return once the server has them."""
        before = self.metrics().value("pipe_sessions", mode="subscribe")
        started = [self.ssh(user, command) for _ in range(count)]
        self.wait_sessions(subscribe=int(before) + count)
        return started

    def introduce(self, *users: str) -> None:
        """Let each of them log in, unless they have, so that the server knows who they are."""
        new = sorted(set(users) - self._introduced)
        assert statuses(*(self.ssh(user, "whoami") for user in new)) == [Status.OK] * len(new)
        self._introduced.update(new)

    def drop_clients(self) -> None:
        """End every client that is still there."""
        while self._clients:
            self._clients.pop().kill()

    # Its end

    def wait_empty(self) -> None:
        """Return once nobody is there and nothing is left of what was."""
        names = ("pipe_topics", "pipe_waiting_publishers", "pipe_clogged_subscribers")
        nobody = _sessions({"publish": 0, "subscribe": 0, "pipe": 0})
        self._wait_figures([*nobody, *((name, {}, 0) for name in names)])

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to end, as an operator does, and return its exit status."""
        self.drop_clients()
        if self.running:
            self.terminate()
        try:
            return self.process.wait()
        finally:
            self.process.kill()

    def check_log(self) -> None:
        """Fail if the server has complained about itself."""
        for sign in SIGNS_OF_A_BUG:
            assert sign not in self.log, self.log


def _sessions(counts: Mapping[str, int]) -> list[tuple[str, dict[str, str], float]]:
    """The figures where there are so many sessions of each mode."""
    return [("pipe_sessions", {"mode": mode}, count) for mode, count in counts.items()]


def missing(names: Iterable[str], metrics: Metrics) -> set[str]:
    """Those of `names` that the scrape does not have."""
    return set(names) - metrics.names
