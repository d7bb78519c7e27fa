"""The innocent user beside every attack: 64-byte messages there and back, each checked and timed.

It is a process of its own, so that what an attack costs the attacker's process does not show in its
times.  As a program it sends a message, waits until its own subscriber has it, and so on; each
line ``mark`` on stdin is answered with the figures since the last one, and the end of stdin ends
both sessions in good order.
"""

from __future__ import annotations

import hashlib
import json
import select
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e.clients import bare_environment
from tests.e2e.processes import DEADLINE, HELD, Process
from tests.e2e.server import ROOT

from .peer import Peer, Target
from .transport import CutOffError

if TYPE_CHECKING:
    from .peer import Channel

MESSAGE_BYTES: Final = 64
REST_SECONDS: Final = 0.002
"""Between two messages: a person who types, or a program that logs, not a load."""

REPLY_SECONDS: Final = DEADLINE
"""When a message has not arrived by then, it never will."""

AGAIN: Final = 20
"""Round trips after an attack that show that the server is all there."""


class Latency(NamedTuple):
    """Round trips since the last mark: how many, and how long they took in milliseconds."""

    trips: int
    p50: float
    p99: float
    longest: float


def measure(times: list[float]) -> Latency:
    """The figures of some round trips, given in seconds."""
    if len(times) < 2:
        longest = max(times, default=0.0) * 1000
        return Latency(len(times), longest, longest, longest)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return Latency(len(times), cuts[49] * 1000, cuts[98] * 1000, max(times) * 1000)


# -- the program ----------------------------------------------------------------------------------


def _round_trip(number: int, writer: Channel, reader: Channel) -> float:
    """Send one message and wait for it; the seconds that it took."""
    content = hashlib.sha512(number.to_bytes(8, "big")).digest()
    reader.data.clear()
    started = time.perf_counter()
    writer.send(content)
    while len(reader.data) < MESSAGE_BYTES:
        assert reader.peer.take(REPLY_SECONDS), f"message {number} did not arrive"
    took = time.perf_counter() - started
    assert reader.data == content, f"message {number} arrived as {bytes(reader.data).hex()}"
    return took


def _log_in(target: Target) -> Peer:
    """Log in, again where a server that grants little time for it was too quick."""
    while True:
        peer = Peer(target)
        try:
            peer.log_in()
        except CutOffError:
            peer.drop()
        else:
            return peer


def _main(target: Target, topic: str) -> None:
    with _log_in(target) as reading, _log_in(target) as writing:
        reader = reading.run(f"sub {topic}")
        reader.keep = True
        writer = writing.run(f"pub {topic}")
        times: list[float] = []
        number = 0
        while True:
            times.append(_round_trip(number, writer, reader))
            number += 1
            if number == 1:
                print("ready", flush=True)  # noqa: T201 - its answers
            if select.select([sys.stdin], [], [], REST_SECONDS)[0]:
                if not sys.stdin.readline():
                    break
                print(json.dumps(measure(times)), flush=True)  # noqa: T201
                times.clear()
        writer.end()
        assert reader.wait() == 0, reader.stderr  # it confirms; only then does the writer end
        assert writer.wait() == 0, writer.stderr
        assert b"sent %d bytes" % (number * MESSAGE_BYTES) in writer.stderr, writer.stderr


# -- its handle -----------------------------------------------------------------------------------


class Innocent:
    """The process, for a test to watch."""

    def __init__(self, target: Target, topic: str = "innocent") -> None:
        words = [target.host, str(target.port), target.user, str(target.key), topic]
        command = [sys.executable, "-m", "tests.hostile.innocent", *words]
        self._process = Process(command, stdin=HELD, environment=bare_environment(), directory=ROOT)
        self._lines = 0
        self._read_line()

    def _read_line(self) -> str:
        self._lines += 1
        found = self._process.stdout.wait(
            lambda output: output.data.count(b"\n") >= self._lines, DEADLINE
        )
        assert found, f"the innocent user is in trouble\n{self._process}"
        return self._process.output.splitlines()[self._lines - 1]

    def mark(self) -> Latency:
        """The round trips since the last mark."""
        self._process.write(b"mark\n")
        return Latency(*json.loads(self._read_line()))

    def go_on(self) -> None:
        """Return after `AGAIN` more round trips."""
        count = 0
        while count < AGAIN:
            count += self.mark().trips

    def finish(self) -> None:
        """Let it end, and check that it did so as if nothing had been."""
        self._process.close_stdin()
        assert self._process.wait() == 0, self._process

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()


if __name__ == "__main__":
    _host, _port, _user, _key, _topic = sys.argv[1:]
    _main(Target(_host, int(_port), _user, Path(_key)), _topic)
