"""A process of many light clients: it logs in and leaves, or holds idle subscribers.

Each line of stdin is an order and is answered with a line when done: ``login N`` with the number
of logins, ``hold N`` with the number of subscribers held by now, ``join N`` with the seconds that
each of so many sessions took, one after the other.  It ends at the end of stdin.

asyncssh's client stands in for ``ssh`` here: a thousand OpenSSH processes would fill the machine
that the server is measured on, and to start one costs many times what the server does for a login.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

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
        self._joined = 0
        self._held: list[asyncssh.SSHClientChannel[bytes]] = []

    async def obey(self, order: str) -> str:
        """Carries out one order and returns what to answer."""
        word, number = order.split()
        if word == "join":
            return " ".join([f"{await self._join():.6f}" for _ in range(int(number))])
        client = {"login": self._log_in, "hold": self._hold}[word]
        async with asyncio.TaskGroup() as group:
            for _ in range(int(number)):
                group.create_task(client())
        if word == "login":
            return number
        return str(sum(not channel.is_closing() for channel in self._held))

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

    async def _join(self) -> float:
        """Runs the command, with a number at its end, and returns the seconds that it took."""
        self._joined += 1
        connection = await self._connect()
        began = time.perf_counter()
        await connection.run(
            f"{self._options.command}{self._joined}", stdin=asyncssh.DEVNULL, check=True
        )
        elapsed = time.perf_counter() - began
        connection.close()
        await connection.wait_closed()
        return elapsed

    async def _connect(self) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            self._options.host,
            self._options.port,
            local_addr=(self._options.source, 0) if self._options.source else None,
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
    parser.add_argument("--source", default="")
    swarm = Swarm(parser.parse_args())
    loop = asyncio.get_running_loop()
    while order := await loop.run_in_executor(None, sys.stdin.readline):
        sys.stdout.write(f"{await swarm.obey(order)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
