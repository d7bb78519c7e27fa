"""The same over HTTP: CPU per GiB by curl and by WebSocket, and what a waiting GET holds.

Each reader's output goes into ``sha256sum`` in the run that verifies and into ``wc -c`` in the
others.  A GET waits before any writer starts, as in `loadtest.transfer`.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest import procfs
from loadtest.servers import OverHTTP
from loadtest.workspace import HOST, BenchError, Payload, piped, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtest.servers import System

GIB = 1 << 30
FRAME_BYTES = 64 * 1024
"""What a WebSocket sends at a time."""

_LEAST_LIMIT = 60.0
_LEAST_RATE = 25 << 20
_CONNECTING = 50
"""Waiting GETs that connect at a time: no more may be on their way to a login."""
_PAUSE = 1.0


def over_http(system: System, size: int, waiting: int, *, verify: bool) -> dict[str, float]:
    """Runs all of it on a server of its own and returns a value for each metric.

    Raises:
        BenchError: a client failed, or bytes were lost.
    """
    with OverHTTP(system.space) as server:
        server.log_in_once()
        figures = _transfers(server, system.space.payload(size), verify=verify)
    return {**figures, **_memory_of_waiting(system, waiting)}


def _transfers(system: OverHTTP, payload: Payload, *, verify: bool) -> dict[str, float]:
    """Sends the payload in each of the ways and returns CPU-s per GiB published.

    Raises:
        BenchError: a client failed, or a reader did not get exactly the payload's bytes.
    """
    with payload.path.open("rb") as file:
        return {
            "length": _transfer(system, payload, ["-T", str(payload.path)], verify=verify),
            "chunked": _transfer(system, payload, ["-T", "-"], verify=verify, stdin=file.fileno()),
            "socket": _transfer(system, payload, None, verify=verify),
            "fan8": _transfer(system, payload, ["-T", str(payload.path)], verify=verify, readers=8),
        }


def _memory_of_waiting(system: System, count: int) -> dict[str, float]:
    """Has so many GETs wait and returns ``rss``, what each of them holds, in KiB."""
    with OverHTTP(system.space) as server:
        server.log_in_once()
        secret = server.token()
        lines = (f"GET /topic/idle HTTP/1.1\r\nHost: {HOST}\r\n", f"Authorization: Bearer {secret}")
        head = f"{''.join(lines)}\r\n\r\n".encode()
        held: list[socket.socket] = []
        try:
            _connect(server, head, held, count // 10)
            time.sleep(_PAUSE)
            before = procfs.resident_bytes(server.pid)
            _connect(server, head, held, count)
            time.sleep(_PAUSE)
            after = procfs.resident_bytes(server.pid)
        finally:
            for one in held:
                one.close()
    return {"rss": (after - before) / count / 1024}


def _connect(server: OverHTTP, head: bytes, held: list[socket.socket], count: int) -> None:
    wanted = len(held) + count
    while len(held) < wanted:
        for _ in range(min(_CONNECTING, wanted - len(held))):
            one = socket.create_connection((HOST, server.web_port))
            one.sendall(head)
            held.append(one)
        wait_until(lambda: server.readers() >= len(held), _LEAST_LIMIT, "the readers")


def _transfer(
    system: OverHTTP,
    payload: Payload,
    upload: Sequence[str] | None,
    *,
    verify: bool,
    readers: int = 1,
    stdin: int = subprocess.DEVNULL,
) -> float:
    """Sends the payload by curl, or by WebSocket if there are no words for curl."""
    topic = system.space.new_name("stream")
    counter = ["sha256sum"] if verify else ["wc", "-c"]
    curl = ["curl", "-qsSfN", "-H", f"Authorization: Bearer {system.token()}"]
    address = f"http://{HOST}:{system.web_port}/topic/{topic}"
    client = [sys.executable, "-m", "loadtest.web", str(system.web_port), topic, system.token()]
    before = system.readers()
    with system.space.processes() as group:
        clients, counters = [], []
        for _ in range(readers):
            words = [*curl, address] if upload else [*client, "--read"]
            reader = group.spawn(words, stdout=subprocess.PIPE)
            counters.append(
                group.spawn(counter, stdin=piped(reader.stdout), stdout=subprocess.PIPE)
            )
            piped(reader.stdout).close()  # the counter has it now, and is to see its end
            clients.append(reader)
        wait_until(lambda: system.readers() == before + readers, _LEAST_LIMIT, "the readers")
        system.settle()
        cpu = system.cpu_seconds()
        path = f"?n={readers}"
        if upload:
            writer = group.spawn([*curl, *upload, address + path], stdin=stdin)
        else:
            writer = group.spawn([*client, "--write", str(payload.path)])
        limit = _LEAST_LIMIT + payload.size * readers / _LEAST_RATE
        seen = [one.communicate(timeout=limit)[0].split()[0].decode() for one in counters]
        statuses = [one.wait(limit) for one in (writer, *clients)]
        system.settle()
        used = system.cpu_seconds() - cpu
    expected = payload.sha256 if verify else str(payload.size)
    if any(statuses) or any(answer != expected for answer in seen):
        raise BenchError(f"got {seen} for {expected}; the clients ended with {statuses}")
    return used / (payload.size / GIB)


async def _talk(port: int, topic: str, secret: str, path: Path | None) -> None:
    """Be a WebSocket: write a file, or read to stdout."""
    from aiohttp import ClientSession, WSMsgType

    mode = "pub" if path else "sub"
    url = f"ws://{HOST}:{port}/pipe/{topic}?mode={mode}&status=true"
    headers = {"Authorization": f"Bearer {secret}"}
    async with (
        ClientSession(headers=headers) as session,
        session.ws_connect(url, max_msg_size=0) as ws,
    ):
        if path:
            with path.open("rb") as file:
                while data := file.read(FRAME_BYTES):
                    await ws.send_bytes(data)
            await ws.send_str('{"eof":true}')
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                sys.stdout.buffer.write(message.data)
        if ws.close_code != 1000:
            raise SystemExit(f"closed with {ws.close_code}")


def main() -> None:
    """The WebSocket client, as a program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("topic")
    parser.add_argument("secret")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    asyncio.run(_talk(options.port, options.topic, options.secret, options.write))


if __name__ == "__main__":
    main()
