"""The server, as `pipe serve` starts it, with an answer to what it holds.

    python -m loadtest.soak.served serve --port 2222 …

Each line on stdin is answered with a line of JSON on stdout; the end of stdin ends the server, so
that it never outlives who started it.  What it counts is counted on the event loop, after a
collection: what is found then is held by somebody.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import uvloop

from pipe import cli

if TYPE_CHECKING:
    from collections.abc import Callable

WATCHED: Final = ("pipe.", "asyncssh.", "uvloop.")
"""Modules whose objects are counted: the server's own, its connections and its transports."""


def take_census() -> dict[str, int]:
    """How many objects of each watched class there are."""
    gc.collect()
    kinds = Counter(map(type, gc.get_objects()))
    names = {kind: f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
    return {names[kind]: kinds[kind] for kind in kinds if names[kind].startswith(WATCHED)}


def _answer(loop: asyncio.AbstractEventLoop) -> str:
    tasks = len(asyncio.all_tasks(loop))
    return json.dumps({"tasks": tasks, "objects": take_census()})


class _Answers:
    """Answers questions about the event loop that the server makes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._make = uvloop.new_event_loop

    def new_event_loop(self) -> uvloop.Loop:
        """What the server calls."""
        self._loop = loop = self._make()
        return loop

    def listen(self) -> None:
        """Answer until the end of stdin, on a thread."""
        try:
            for _ in sys.stdin:
                assert self._loop
                answer: Future[str] = Future()
                self._loop.call_soon_threadsafe(self._settle, answer, self._loop)
                print(answer.result(), flush=True)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    @staticmethod
    def _settle(answer: Future[str], loop: asyncio.AbstractEventLoop) -> None:
        try:
            answer.set_result(_answer(loop))
        except Exception as error:  # noqa: BLE001 - it belongs to who asked
            answer.set_exception(error)


def main(run: Callable[[], int] = cli.main) -> int:
    """Serve."""
    answers = _Answers()
    uvloop.new_event_loop = answers.new_event_loop
    threading.Thread(target=answers.listen, daemon=True).start()
    return run()


if __name__ == "__main__":
    sys.exit(main())
