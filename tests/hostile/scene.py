"""What is watched while somebody misbehaves: the server's resources, and the innocent user.

A scene is a server with an innocent user on it.  `Scene.attack` looks at the server before, at
the peak and after, and fails where a bound is passed, where something is left behind, or where
the innocent user noticed more than a delay.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e import clients
from tests.e2e.payloads import MIB
from tests.e2e.processes import wait_until

from .ciphers import LANE
from .innocent import Innocent, Latency
from .peer import Peer, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.server import Metrics, Server

    from .ciphers import Suite

SAMPLE_SECONDS: Final = 0.02
"""Between two looks at how many descriptors are open; for memory the kernel keeps the peak."""

GROWTH: Final = 24 * MIB
"""What one misbehaving peer may cost at its peak: its buffers, and what the allocator rounds up."""

KEPT: Final = 16 * MIB
"""What the allocator may keep of that for the next one: not given back, but not lost."""

SESSION_ENDS: Final = "pipe_sessions_ended_total"


NO_TRIPS: Final = Latency(0, 0.0, 0.0, 0.0)


class Readings(NamedTuple):
    """What a server has in hand."""

    memory: int
    descriptors: int
    connections: int
    sessions: int
    topics: int
    tasks: int


def count_descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def look(server: Server) -> Readings:
    """Take the readings now."""
    metrics = server.metrics()
    return Readings(
        server.rss_bytes(),
        count_descriptors(server.pid),
        int(metrics.value("pipe_connections")),
        int(metrics.value("pipe_sessions")),
        int(metrics.value("pipe_topics")),
        int(metrics.value("pipe_tasks")),
    )


def reset_peak(pid: int) -> None:
    """Let the kernel's peak of a process's memory begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Gauge:
    """Remembers the most descriptors that a process had open."""

    def __init__(self, pid: int) -> None:
        self.most = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            while not self._stop.wait(SAMPLE_SECONDS):
                self.most = max(self.most, count_descriptors(self._pid))

    def __enter__(self) -> Gauge:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@dataclass
class Figures:
    """What an attack has come to."""

    before: Readings
    growth: int = 0
    descriptors: int = 0
    tasks: int = 0
    innocent: Latency = NO_TRIPS
    after: Readings | None = None

    def __str__(self) -> str:
        return (
            f"peak +{self.growth / MIB:.1f} MiB, +{self.descriptors} descriptors, "
            f"{self.tasks:+} tasks; "
            f"after +{((self.after or self.before).memory - self.before.memory) / MIB:.1f} MiB; "
            f"innocent p50 {self.innocent.p50:.1f}, p99 {self.innocent.p99:.1f}, "
            f"max {self.innocent.longest:.1f} ms of {self.innocent.trips}"
        )


@dataclass
class Scene:
    """A server, the innocent user on it, and those who mean harm."""

    server: Server
    innocent: Innocent
    figures: list[Figures] = field(default_factory=list)
    spoilt: bool = False
    """Whether the test has ended more than its own clients: then there is no good end."""
    _peers: list[Peer] = field(default_factory=list)

    def target(self, user: str = "mallory") -> Target:
        """The server, as this user reaches it."""
        return Target(clients.HOST, self.server.port, user, self.server.keys.openssh(user))

    def stranger(self, user: str = "mallory", *, suite: Suite = LANE, source: str = "") -> Peer:
        """A connection on which nothing has been said yet."""
        peer = Peer(self.target(user), suite=suite, source=source)
        self._peers.append(peer)
        return peer

    def peer(
        self, user: str = "mallory", *, suite: Suite = LANE, source: str = "", small: bool = False
    ) -> Peer:
        """Somebody who has logged in; ``small`` has the kernel hold little for them."""
        buffer = 4096 if small else 0
        peer = Peer(self.target(user), suite=suite, source=source, receive_buffer=buffer)
        self._peers.append(peer)
        peer.log_in()
        return peer

    def keep(self, peer: Peer) -> Peer:
        """Let this connection end with the scene."""
        self._peers.append(peer)
        return peer

    def drop_peers(self) -> None:
        """Close all connections that this scene has made."""
        while self._peers:
            self._peers.pop().drop()

    @contextlib.contextmanager
    def attack(
        self,
        *,
        growth: int = GROWTH,
        descriptors: int = 8,
        tasks: int = 8,
        kept: int = KEPT,
    ) -> Iterator[Figures]:
        """Watch the server while the block misbehaves.

        Args:
            growth: bytes by which its memory may grow at the most.
            descriptors: how many more it may have open at the most.
            tasks: how many more its event loop may have under way when the worst has been done.
            kept: bytes by which its memory may be larger afterwards.
        """
        server = self.server
        figures = Figures(look(server))
        before = figures.before
        reset_peak(server.pid)
        self.innocent.mark()
        try:
            with Gauge(server.pid) as gauge:
                yield figures
                figures.growth = server.peak_rss_bytes() - before.memory
                figures.tasks = look(server).tasks - before.tasks
                figures.innocent = self.innocent.mark()
            figures.descriptors = max(0, gauge.most - before.descriptors)
        finally:
            self.drop_peers()
            server.drop_clients()
        self.settle(before, kept)
        figures.after = look(server)
        self.figures.append(figures)
        self.innocent.go_on()
        assert figures.growth <= growth, figures
        assert figures.descriptors <= descriptors, figures
        assert figures.tasks <= tasks, figures

    def settle(self, before: Readings, kept: int) -> None:
        """Return once the server has no more in hand than before."""

        def is_settled() -> bool:
            now = look(self.server)
            rest = zip(now[1:], before[1:], strict=True)
            return all(n <= b for n, b in rest) and now.memory <= before.memory + kept

        try:
            wait_until(is_settled, f"back to {before}")
        except AssertionError as error:
            error.add_note(f"now {look(self.server)}")
            raise

    # -- counting who was cut off, and why --------------------------------------------------------

    def ended(self, outcome: str) -> float:
        """How many sessions have ended this way so far."""
        return self.server.metrics().value(SESSION_ENDS, outcome=outcome)

    def metrics(self) -> Metrics:
        """Scrape the server."""
        return self.server.metrics()
