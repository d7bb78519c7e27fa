"""The machines of one service: nodes that share one PostgreSQL, started as an operator would."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
from typing import TYPE_CHECKING

from pipe.mesh.certificates import make

from . import clients
from .server import PATIENT, Server

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import KeyRing


def consecutive_ports(count: int, host: str = clients.HOST) -> int:
    """The first of some ports in a row that nobody has, below those that the kernel deals out."""
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probe = probes.enter_context(socket.socket())
                    probe.bind((host, port))
            except OSError:
                continue
            return first


class Nodes:
    """The nodes of one mesh.

    Args:
        folder: where they have their data.
        keys: of their clients.
        url: the database.

    Attributes:
        url: the database.
        ports: of each node, for other hubs; those of its workers follow.
    """

    def __init__(self, folder: Path, keys: KeyRing, url: str) -> None:
        self._folder = folder
        self._keys = keys
        self.url = url
        self.ports: dict[str, int] = {}
        self._places: list[str] = []
        self._started: list[Server] = []

    def start(
        self,
        name: str,
        workers: int = 1,
        *,
        host: str = clients.HOST,
        program: str = PATIENT,
        **settings: str | int,
    ) -> Server:
        """Start one, which joins those before it and returns once they are there.

        Args:
            name: the node's.
            workers: how many it has.
            host: the address for other nodes.
            program: what is started.
            settings: those beside the usual ones.
        """
        data_dir = self._folder / name
        data_dir.mkdir(mode=0o700)
        if self._started:
            for key in ("host_key", "web_key"):
                shutil.copy(self._started[0].data_dir / key, data_dir)
        self.ports[name] = consecutive_ports(
            1 + 2 * workers, host
        )  # twice, for those that replace them
        place = f"{host}:{self.ports[name]}"
        files = make(name, self._folder / "ca").files
        given: dict[str, str | int] = {
            "database_url": self.url,
            "workers": workers,
            "node": name,
            "mesh": place,
            "mesh_ca": str(files.ca),
            "mesh_cert": str(files.certificate),
            "mesh_key": str(files.key),
            **({"join": ",".join(self._places)} if self._places else {}),
            **settings,
        }
        server = Server(data_dir, self._keys, "fast", program, within=(), **given)
        self._places.append(place)
        self._started.append(server)
        for other in self._started[:-1]:
            if other.running:
                server.wait_lines("node is there")
        return server

    def close(self) -> None:
        """End all."""
        for server in self._started:
            server.stop()
            server.check_log()
