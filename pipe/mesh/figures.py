"""What the links of one worker have carried, and how they are: for metrics, and for people."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipe.mesh.edge import EdgeEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.home import HomeEnd

WORKER, NODE = "worker", "node"
"""Where a link leads: to another worker of this machine, or to another machine."""

MOVE_RESULTS = ("moved", "stayed", "returned", "failed")
"""What came of moving a client to its topic's worker on this machine: it is served there; it cannot
be moved as it is, and was relayed; that worker was gone or full; its connection was lost."""


class LinkFigure(NamedTuple):
    """One link, now.

    Attributes:
        peer: the other worker.
        opened: whether this side has opened it.
        seconds: how long it is there.
        rtt: seconds there and back, between machines.
        sent: bytes.
        received: bytes.
        unsent: bytes that wait.
        sessions: that it carries.
    """

    peer: str
    opened: bool
    seconds: float
    rtt: float | None
    sent: int
    received: int
    unsent: int
    sessions: int


class LinkFigures(Collector):
    """Those of one worker.

    Args:
        me: the worker.
        refused: returns how many links from elsewhere it did not want.

    Attributes:
        moves: clients that were to move, by what came of it.
    """

    def __init__(self, me: WorkerId, refused: Callable[[], int] = lambda: 0) -> None:
        self._me = me
        self.refused = refused
        self.moves = Counter(dict.fromkeys(MOVE_RESULTS, 0))
        self._since: dict[EdgeEnd | HomeEnd, float] = {}
        self._peers: dict[EdgeEnd, WorkerId] = {}
        self._hops = Counter({WORKER: 0, NODE: 0})
        self._broke = Counter({WORKER: 0, NODE: 0})
        self._past: Counter[tuple[str, str]] = Counter()  # bytes of links that have ended

    # -- what happens -----------------------------------------------------------------------------

    def began(self, end: EdgeEnd | HomeEnd, peer: WorkerId | None = None) -> None:
        """A link is there; of one that another worker has opened it will say who it is."""
        self._since[end] = time.monotonic()
        if isinstance(end, EdgeEnd) and peer:
            self._peers[end] = peer

    def ended(self, end: EdgeEnd | HomeEnd) -> None:
        """A link is gone; one that never was does not count."""
        if end not in self._since:
            return
        to = self._where(self._peer(end))
        self._past[to, "sent"] += end.link.sent_bytes
        self._past[to, "received"] += end.link.received_bytes
        del self._since[end]
        if isinstance(end, EdgeEnd):
            self._broke[to] += end.broke
            del self._peers[end]

    def hopped(self, worker: WorkerId) -> None:
        """A client here has a session that runs in another worker."""
        self._hops[self._where(worker)] += 1

    # -- what is seen -----------------------------------------------------------------------------

    def list_links(self) -> list[LinkFigure]:
        """All links that there are."""
        now = time.monotonic()
        return [
            LinkFigure(
                str(self._peer(end)),
                isinstance(end, EdgeEnd),
                now - since,
                end.link.rtt,
                end.link.sent_bytes,
                end.link.received_bytes,
                end.link.unsent,
                end.sessions if isinstance(end, EdgeEnd) else len(end.fronts),
            )
            for end, since in self._since.items()
            if end.link.open
        ]

    def collect(self) -> Iterator[Metric]:
        """The figures for Prometheus."""
        links: Counter[str] = Counter({WORKER: 0, NODE: 0})
        unsent: Counter[str] = Counter({WORKER: 0, NODE: 0})
        carried = Counter({(to, way): 0 for to in links for way in ("sent", "received")})
        carried.update(self._past)
        rtts = []
        for end in self._since:
            to, link = self._where(self._peer(end)), end.link
            carried[to, "sent"] += link.sent_bytes
            carried[to, "received"] += link.received_bytes
            unsent[to] += link.unsent
            links[to] += link.open
            rtts.append(link.rtt or 0.0)
        yield _gauge("pipe_links", "Links with other workers; both ends count one.", links)
        size = CounterMetricFamily(
            "pipe_link_bytes", "Bytes over links, as this end sees them.", labels=["to", "way"]
        )
        for key, count in carried.items():
            size.add_metric(key, count)
        yield size
        yield _gauge("pipe_link_unsent_bytes", "Bytes that wait for links.", unsent)
        yield GaugeMetricFamily(
            "pipe_link_rtt_seconds",
            "The longest way there and back of a link with another machine; 0 without one.",
            max(rtts, default=0.0),
        )
        yield _counter(
            "pipe_hops", "Sessions of clients here that ran in another worker.", self._hops
        )
        yield _counter(
            "pipe_links_broken", "Links that have ended with sessions of clients here.", self._broke
        )
        yield CounterMetricFamily(
            "pipe_links_refused",
            "Links from other machines that were not of this service.",
            self.refused(),
        )
        moves = CounterMetricFamily(
            "pipe_moves",
            "Clients that were to move to their topic's worker, by what came of it.",
            labels=["result"],
        )
        for result, count in self.moves.items():
            moves.add_metric([result], count)
        yield moves

    def _peer(self, end: EdgeEnd | HomeEnd) -> WorkerId | None:
        if isinstance(end, EdgeEnd):
            return self._peers.get(end)
        return end.hello.worker if end.hello else None

    def _where(self, worker: WorkerId | None) -> str:
        return NODE if worker and worker.node != self._me.node else WORKER


def _gauge(name: str, text: str, values: Counter[str]) -> GaugeMetricFamily:
    metric = GaugeMetricFamily(name, text, labels=["to"])
    for to, value in values.items():
        metric.add_metric([to], value)
    return metric


def _counter(name: str, text: str, values: Counter[str]) -> CounterMetricFamily:
    metric = CounterMetricFamily(name, text, labels=["to"])
    for to, value in values.items():
        metric.add_metric([to], value)
    return metric
