"""A second server in a process of its own, which takes over connections: ``FOLDER DESCRIPTOR WAY``.

Over the descriptor, a Unix socket, come the states, each after its size and with a socket.  It
answers each with a line: nothing once the connection goes on here, or why it does not.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Final

import uvloop

from pipe.errors import PipeError
from pipe.service import Service
from pipe.settings import Settings
from pipe.ssh.server import SSHServer
from pipe.store import Store
from tests.ssh.serving import GOODBYE

SERVES: Final = "serves"
DIES: Final = "dies"
"""Ways to go on: the second ends once it has received a connection, before it takes it over."""

SIZE_BYTES: Final = 4


def send(channel: socket.socket, state: bytes, client: socket.socket) -> str:
    """Send a connection, close it here, and return the answer."""
    socket.send_fds(channel, [len(state).to_bytes(SIZE_BYTES, "big")], [client.fileno()])
    channel.sendall(state)
    client.close()
    return channel.makefile().readline().strip()


def receive(channel: socket.socket) -> tuple[bytes, socket.socket] | None:
    """Receive one; None once there will be no more."""
    head, descriptors, _flags, _address = socket.recv_fds(channel, SIZE_BYTES, 1)
    if not descriptors:
        return None
    state = b""
    while len(state) < int.from_bytes(head, "big"):
        state += channel.recv(1 << 16)
    return state, socket.socket(fileno=descriptors[0])


async def serve(folder: Path, channel: socket.socket) -> None:
    """Take over what comes, until nothing does."""
    settings = Settings(port=0, metrics_port=0, data_dir=folder)
    async with await Store.open(settings.resolved_database_url) as store:
        service = Service(settings, store)
        await service.guard.start()
        server = SSHServer(service)
        await server.start()
        while moved := await asyncio.to_thread(receive, channel):
            answer = ""
            try:
                await server.adopt(*moved)
            except PipeError as error:
                answer = error.message
            channel.sendall(f"{answer}\n".encode())
        server.stop_accepting()
        await server.close(GOODBYE)
        await service.guard.close()


def main() -> None:
    """Do as the arguments say."""
    folder, descriptor, way = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as channel:
        if way == DIES:
            receive(channel)
            os._exit(1)
        uvloop.run(serve(Path(folder), channel))


if __name__ == "__main__":
    main()
