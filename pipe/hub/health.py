"""How a node of a mesh is: for an operator who asks on its machine, and for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipe import __version__
from pipe.hub.channel import Lost
from pipe.language.names import escape
from pipe.mesh.status import (
    SOCKET_NAME,
    CertificateStatus,
    DirectoryStatus,
    LinkStatus,
    NodeStatus,
    Status,
    WorkerStatus,
    connecting,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from pipe.hub.contact import Contact
    from pipe.hub.crew import Crew, Worker
    from pipe.hub.exchange import Exchange, Neighbour
    from pipe.mesh.status import WorkerState

log = structlog.get_logger()

ANSWER_SECONDS = 0.5
"""How long a worker may take to tell of its links; who is later is silent."""


class Health(Collector):
    """One node's.

    Args:
        node: its name.
        crew: its workers.
        exchange: knows the other nodes.
        contact: with the database.
        ends: when its certificates end, in seconds since 1970, by ``node`` and ``ca``.
    """

    def __init__(
        self,
        node: str,
        crew: Crew,
        exchange: Exchange,
        contact: Contact,
        ends: dict[Any, float],
    ) -> None:
        self._node = node
        self._crew = crew
        self._exchange = exchange
        self._contact = contact
        self._ends = ends
        self._server: asyncio.Server | None = None

    # -- for an operator --------------------------------------------------------------------------

    async def listen(self, folder: Path) -> None:
        """Answer whoever connects to the socket in the data folder: this user, and root.

        A server that was killed has left its own there.
        """
        self._path = folder / SOCKET_NAME
        try:
            listener = _bind(self._path)
        except OSError as error:
            log.warning(
                "no status of the mesh",
                path=escape(str(self._path)),
                reason=error.strerror or str(error),
            )
            return
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    def close(self) -> None:
        """Answer nobody any more."""
        if self._server:
            self._server.close()
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:  # and not another server's
                    self._path.unlink()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            writer.write(encode(await self.look()))
            await writer.drain()

    async def look(self) -> Status:
        """Ask all workers, and say how everything is."""
        workers = list(self._crew.workers.values())
        links = list(zip(workers, await asyncio.gather(*map(_ask, workers)), strict=True))
        return Status(
            self._node,
            __version__,
            time.time(),
            tuple(self._list_nodes()),
            tuple(self._list_workers(links)),
            tuple(
                LinkStatus(str(worker.ident), peer, "here" if opened else "there", *figures)
                for worker, found in links
                for peer, opened, *figures in found or ()
            ),
            DirectoryStatus(
                self._contact.reachable, self._contact.quiet_seconds, self._contact.errors
            ),
            tuple(CertificateStatus(name, until) for name, until in self._ends.items()),
        )

    def _list_nodes(self) -> Iterator[NodeStatus]:
        now, serving = time.monotonic(), len(self._crew.serving)
        up = time.time() - self._crew.epoch / 1000
        yield NodeStatus(self._node, "here", up, 0.0, __version__, serving, self._ends["node"])
        for one in sorted(self._exchange.neighbours.values(), key=lambda one: one.hub):
            heard = now - one.heard if one.heard else None
            about = (one.about.version, one.about.workers, one.about.until) if one.about else None
            yield NodeStatus(
                one.hub.node, "there", now - one.since, heard, *(about or (None, None, None))
            )
        for node, since in sorted(self._exchange.lost.items()):
            yield NodeStatus(node, "lost", now - since, None, None, None, None)

    def _list_workers(self, links: list[tuple[Worker, list[Any] | None]]) -> Iterator[WorkerStatus]:
        for worker, found in links:
            yield WorkerStatus(str(worker.ident), _state_of(worker, found), len(worker.guests))
        for number in sorted(self._crew.pausing):
            yield WorkerStatus(f"{self._node}/{number}", "dead", 0)

    # -- for Prometheus ---------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """The figures of nodes, of the directory and of certificates."""
        nodes = GaugeMetricFamily(
            "pipe_mesh_nodes", "Machines of the service, this one too, by state.", labels=["state"]
        )
        nodes.add_metric(["up"], 1 + len(self._exchange.neighbours))
        nodes.add_metric(["lost"], len(self._exchange.lost))
        yield nodes
        yield GaugeMetricFamily(
            "pipe_mesh_news_age_seconds",
            "How old the oldest is of what other machines have told last of their counts.",
            max(map(_age_of, self._exchange.neighbours.values()), default=0.0),
        )
        yield GaugeMetricFamily(
            "pipe_mesh_directory_up",
            "Whether the database can be reached that says where topics are.",
            float(self._contact.reachable),
        )
        yield CounterMetricFamily(
            "pipe_mesh_directory_errors",
            "Calls of that database that have failed.",
            self._contact.errors,
        )
        ends = GaugeMetricFamily(
            "pipe_mesh_certificate_expiry_timestamp_seconds",
            "When a certificate ends that this machine shows to others.",
            labels=["certificate"],
        )
        for name, until in self._ends.items():
            ends.add_metric([name], until)
        yield ends


def _bind(path: Path) -> socket.socket:
    """Make a socket that is for this user alone: nobody can connect before it listens."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with connecting(path.parent) as place:
            path.unlink(missing_ok=True)
            listener.bind(place)
            path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


def _age_of(neighbour: Neighbour) -> float:
    return time.monotonic() - (neighbour.heard or neighbour.since)


async def _ask(worker: Worker) -> list[Any] | None:
    """Ask a worker for its links; None if it does not say."""
    if worker.is_ready:
        with contextlib.suppress(Lost, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                found: list[Any] = await worker.channel.ask({"type": "status"})
                return found
    return None


def _state_of(worker: Worker, found: list[Any] | None) -> WorkerState:
    if not worker.is_ready:
        return "starts"
    if worker.leaving:
        return "leaves"
    return "silent" if found is None else "serves"
