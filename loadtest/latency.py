"""How long a small message takes from the publisher's stdin to every subscriber's stdout.

All members are OpenSSH clients with pipes.  A message is written only after the last one has
arrived everywhere (a closed loop), so that nothing queues and the figure is a time, not a rate.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from loadtest.workspace import STEP_LIMIT, BenchError, wait_logged_in

if TYPE_CHECKING:
    from loadtest.servers import System

MESSAGE_BYTES = 64
_MICROSECONDS = 1e6


def latency(
    system: System, *, subscribers: int, cipher: str, warm_up: int, messages: int
) -> dict[str, float]:
    """Returns ``p50`` and ``p99`` of the time until all subscribers had a message, in microseconds.

    Raises:
        BenchError: a client failed, or a message did not arrive.
    """
    topic = system.topic("messages")
    with system.space.processes() as group, select.epoll() as poller:
        readers = [
            group.ssh(
                system.reader_endpoint(number),
                system.subscribe(topic),
                cipher=cipher,
                stdout=subprocess.PIPE,
            )
            for number in range(subscribers)
        ]
        writer = group.ssh(
            system.writer_endpoint,
            system.publish(topic, subscribers),
            cipher=cipher,
            stdin=subprocess.PIPE,
        )
        wait_logged_in([*readers, writer])
        for reader in readers:
            poller.register(reader.stdout.fileno(), select.EPOLLIN)
        target = writer.stdin.fileno()
        message = os.urandom(MESSAGE_BYTES)
        for _ in range(warm_up):
            _send(message, target, poller, subscribers)
        times = [_send(message, target, poller, subscribers) for _ in range(messages)]
        writer.stdin.close()
        for client in (writer, *readers):
            client.check()
    percentiles = statistics.quantiles(times, n=100)
    return {"p50": percentiles[49] * _MICROSECONDS, "p99": percentiles[98] * _MICROSECONDS}


def _send(message: bytes, target: int, poller: select.epoll, subscribers: int) -> float:
    """Writes one message and returns the seconds until every subscriber had all of it."""
    missing = subscribers * len(message)
    started = time.perf_counter()
    os.write(target, message)
    while missing:
        ready = poller.poll(STEP_LIMIT, subscribers)
        if not ready:
            raise BenchError("a message did not arrive")
        for descriptor, _ in ready:
            data = os.read(descriptor, missing)
            if not data:
                raise BenchError("a subscriber ended early")
            missing -= len(data)
    return time.perf_counter() - started
