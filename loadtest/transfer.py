"""CPU per GiB: one publisher sends a file of random bytes to some subscribers.

Every subscriber is an ``ssh`` whose stdout is a pipe into ``sha256sum`` in the run that verifies,
and into ``wc -c``, which costs less, in the others.  Clock and CPU count start when all clients
have logged in; the clock stops when the last reader has seen the end of file, the CPU count when
all clients have ended.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from loadtest.workspace import MIB, BenchError, Payload, wait_logged_in

if TYPE_CHECKING:
    from loadtest.servers import System

GIB = 1024 * MIB
_LEAST_LIMIT = 60.0
_LEAST_RATE = 25 * MIB
"""Seconds, and bytes delivered per second, that make a run's limit: any machine does better."""
_AT_ONCE = 32
"""Clients that log in at a time: servers bound how many of one address may be about to."""
_JOIN_PAUSE = 0.05
"""Seconds from a client's request for its command until the server has surely acted on it."""


def transfer(
    system: System, payload: Payload, *, subscribers: int, cipher: str | None, verify: bool
) -> dict[str, float]:
    """Sends the payload once and returns ``cpu``, ``all`` (CPU-s per GiB) and ``rate`` (MiB/s).

    ``all`` holds the commands as well that the server runs for its sessions; GiB count once,
    however many subscribers get them.

    Raises:
        BenchError: a client failed, or a subscriber did not get exactly the payload's bytes.
    """
    topic = system.topic("stream")
    counter = ["sha256sum"] if verify else ["wc", "-c"]
    with system.space.processes() as group, payload.path.open("rb") as file:
        clients, readers = [], []
        for number in range(subscribers):
            client = group.ssh(
                system.reader_endpoint(number),
                system.subscribe(topic),
                cipher=cipher,
                stdout=subprocess.PIPE,
            )
            readers.append(group.spawn(counter, stdin=client.stdout, stdout=subprocess.PIPE))
            client.stdout.close()  # the reader has it now, and is to see its end
            clients.append(client)
            if len(clients) % _AT_ONCE == 0:
                wait_logged_in(clients[-_AT_ONCE:])
        wait_logged_in(clients)
        time.sleep(_JOIN_PAUSE)

        publish = system.publish(topic, subscribers)
        publisher = group.ssh(system.writer_endpoint, publish, cipher=cipher, stdin=file)
        wait_logged_in([publisher])
        cpu_before, commands_before = system.cpu_seconds(), system.command_seconds()
        started = time.perf_counter()
        limit = _LEAST_LIMIT + payload.size * subscribers / _LEAST_RATE
        seen = [_answer(reader, started + limit) for reader in readers]
        elapsed = time.perf_counter() - started
        for client in (publisher, *clients):
            client.check()
        system.settle()
        cpu = system.cpu_seconds() - cpu_before
        commands = system.command_seconds() - commands_before

    expected = payload.sha256 if verify else str(payload.size)
    wrong = [answer for answer in seen if answer != expected]
    if wrong:
        raise BenchError(
            f"{len(wrong)} of {subscribers} got other bytes: {wrong[0]} for {expected}"
        )
    published = payload.size / GIB
    return {
        "cpu": cpu / published,
        "all": (cpu + commands) / published,
        "rate": payload.size / MIB / elapsed,
    }


def _answer(reader: subprocess.Popen[bytes], deadline: float) -> str:
    try:
        output, _ = reader.communicate(timeout=max(deadline - time.perf_counter(), 0))
    except subprocess.TimeoutExpired:
        raise BenchError("a subscriber did not come to the end of the stream") from None
    return output.split()[0].decode() if output.split() else "nothing"
