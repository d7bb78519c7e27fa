"""A queue of lines with a bound, and the one thread that sends them.

`put` neither blocks nor raises: it may be called from any thread, a signal's handler or an event
loop.  When the queue is full the newest lines are dropped.  Their number stands in the queue where
they would have stood, and goes with the next line, as its field `dropped`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import random
import signal
import sys
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Union

from ._lines import with_gap
from ._transport import NOTHING, Batch, Refused, Unsent
from ._words import say

if TYPE_CHECKING:
    from ._transport import Transport

BUFFER_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of lines that are kept: those that wait, are being sent, or may have to be sent again."""

BATCH_BYTES: Final = 256 * 1024
BATCH_SECONDS: Final = 0.5
"""A batch is sent when it has so many bytes, or its first line has waited so long."""

LOOK_SECONDS: Final = 0.5
"""How often a quiet transport is asked whether what it sent was lost."""

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 30.0
"""Seconds between tries, between which the bound of the random wait doubles."""

CLOSE_SECONDS: Final = 2.0
"""As long as a process is held up at its end."""

Entry = Union[bytes, int]
"""A line, or the number of lines that were dropped there."""

_senders: weakref.WeakSet[Sender] = weakref.WeakSet()


class Sender:
    """Sends lines by a transport; its thread starts with the first line.

    Attributes:
        dropped: how many lines were not sent, in all.
    """

    def __init__(self, transport: Transport) -> None:
        self.dropped = 0
        self._transport = transport
        self._closing = threading.Event()
        self._deadline = 0.0
        self._begin()
        _senders.add(self)

    def _begin(self) -> None:
        """Start empty, with locks that nobody holds."""
        self._lock = threading.RLock()  # one that a signal's handler may take again
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._progress = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._waiting = 0  # bytes of the lines in it
        self._sending = NOTHING
        self._gap = 0  # dropped lines of which the next one sent will tell
        self._failures = 0
        self._told = False
        self._over = False
        self._thread: threading.Thread | None = None

    # -- from everybody ---------------------------------------------------------------------------

    def put(self, line: bytes) -> None:
        """Take a line to be sent, or drop it if there is no room."""
        size = len(line)
        with self._lock:
            before = self._waiting
            kept = before + len(self._sending.data) + self._transport.held
            if self._over or kept + size > BUFFER_LIMIT:
                self._drop_here(1)
                return
            self._entries.append(line)
            self._waiting = before + size
            if self._thread is None:
                self._start()
        if before == 0 or before < BATCH_BYTES <= before + size:
            self._wake.put(None)

    def drop(self) -> None:
        """Count a line of which nothing could be made."""
        with self._lock:
            self._drop_here(1)

    def is_own(self) -> bool:
        """Whether the calling thread is the one that sends."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def wait_room(self, size: int, *, patiently: bool = False) -> None:
        """Wait until no more than `size` bytes wait to be sent.

        Args:
            size: in bytes.
            patiently: wait also while the server takes none.
        """

        def settled() -> bool:
            waiting = self._waiting + len(self._sending.data)
            gives_up = self._failures > 0 and not patiently
            return waiting <= size or gives_up or self._over

        with self._progress:
            self._progress.wait_for(settled)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what there is, for at most so many seconds.

        What is left then, and all that comes later, counts as dropped.
        """
        self.begin_close(timeout)
        self.end_close()

    def begin_close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Begin to close, without waiting."""
        if not self._closing.is_set():
            self._deadline = time.monotonic() + timeout
            self._closing.set()
            self._wake.put(None)

    def end_close(self) -> None:
        """Wait for the end that was begun."""
        thread = self._thread
        if thread is not None and not self.is_own():
            thread.join(max(self._deadline - time.monotonic(), 0))
        with self._lock:
            if self._over:
                return
            self._over = True
            left = sum(type(entry) is bytes for entry in self._entries)
            left += self._sending.lines + self._transport.held_lines
            self.dropped += left
            self._entries.clear()
        with self._progress:
            self._progress.notify_all()
        if left:
            self._told = False
            self._say(f"could not send all to {self._transport.where} in time, dropped: {left}")
        self._transport.abort()

    def forsake(self) -> None:
        """Begin anew in a process that was forked: what there was is the parent's to send."""
        self._transport.forsake()
        self._begin()

    # -- the queue --------------------------------------------------------------------------------

    def _drop_here(self, lines: int) -> None:
        self.dropped += lines
        entries = self._entries
        if self._over:
            return
        if entries and isinstance(entries[-1], int):
            lines += entries.pop()  # type: ignore[operator]
        entries.append(lines)

    def _take(self) -> Batch:
        """Take the next lines out of the queue, and put the gaps between them into words."""
        pieces: list[bytes] = []
        size = told = 0
        with self._lock:
            while self._entries:
                entry = self._entries[0]
                if isinstance(entry, int):
                    self._gap += entry
                elif pieces and size + len(entry) > BATCH_BYTES:
                    break
                else:
                    size += len(entry)
                    self._waiting -= len(entry)
                    if self._gap:
                        entry = with_gap(entry, self._gap)
                        told += self._gap
                        self._gap = 0
                    pieces.append(entry)
                self._entries.popleft()
            if not self._entries:
                self._waiting = 0  # whatever a signal's handler did in the midst of `put`
            self._sending = Batch(b"".join(pieces), len(pieces), told)
        return self._sending

    # -- the thread -------------------------------------------------------------------------------

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="pipe_log", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # too many threads, or the interpreter is about to end
            self._thread = None
            return
        processes = sys.modules.get("multiprocessing")
        if processes is not None and processes.parent_process() is not None:
            # Its children end without `atexit` before Python 3.13.
            sys.modules["multiprocessing.util"].Finalize(self, _close_all, exitpriority=0)

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            # Where the service let SIGPIPE end it, an `ssh` that is gone would do so.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            while (batch := self._next_batch()) is not None:
                if not self._deliver(batch):
                    return
            while (left := self._deadline - time.monotonic()) > 0:
                self._transport.finish(left)
                if not self._transport.held_lines or not self._deliver(NOTHING):
                    return
        finally:
            self._transport.finish(0)

    def _next_batch(self) -> Batch | None:
        """Wait for lines, and for more to go with them; None once there will be none."""
        while not self._waiting:
            if self._closing.is_set():
                return None
            if self._transport.lost():
                return NOTHING
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=LOOK_SECONDS if self._transport.held_lines else None)
        until = time.monotonic() + BATCH_SECONDS
        while self._waiting < BATCH_BYTES and not self._closing.is_set():
            left = until - time.monotonic()
            if left <= 0:
                break
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=left)
        return self._take()

    def _deliver(self, batch: Batch) -> bool:
        """Send a batch until it is taken or refused; whether there is time for another."""
        while True:
            after = 0.0
            try:
                self._transport.send(batch)
            except Refused as refused:
                self._refused(batch, refused)
                return self._pause(after)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may go better
                if isinstance(error, Unsent):
                    after = error.after
                self._say(f"cannot send to {self._transport.where}, will try again: {error}")
            else:
                self._sent()
                return True
            if not self._pause(after):
                return False

    def _sent(self) -> None:
        with self._lock:
            self._sending = NOTHING
        if self._transport.works:
            self._failures = 0
            self._told = False
        with self._progress:
            self._progress.notify_all()

    def _refused(self, batch: Batch, refused: Refused) -> None:
        lines = batch.lines + refused.lines
        with self._lock:
            self._sending = NOTHING
            if not self._over:
                self.dropped += lines
                self._gap += lines + batch.dropped + refused.dropped
        self._say(f"{self._transport.where} refuses lines, which are dropped: {refused}")

    def _pause(self, after: float) -> bool:
        """Wait before the next try; whether there is time for one."""
        self._failures += 1
        with self._progress:
            self._progress.notify_all()
        bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._failures, 16))
        if not self._closing.wait(after + random.uniform(0, bound)):  # noqa: S311
            return True
        left = self._deadline - time.monotonic()
        if after >= left:
            return False
        time.sleep(min(random.uniform(0, FIRST_WAIT), left))  # noqa: S311
        return time.monotonic() < self._deadline

    def _say(self, text: str) -> None:
        """Tell the service's stderr, once until lines arrive again."""
        if self._told:
            return
        self._told = True
        say(text)


def _close_all() -> None:
    senders = list(_senders)
    for sender in senders:
        sender.begin_close()
    for sender in senders:
        sender.end_close()


def _after_fork() -> None:
    for sender in list(_senders):
        sender.forsake()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
