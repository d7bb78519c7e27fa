"""What a node says of itself, its links and the other nodes, to an operator on its machine.

The hub answers on a socket in its data folder: whoever connects is told, and nothing is asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

from pipe.errors import Unreachable
from pipe.language.names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOCKET_NAME = "mesh.sock"

WAIT_SECONDS = 5.0
"""Far longer than a hub takes, which waits half a second for its workers."""

SOON_SECONDS = 30 * 86_400
"""A certificate that ends so soon is told of, as by `pipe check`."""


WorkerState = Literal["serves", "leaves", "starts", "silent", "dead"]


@dataclasses.dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node.

    ``seconds`` is how long it has been so, ``heard_seconds`` how old what it told last is: its part
    of quotas and rates is as late.  What nobody has told is None.
    """

    node: str
    state: Literal["here", "there", "lost"]
    seconds: float
    heard_seconds: float | None
    version: str | None
    workers: int | None
    certificate_until: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker of this node; who ``leaves`` is replaced, and who is ``dead`` is started again."""

    worker: str
    state: WorkerState
    connections: int


@dataclasses.dataclass(frozen=True, slots=True)
class LinkStatus:
    """A link of a worker here with another one, as this end sees it."""

    worker: str
    peer: str
    opened: Literal["here", "there"]
    seconds: float
    rtt_seconds: float | None
    sent_bytes: int
    received_bytes: int
    unsent_bytes: int
    sessions: int


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """The database, as this node reaches it; ``errors`` counts since the start."""

    reachable: bool
    answered_seconds: float
    errors: int


@dataclasses.dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate that this node uses; ``until`` is in seconds since 1970."""

    name: Literal["node", "ca"]
    until: float


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """All of it; ``now`` is the node's clock, in seconds since 1970."""

    node: str
    version: str
    now: float
    nodes: tuple[NodeStatus, ...]
    workers: tuple[WorkerStatus, ...]
    links: tuple[LinkStatus, ...]
    directory: DirectoryStatus
    certificates: tuple[CertificateStatus, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is down, a sentence each."""
        return tuple(self._list_problems())

    def _list_problems(self) -> Iterator[str]:
        for node in self.nodes:
            if node.state == "lost":
                yield f"node {escape(node.node)} is lost"
        for worker in self.workers:
            if worker.state in {"silent", "dead"}:
                yield f"worker {worker.worker} is {worker.state}"
        if not self.directory.reachable:
            yield "the database cannot be reached"
        for certificate in self.certificates:
            if certificate.until <= self.now:
                yield f"the {certificate.name} certificate has ended"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will be down, or is odd."""
        return tuple(self._list_warnings())

    def _list_warnings(self) -> Iterator[str]:
        for certificate in self.certificates:
            if 0 < certificate.until - self.now < SOON_SECONDS:
                yield f"the {certificate.name} certificate ends within 30 days"
        versions = {node.version for node in self.nodes if node.version}
        if len(versions) > 1:
            yield f"nodes have different versions: {', '.join(map(escape, sorted(versions)))}"


_STATUS = TypeAdapter(Status)


def encode(status: Status) -> bytes:
    """Write it, as it travels."""
    return _STATUS.dump_json(status)


def fetch(folder: Path) -> Status:
    """Ask the node whose data folder this is.

    Raises:
        Unreachable: there is none, or it does not answer this user; one line says which.
    """
    shown = escape(str(folder.absolute()))
    try:
        with connecting(folder) as place, socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(WAIT_SECONDS)
            channel.connect(place)
            with channel.makefile("rb") as file:
                return _STATUS.validate_json(file.read())
    except PermissionError:
        raise Unreachable(
            f"no right to ask the server of {shown}: run this as the user that it runs as, or root"
        ) from None
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise Unreachable(
            f"no node of a mesh runs in {shown}: no server does, or it was started without --mesh;"
            " name the server's folder with --data-dir"
        ) from None
    except TimeoutError:
        raise Unreachable(
            f"the server of {shown} does not answer: it stands still, or has too much to do"
        ) from None
    except (OSError, ValidationError):
        raise Unreachable(
            f"the server of {shown} did not answer in full: it ends, or is of another version"
        ) from None


@contextlib.contextmanager
def connecting(folder: Path) -> Iterator[str]:
    """A short path of the socket in a folder: the kernel takes 107 bytes, and folders have more.

    Raises:
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
