"""Log lines to their users: what the server takes for so many lines a second.

One service writes lines of `FOLLOWERS` users in turn, at a steady rate, and each user follows the
own ones.  All are OpenSSH clients; what a follower prints is kept in a file and counted.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Final

from loadtest.servers import Ours
from loadtest.workspace import AES, BenchError, Endpoint, wait_logged_in, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from loadtest.servers import System

FOLLOWERS: Final = 100
RATE: Final = 50_000
"""Lines per second."""

LINE_BYTES: Final = 300
TICKS: Final = 50
"""How often in a second lines are written."""

DRAIN: Final = "ops/log-drain"
_LIMIT: Final = 60.0
_LOGINS: Final = 8
"""Logins at a time, below what one address may have on their way."""


class Draining(Ours):
    """The product with a log drain, and users who share one key."""

    def command(self) -> list[str]:
        """Returns the command line of the server."""
        folder = self.directory / "keys"
        folder.mkdir()
        key = self.space.key.with_suffix(".pub").read_text()
        for user in (self.user, "ops", *map(name, range(FOLLOWERS))):
            (folder / user).write_text(key)
        return [*super().command(), "--log-drain", DRAIN, "--authorized-keys", str(folder)]


def name(number: int) -> str:
    """Returns the name of a user."""
    return f"user{number}"


def log_lines(system: System, seconds: int) -> dict[str, float]:
    """Sends lines for so many seconds and returns ``cores``, CPU-s per second.

    Raises:
        BenchError: a client failed, a line was lost, or the machine did not keep up the rate.
    """
    with Draining(system.space) as server, system.space.processes() as group:
        server.log_in_once()
        files: list[Path] = []
        for start in range(0, FOLLOWERS, _LOGINS):
            clients = []
            for number in range(start, min(start + _LOGINS, FOLLOWERS)):
                path = server.directory / f"lines-{number}"
                with path.open("wb") as file:
                    endpoint = Endpoint(server.port, name(number), system.space.key)
                    clients.append(group.ssh(endpoint, "logs -n 0", cipher=AES, stdout=file))
                files.append(path)
            wait_logged_in(clients)
        endpoint = Endpoint(server.port, "ops", system.space.key)
        command = f"pub -c --frame line {DRAIN}"
        writer = group.ssh(endpoint, command, cipher=AES, stdin=subprocess.PIPE)
        wait_logged_in([writer])
        server.settle()
        batch = b"".join(_line(number % FOLLOWERS) for number in range(RATE // TICKS))
        wanted = seconds * RATE // FOLLOWERS * LINE_BYTES
        cpu, started = server.cpu_seconds(), time.monotonic()
        for tick in range(seconds * TICKS):
            time.sleep(max(0.0, started + tick / TICKS - time.monotonic()))
            writer.stdin.write(batch)
        wait_until(
            lambda: all(path.stat().st_size >= wanted for path in files),
            _LIMIT,
            "the last lines",
        )
        took = time.monotonic() - started
        used = server.cpu_seconds() - cpu
        writer.stdin.close()
        writer.check()
        _check(files, wanted)
    if took > seconds * 1.2:
        raise BenchError(f"{seconds} s of lines took {took:.1f} s")
    return {"cores": used / seconds}


def _check(files: list[Path], wanted: int) -> None:
    """Sees that each follower has its own lines, all of them, and nobody else's.

    Raises:
        BenchError: one has not.
    """
    for number, path in enumerate(files):
        lines = path.read_bytes().splitlines(keepends=True)
        if set(lines) != {_line(number)} or len(lines) * LINE_BYTES != wanted:
            raise BenchError(f"{name(number)} got {len(lines)} lines, {len(set(lines))} different")


def _line(number: int) -> bytes:
    """Returns a line of a user's."""
    fields = {
        "time": "2026-01-01T00:00:00.000Z",
        "level": "INFO",
        "msg": "request served",
        "service": "web",
        "user": name(number),
        "status": 200,
        "path": "",
    }
    fields["path"] = "x" * (LINE_BYTES - 1 - len(json.dumps(fields)))
    return json.dumps(fields).encode() + b"\n"
