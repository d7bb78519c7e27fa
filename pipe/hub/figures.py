"""The metrics of all workers, as one server's.

Counters, gauges and histograms are added up.  What is about a process has the label ``worker``, and
the hub is a process too.  A counter never falls: what a worker had counted before it ended, or has
not told in time, is counted as it was told last.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipe.hub.channel import Lost
from pipe.metrics import Metrics, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pipe.hub.crew import Crew, Worker
    from pipe.limits.gate import Gate
    from pipe.metrics.scrapes import ScrapeServer

ANSWER_SECONDS = 0.5
"""How long a worker may take to tell its figures; who is later has those that it told before."""

HUB = "hub"
"""The label of the hub itself."""

_LABEL = "worker"
_OF_PROCESS = ("pipe_loop_lag", "process_")
"""What begins so is about one process."""

_SAME = frozenset({"pipe_build_info", "python_info", "pipe_memory_alarm", "pipe_link_rtt_seconds"})
"""These say the same in all, or the most that one says holds."""

_LASTING = frozenset({"counter", "histogram"})

Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """One metric: its samples have a name, labels and a value each."""

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


def families_of(registry: CollectorRegistry) -> list[Family]:
    """All that a registry has now, as it travels to the hub."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


def lasting(families: Iterable[Family]) -> list[Family]:
    """What stays counted once a process is gone."""
    return [one for one in families if one.kind in _LASTING and not _is_of_process(one.name)]


def add_up(sources: Iterable[tuple[str, Iterable[Family]]]) -> list[Metric]:
    """Make one set of metrics of the families of several processes, each with its label."""
    metrics: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, Labels], float]] = {}
    for label, families in sources:
        for family in families:
            name = family.name
            metrics.setdefault(name, Metric(name, family.text, family.kind))
            values = sums.setdefault(name, {})
            for sample, labels, value in family.samples:
                more = {_LABEL: label} if _is_of_process(name) else {}
                key = sample, tuple({**labels, **more}.items())
                if name in _SAME:
                    values[key] = max(values.get(key, value), value)
                else:
                    values[key] = values.get(key, 0.0) + value
    for name, values in sums.items():
        for (sample, pairs), value in values.items():
            metrics[name].add_sample(sample, dict(pairs), value)
    return list(metrics.values())


def _is_of_process(name: str) -> bool:
    return name.startswith(_OF_PROCESS)


class Figures(Collector):
    """Collects them.

    Args:
        crew: the workers.
    """

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._own = Metrics()  # the hub's
        self._gate: Gate | None = None
        self._told: dict[Worker, list[Family]] = {}
        self._late: set[Worker] = set()  # who has not answered
        self._past: list[Family] = []  # of workers that are gone
        self._tasks: set[asyncio.Task[None]] = set()
        self._lag = asyncio.get_running_loop().create_task(self._own.watch_lag())

    async def serve(self, host: str, port: int, gate: Gate) -> ScrapeServer:
        """Answer scrapes.

        Raises:
            StartError: the address cannot be used.
        """
        self._gate = gate
        registry = CollectorRegistry()
        registry.register(self)
        return await serve(registry, host, port, self._gather)

    def add(self, collector: Collector) -> None:
        """Add figures that the hub has of itself."""
        self._own.registry.register(collector)

    def refused(self, reason: str) -> None:
        """Count a connection that the gate refused."""
        self._own.refused.labels(reason).inc()

    def take(self, worker: Worker, families: list[list[object]]) -> None:
        """A worker has told its figures."""
        if worker.ended.is_set():
            return  # what it has counted is kept already
        self._told[worker] = [Family(*family) for family in families]  # type: ignore[arg-type]

    def went(self, worker: Worker) -> None:
        """A worker is gone: keep what it has counted."""
        self._late.discard(worker)
        gone = self._told.pop(worker, [])
        kept = add_up((("", self._past), ("", lasting(gone))))
        self._past = [_family_of(metric) for metric in kept]

    def close(self) -> None:
        """Measure no more."""
        self._lag.cancel()

    def _gather(self, done: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._ask_all(done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_all(self, done: Callable[[], None]) -> None:
        workers = [one for one in self._crew.workers.values() if one.is_ready]
        await asyncio.gather(*map(self._ask, workers))
        done()

    async def _ask(self, worker: Worker) -> None:
        self._late.add(worker)
        with contextlib.suppress(Lost, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                self.take(worker, await worker.channel.ask({"type": "figures"}))
            self._late.discard(worker)

    def collect(self) -> Iterator[Metric]:
        """All figures, as they were told last."""
        sources = [(HUB, families_of(self._own.registry)), ("", self._past)]
        if self._gate:
            name = "pipe_unauthenticated_connections"
            waiting: Family = Family(name, "", "gauge", [(name, {}, self._gate.waiting)])
            # Last, as the workers' own has the text.
            sources.append((HUB, [waiting]))
        up = GaugeMetricFamily("pipe_up", "Whether a worker has answered.", labels=[_LABEL])
        for worker, families in self._told.items():
            late = worker in self._late
            sources.append((worker.key, lasting(families) if late else families))
        for worker in self._crew.workers.values():
            answered = worker in self._told and worker not in self._late
            up.add_metric([worker.key], float(answered))
        for number in self._crew.pausing:
            up.add_metric([str(number)], 0.0)
        yield from add_up(sources)
        yield up


def _family_of(metric: Metric) -> Family:
    samples = [(sample.name, sample.labels, sample.value) for sample in metric.samples]
    return Family(metric.name, metric.documentation, metric.type, samples)
