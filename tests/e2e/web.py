"""The HTTP front as its users reach it: tokens made over SSH, and real clients of HTTP."""

from __future__ import annotations

import functools
import signal
import subprocess
from typing import TYPE_CHECKING, Final

from . import clients
from .processes import Process, wait_until
from .server import Status, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .processes import Input, Pace
    from .server import Server

NGINX: Final = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""

HAPROXY: Final = """
global
    maxconn 64
{defaults}
frontend web
    bind 127.0.0.1:{port}
    default_backend pipe
{backend}
"""


def token(server: Server, user: str = "alice", rights: str = "") -> str:
    """A token of somebody's, by default for all of the own space and all that is public."""
    words = rights or "--read '**,public/**' --write '**,public/**'"
    client = server.run(user, f"tokens add {words}")
    assert client.wait() == Status.OK, client
    return client.output.strip()


def url(server: Server, path: str) -> str:
    """The address of something on a server."""
    return f"http://{clients.HOST}:{server.web_port}{path}"


class Curl:
    """Somebody's curl, with a token of its own.

    Args:
        server: which server.
        user: whose.
        port: where, if not at the server itself.
    """

    def __init__(self, server: Server, user: str = "alice", port: int = 0) -> None:
        self._server = server
        self._user = f"{user}:{token(server, user)}"
        self._port = port or server.web_port

    def __call__(
        self,
        path: str,
        *options: str | Path,
        stdin: Input = None,
        keep: bool = True,
        pace: Pace | None = None,
        reading: bool = True,
    ) -> Process:
        """Start one."""
        words = ["curl", "-q", "-sS", "-u", self._user, *map(str, options)]
        return self._server.adopt(
            Process(
                [*words, f"http://{clients.HOST}:{self._port}{path}"],
                stdin=stdin,
                keep=keep,
                pace=pace,
                reading=reading,
                environment=clients.bare_environment(),
            )
        )


class Program:
    """A proxy in front of a server, for as long as a test."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.port = port
        self._process = Process(command)

    def __enter__(self) -> Program:
        wait_until(self._listens, "the proxy")
        return self

    def __exit__(self, *_: object) -> None:
        # Killed at once it would leave its workers behind.
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def _listens(self) -> bool:
        assert self._process.running, self._process
        return is_listening(self.port)


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - it is no file
        return any(
            line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
            for line in table.readlines()[1:]
        )


def nginx(folder: Path, location: str) -> Program:
    """Start nginx with this in its server block."""
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port, location=location))
    return Program([which("nginx"), "-e", "stderr", "-c", str(path)], port)


def haproxy(folder: Path, defaults: str, backend: str) -> Program:
    """Start haproxy with these sections."""
    port = free_port()
    path = folder / "haproxy.cfg"
    path.write_text(HAPROXY.format(port=port, defaults=defaults, backend=backend))
    return Program([which("haproxy"), "-f", str(path)], port)


@functools.cache
def which(name: str) -> str:
    """Where a server's program is: not on everybody's path."""
    found = subprocess.run(
        ["sh", "-c", f'PATH="$PATH:/usr/sbin:/sbin" command -v {name}'],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()
