"""A process of many light clients: it logs in and leaves, or holds idle subscribers.

Each line of stdin is an order, ``login N`` or ``hold N``, and is answered with a line when done:
the number of logins, the number of subscribers held by now.  It ends at the end of stdin.

asyncssh's client stands in for ``ssh`` here: a thousand OpenSSH processes would fill the machine
that the server is measured on, and to start one costs many times what the server does for a login.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import asyncssh
import uvloop

CONCURRENT_LOGINS = 4
"""Below what servers allow one address before login."""
KEY_EXCHANGE = "curve25519-sha256"
"""What every server under test has, so that all do the same work."""


class Swarm:
    """The clients of one process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._key = asyncssh.read_private_key(options.key)
        self._gate = asyncio.Semaphore(CONCURRENT_LOGINS)
        self._held: list[asyncssh.SSHClientChannel[bytes]] = []

    async def obey(self, order: str) -> int:
        """Carries out one order and returns the number to answer with."""
        word, number = order.split()
        client = {"login": self._log_in, "hold": self._hold}[word]
        async with asyncio.TaskGroup() as group:
            for _ in range(int(number)):
                group.create_task(client())
        if word == "login":
            return int(number)
        return sum(not channel.is_closing() for channel in self._held)

    async def _log_in(self) -> None:
        async with self._gate:
            connection = await self._connect()
            connection.close()
            await connection.wait_closed()

    async def _hold(self) -> None:
        async with self._gate:
            connection = await self._connect()
            channel, _ = await connection.create_session(
                asyncssh.SSHClientSession, self._options.command, encoding=None
            )
            self._held.append(channel)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            self._options.host,
            self._options.port,
            username=self._options.user,
            client_keys=[self._key],
            known_hosts=None,
            agent_path=None,
            config=None,
            kex_algs=[KEY_EXCHANGE],
            encryption_algs=[self._options.cipher],
        )


async def main() -> None:
    """Obeys the lines of stdin until it ends."""
    parser = argparse.ArgumentParser()
    for name in ("--host", "--user", "--key", "--cipher", "--command"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", required=True, type=int)
    swarm = Swarm(parser.parse_args())
    loop = asyncio.get_running_loop()
    while order := await loop.run_in_executor(None, sys.stdin.readline):
        sys.stdout.write(f"{await swarm.obey(order)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
