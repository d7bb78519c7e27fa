"""The parts that every front and every command share.

A front (SSH today) turns a request into a member of a topic; what it needs for that is here in
one place: the router, the judge of access, the accounts, the settings, the counters, and the
sessions that are alive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipe.access import Access
from pipe.metrics import Metrics, Snapshot
from pipe.router import Router

if TYPE_CHECKING:
    from pipe.errors import Outcome
    from pipe.members import Member
    from pipe.settings import Settings
    from pipe.store import Store


class LiveSession(Protocol):
    """What a stop needs to know of a session, whatever front it came through."""

    @property
    def member(self) -> Member | None:
        """Its place on a topic, if it has one."""

    @property
    def paused_seconds(self) -> float:
        """How long its publisher has been held back."""

    def announce(self, text: str) -> None:
        """Say something on its stderr."""

    def cut(self, outcome: Outcome) -> None:
        """End it now."""


@dataclass(slots=True)
class Service:
    """One server's shared parts."""

    settings: Settings
    store: Store
    access: Access = field(default_factory=Access)
    metrics: Metrics = field(default_factory=Metrics)
    router: Router = field(init=False)
    sessions: dict[LiveSession, None] = field(default_factory=dict)
    connections: int = 0
    lanes: Counter[str] = field(default_factory=lambda: Counter({"fast": 0, "asyncssh": 0}))
    paused_seconds: float = 0.0
    port: int = 0
    draining: bool = False

    def __post_init__(self) -> None:
        self.router = Router(closed=self.access.forget)

    @property
    def ssh_command(self) -> str:
        """How a client reaches this server: ``ssh -p 2222 example.org``."""
        host = self.settings.resolved_public_host
        return f"ssh {host}" if self.port == 22 else f"ssh -p {self.port} {host}"

    def snapshot(self) -> Snapshot:
        """All gauges and plain counters, as of now."""
        return Snapshot(
            router=self.router.statistics(),
            connections=self.connections,
            lanes=dict(self.lanes),
            paused_seconds=self.paused_seconds
            + sum(session.paused_seconds for session in self.sessions),
        )
