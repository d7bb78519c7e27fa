"""By SSH: one `ssh` that is kept, whose standard input is the stream.

`ssh` does not say what has arrived.  So what was written within `UNSURE_SECONDS`, of that at most
`UNSURE_BYTES`, is kept and written again when a session breaks: after a break lines may come twice,
but none is lost unnoticed.  That is as much as can be under way: the server's window (1 MiB by
default) and a pipe (64 KiB), and what stays unanswered for so long ends the connection.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Final

from ._transport import Refused, Unsent
from ._words import printable

if TYPE_CHECKING:
    from ._transport import Batch

CONNECT_SECONDS: Final = 10
ALIVE_SECONDS: Final = 15
ALIVE_TRIES: Final = 3
"""After so many questions without an answer `ssh` ends."""

UNSURE_SECONDS: Final = 75.0
"""A little more than it takes until `ssh` ends because nobody answers."""

UNSURE_BYTES: Final = 1280 * 1024
"""The default window, a pipe and some room."""

WAIT_SECONDS: Final = 1.0
"""A write that takes so long has waited for the server to read."""

STEADY_SECONDS: Final = 10.0
"""A session that lasted so long has worked: its end is no sign that the next will fail."""

ERROR_LIMIT: Final = 4096
"""Bytes of the error messages of an `ssh` that are looked at."""

USAGE: Final = 64
DENIED: Final = 77

HOST: Final = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.:@\[\]%/-]*")
TOPIC: Final = re.compile(r"[A-Za-z0-9._:@+][A-Za-z0-9._:@+/-]*")


class Ssh:
    """Writes to the topic that `where`, "ssh:HOST TOPIC" or "ssh://USER@HOST:PORT TOPIC", names.

    Raises:
        ValueError: it does not have that form.
    """

    def __init__(self, where: str) -> None:
        host, _, topic = where.partition(" ")
        if not host.startswith("ssh://"):
            host = host[len("ssh:") :]
        if not (HOST.fullmatch(host) and TOPIC.fullmatch(topic.strip())):
            raise ValueError(f"{where!r} is not of the form 'ssh:HOST TOPIC'")
        self.where = where
        self.held = self.held_lines = 0
        self._command = [
            "ssh",
            "-T",
            "-oBatchMode=yes",
            f"-oConnectTimeout={CONNECT_SECONDS}",
            f"-oServerAliveInterval={ALIVE_SECONDS}",
            f"-oServerAliveCountMax={ALIVE_TRIES}",
            "--",
            host,
            f"pub -b=false -c --frame line {topic.strip()}",
        ]
        self._aborted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._waited = 0.0  # when it last had to wait for room: what is old may be under way yet
        self._unsure: deque[tuple[float, Batch]] = deque()

    @property
    def works(self) -> bool:
        """Whether the session has lasted for a while."""
        return self._process is not None and time.monotonic() - self._started > STEADY_SECONDS

    def send(self, batch: Batch) -> None:
        """Write a batch; if the session is over, begin one, and what is unsure comes first."""
        if self._process is not None and self._process.poll() is not None:
            self._raise_end(self._process)
        if self._process is None:
            self._start()
            for _, unsure in self._unsure:
                self._write(unsure.data)
        if batch.data:
            self._write(batch.data)
            self._unsure.append((time.monotonic(), batch))
            self._count(batch, 1)
        self._forget()

    def lost(self) -> bool:
        """Whether the session is over and some of what was written may not have arrived."""
        self._forget()
        over = self._process is None or self._process.poll() is not None
        return over and bool(self._unsure)

    def finish(self, timeout: float) -> None:
        """End the input; the session ends well when the topic has all of it."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            _stdin(process).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            if process.wait(max(timeout, 0)) == 0:
                self._forget_all()
        self._end(process)

    def abort(self) -> None:
        """Kill the `ssh`, so that nobody waits for it, and let no other start."""
        self._aborted = True
        if (process := self._process) is not None:
            process.kill()

    def forsake(self) -> None:
        """Close our copies of the parent's pipes, and leave its `ssh` alone."""
        process, self._process = self._process, None
        self._aborted = False
        self._forget_all()
        if process is not None:
            process.returncode = 0  # it is no child of ours: nobody may wait for it
            _close_pipes(process)

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(  # noqa: S603 - `where` was checked
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the service, which ends us in good order
            )
        except OSError as error:
            raise Unsent(f"ssh does not start: {error}") from None
        self._started = time.monotonic()
        if self._aborted:
            self._end(self._process)
            raise Unsent("there is no time left")

    def _write(self, data: bytes) -> None:
        process = self._process
        assert process is not None  # noqa: S101
        view = memoryview(data)
        began = time.monotonic()
        try:
            while view:
                view = view[os.write(_stdin(process).fileno(), view) :]
        except (OSError, ValueError):
            self._raise_end(process)
        if (now := time.monotonic()) - began > WAIT_SECONDS:
            self._waited = now

    def _raise_end(self, process: subprocess.Popen[bytes]) -> None:
        """Say why the session ended.

        Raises:
            Unsent: the next may go better.
            Refused: the next will not.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        reason = _last_words(process)
        status = self._end(process)
        reason = reason or f"ssh ended with status {status}"
        if status in (USAGE, DENIED):
            lines, dropped = self.held_lines, sum(batch.dropped for _, batch in self._unsure)
            self._forget_all()
            raise Refused(reason, lines, dropped)
        raise Unsent(reason)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        self._process = None
        process.kill()
        status = process.wait()
        _close_pipes(process)
        return status

    def _forget(self) -> None:
        """Keep no longer what must have arrived."""
        now = time.monotonic()
        while self._unsure:
            written, batch = self._unsure[0]
            recent = now - max(written, self._waited) < UNSURE_SECONDS
            if recent and self.held - len(batch.data) < UNSURE_BYTES:
                break
            self._unsure.popleft()
            self._count(batch, -1)

    def _forget_all(self) -> None:
        self._unsure.clear()
        self.held = self.held_lines = 0

    def _count(self, batch: Batch, sign: int) -> None:
        self.held += sign * len(batch.data)
        self.held_lines += sign * batch.lines


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None  # noqa: S101
    return process.stdin


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """The last line that an `ssh` has said, if it said one."""
    assert process.stderr is not None  # noqa: S101
    try:
        # A master of `ControlPersist` keeps it open: so no end of file may come.
        os.set_blocking(process.stderr.fileno(), False)
        text = os.read(process.stderr.fileno(), ERROR_LIMIT).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""
    return printable(text.strip().rpartition("\n")[2])
