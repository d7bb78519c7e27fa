"""Measures what a record costs the thread that logs: `PYTHONPATH=client python client/measure.py`.

Without the URL of a server as an argument, nobody is there.
"""

from __future__ import annotations

import logging
import platform
import sys
import time

import pipe_log

RECORDS = 2000
ROUNDS = 5
"""All fit into the queue: none is dropped."""


class Nothing(logging.Handler):
    """What `logging` costs by itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Do nothing."""


def microseconds(handler: logging.Handler) -> float:
    """The best of some rounds, for a record with four fields."""
    log = logging.Logger("shop.cart")  # noqa: LOG001 - which nobody else has
    log.addHandler(handler)
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for number in range(RECORDS):
            fields = {"user": "alice", "path": "/cart", "status": 200, "seconds": 0.02}
            log.info("request %d took %s", number, "20 ms", extra=fields)
        best = min(best, time.perf_counter() - begin)
    return best / RECORDS * 1e6


if __name__ == "__main__":
    alone = microseconds(Nothing())
    handler = pipe_log.Handler([*sys.argv, "http://127.0.0.1:9"][1], service="web")
    ours = microseconds(handler)
    assert not handler.dropped
    print(f"Python {platform.python_version()}: logging {alone:.1f} µs, emit {ours - alone:.1f} µs")
