"""Prometheus metrics for the operator, on a separate port.

The hot path counts in plain integers (`pipe.stream.topics.Member`), which are read at each scrape.
Rare events (a login, a session's end) go into prometheus_client's own counters and histograms.
Labels are small fixed sets; no user, topic, key or command ever becomes one.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipe import __version__
from pipe.errors import Ending, Outcome, StartError
from pipe.metrics.scrapes import ScrapeServer
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from pipe.stream.statistics import Statistics

COMMAND_MODE = "command"
"""The ``mode`` label of a session that only answers, besides those of `pipe.stream.ports.Mode`."""

LOGIN_RESULTS = ("accepted", "claimed", "refused", "failed", "probe")
"""accepted: a known key; claimed: a new user; refused: no key was accepted; failed: gone before
login; probe: gone after sending at most its SSH version, as health checks do."""

REFUSALS = (
    "sessions",
    "claims",
    "draining",
    "connections",
    "topics",
    "patterns",
    "keep",
    "unauthenticated",
    "unauthenticated-address",
    "penalty",
    "descriptors",
    "calls",
    "tunnels",
    "transfers",
    "origin",
    "hooks",
)
"""What the server refused, by the limit that did it."""

WEB_ROUTES = (
    *("topic", "pubsub", "pipe", "link", "api", "hook", "feed", "health", "registry", "page"),
)
WEB_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
"""What a request was for, and how it was answered."""

REGISTRY_EVENTS = ("published", "repeated", "unnamed", "crowded")
"""What became of an event: told; told already by a hook; its tag is too long to be in a topic's
name; too many events wait for readers of that topic."""
WEBHOOK_RESULTS = ("delivered", "gone", "refused", "timeout", "failed", "address")
"""What came of sending a webhook: answered with 2xx, with 410, with another status; not answered in
time, or not at all; or not sent, as its address is one that nothing may be sent to."""

WEBHOOK_LOSSES = ("full", "given-up", "broken", "paused", "denied")
"""Why something was not sent: no room, the last try failed, half a stream, paused, no right."""

LAG_INTERVAL_SECONDS = 0.25
"""How often to measure the event loop's lag."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All gauges and plain counters at one moment."""

    router: Statistics
    connections: int
    lanes: dict[str, int]
    unauthenticated: int
    tasks: int
    memory_alarm: bool
    paused_seconds: float
    log_lines: dict[str, int]
    webhooks_waiting: int
    kept_bytes: int
    monitors: dict[str, int]
    monitor_alerts: dict[str, int]


class Metrics:
    """The counters and histograms of rare events, and the registry of all metrics."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.sessions_ended = Counter(
            "pipe_sessions_ended",
            "Sessions that have ended, by what they did and why they ended.",
            ["mode", "outcome"],
            registry=self.registry,
        )
        self.session_duration = Histogram(
            "pipe_session_duration_seconds",
            "How long sessions lasted.",
            ["mode"],
            buckets=(0.1, 1, 10, 60, 600, 3600, 6 * 3600, 86400),
            registry=self.registry,
        )
        self.logins = Counter(
            "pipe_logins",
            "Connections by how their login ended.",
            ["result"],
            registry=self.registry,
        )
        self.refused = Counter(
            "pipe_refused",
            "Connections and requests turned away by a limit, by which.",
            ["reason"],
            registry=self.registry,
        )
        self.disconnects = Counter(
            "pipe_disconnects",
            "Connections that have ended, by why.",
            ["reason"],
            registry=self.registry,
        )
        self.handshake = Histogram(
            "pipe_handshake_seconds",
            "From the TCP connection to the end of the login.",
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "pipe_loop_lag_seconds",
            "How much later than planned the event loop ran a timer.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.web_requests = Counter(
            "pipe_web_requests",
            "HTTP requests that were answered, by what for and by the class of the status.",
            ["route", "class"],
            registry=self.registry,
        )
        self.web_tunnels = Gauge(
            "pipe_web_tunnels",
            "HTTP connections inside SSH connections that are open.",
            registry=self.registry,
        )
        self.registry_events = Counter(
            "pipe_registry_events",
            "Images pushed through the proxy of the registry, by what became of the event.",
            ["result"],
            registry=self.registry,
        )
        self.web_streams = Gauge(
            "pipe_web_streams", "Streams over HTTP that are open.", registry=self.registry
        )
        self.hook_deliveries = Counter(
            "pipe_hook_deliveries",
            "Deliveries to hooks, by whose webhooks they are and what came of them.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.webhook_attempts = Counter(
            "pipe_webhook_attempts",
            "Tries to send a webhook, by what came of them.",
            ["result"],
            registry=self.registry,
        )
        self.webhook_dropped = Counter(
            "pipe_webhook_dropped",
            "Records and streams that webhooks did not send, by why.",
            ["reason"],
            registry=self.registry,
        )
        for result in WEBHOOK_RESULTS:
            self.webhook_attempts.labels(result)
        for reason in WEBHOOK_LOSSES:
            self.webhook_dropped.labels(reason)
        for mode in (*(mode.value for mode in Mode), COMMAND_MODE):
            self.session_duration.labels(mode)
            for outcome in Outcome:
                if outcome is not Outcome.MOVED:  # where it goes on it is counted
                    self.sessions_ended.labels(mode, outcome.label)
        for result in LOGIN_RESULTS:
            self.logins.labels(result)
        for reason in REFUSALS:
            self.refused.labels(reason)
        for result in REGISTRY_EVENTS:
            self.registry_events.labels(result)
        for ending in Ending:
            self.disconnects.labels(ending.label)
        for route in WEB_ROUTES:
            for kind in WEB_CLASSES:
                self.web_requests.labels(route, kind)

    async def serve(self, host: str, port: int, take: Callable[[], Snapshot]) -> ScrapeServer:
        """Answer scrapes with snapshots from ``take``.

        Raises:
            StartError: the address cannot be used.
        """
        self.add(take)
        return await serve(self.registry, host, port)

    def add(self, take: Callable[[], Snapshot]) -> None:
        """Add the figures of snapshots to the registry."""
        self.registry.register(_SnapshotCollector(take))

    async def watch_lag(self) -> None:
        """Measure the event loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            planned = loop.time() + LAG_INTERVAL_SECONDS
            await asyncio.sleep(LAG_INTERVAL_SECONDS)
            self.loop_lag.observe(max(0.0, loop.time() - planned))


async def serve(
    registry: CollectorRegistry,
    host: str,
    port: int,
    gather: Callable[[Callable[[], None]], object] | None = None,
) -> ScrapeServer:
    """Answer scrapes with the figures of a registry.

    Args:
        registry: where they are.
        host: the address to listen on.
        port: where; 0 for any that is free.
        gather: brings them there, then calls what it is given; None: they are there.

    Raises:
        StartError: the address cannot be used.
    """
    server = ScrapeServer(registry, gather)
    try:
        await server.start(host, port)
    except OSError as error:
        if isinstance(error, socket.gaierror):  # its numbers are not those of errno
            reason = "there is no such host"
        else:
            reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(
            f"cannot serve metrics on {host}:{port}: {reason}; "
            "choose another --metrics-port, or 0 for none"
        ) from error
    return server


class _SnapshotCollector(Collector):
    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        """Take one snapshot, so that all figures are from the same moment."""
        return _families(self._take())


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    router = snapshot.router
    yield GaugeMetricFamily("pipe_connections", "Open SSH connections.", snapshot.connections)
    yield GaugeMetricFamily(
        "pipe_unauthenticated_connections",
        "Open connections that have not logged in.",
        snapshot.unauthenticated,
    )
    yield GaugeMetricFamily(
        "pipe_memory_alarm",
        "Whether memory is short, so that publishers are paused while readers catch up.",
        int(snapshot.memory_alarm),
    )
    yield GaugeMetricFamily(
        "pipe_tasks", "Tasks of the event loop that have not ended.", snapshot.tasks
    )
    yield _by(
        GaugeMetricFamily, "pipe_sessions", "Sessions on a topic.", "mode", _modes(router.sessions)
    )
    yield GaugeMetricFamily("pipe_topics", "Topics that somebody is on.", router.topics)
    yield GaugeMetricFamily(
        "pipe_waiting_publishers", "Publishers that wait for readers.", router.waiting_publishers
    )
    yield GaugeMetricFamily(
        "pipe_clogged_subscribers",
        "Readers that publishers wait for, because their buffers are full.",
        router.clogged_subscribers,
    )
    yield _by(
        CounterMetricFamily,
        "pipe_received_bytes",
        "Bytes taken from publishers.",
        "mode",
        _modes(router.received_bytes),
    )
    yield _by(
        CounterMetricFamily,
        "pipe_delivered_bytes",
        "Bytes written to the connections of subscribers.",
        "mode",
        _modes(router.delivered_bytes),
    )
    yield CounterMetricFamily(
        "pipe_received_chunks", "Chunks taken from publishers.", router.received_chunks
    )
    yield CounterMetricFamily(
        "pipe_delivered_chunks", "Chunks handed to subscribers.", router.delivered_chunks
    )
    yield CounterMetricFamily(
        "pipe_dropped_bytes",
        "Bytes left out for readers with --on-slow drop.",
        router.dropped_bytes,
    )
    yield CounterMetricFamily(
        "pipe_publisher_paused_seconds",
        "Time that publishers were held back by clogged readers.",
        snapshot.paused_seconds,
    )
    yield _by(
        CounterMetricFamily,
        "pipe_log_lines",
        "Log lines for users, by what became of them.",
        "result",
        snapshot.log_lines,
    )
    yield GaugeMetricFamily(
        "pipe_send_buffer_bytes",
        "Bytes taken for subscribers and not yet written to their connections.",
        router.send_buffer_bytes,
    )
    yield GaugeMetricFamily(
        "pipe_kept_bytes", "Bytes of their past that topics keep.", snapshot.kept_bytes
    )
    yield GaugeMetricFamily(
        "pipe_webhook_waiting",
        "Records and streams that wait to be sent by webhooks.",
        snapshot.webhooks_waiting,
    )
    yield _by(
        GaugeMetricFamily,
        "pipe_lane_connections",
        "Open connections that are logged in, by data path.",
        "lane",
        snapshot.lanes,
    )
    yield _by(
        GaugeMetricFamily, "pipe_monitors", "Monitors, by how they are.", "state", snapshot.monitors
    )
    yield _by(
        CounterMetricFamily,
        "pipe_monitor_alerts",
        "Alerts of monitors, by whether they were published.",
        "result",
        snapshot.monitor_alerts,
    )
    info = GaugeMetricFamily(
        "pipe_build_info", "Versions; always 1.", labels=["version", "python", "asyncssh"]
    )
    info.add_metric([__version__, platform.python_version(), version("asyncssh")], 1)
    yield info


def _modes(values: dict[Mode, int]) -> dict[str, int]:
    return {mode.value: value for mode, value in values.items()}


def _by(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    label: str,
    values: dict[str, int],
) -> CounterMetricFamily | GaugeMetricFamily:
    metric = family(name, text, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric
