"""A client process, and the things about it that a test can wait for.

Every output is read by a thread of its own, so a process blocks on a full pipe only where a test
wants it to.  Waits end with the event, or fail after `DEADLINE` with all that the process has said.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import queue
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, TypeVar

from .forked import Forked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

DEADLINE: Final = 240.0
"""Seconds until a wait fails.  Far above what any step takes on a machine that does much else: no
test is about speed."""

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks at a condition that announces itself in no other way."""

READ_SIZE: Final = 1 << 18
SMALL_PIPE: Final = 4096
"""Bytes, the least Linux gives a pipe: it shall not hide what a slow reader left unread."""


def wait_until(condition: Callable[[], T], what: str, timeout: float = DEADLINE) -> T:
    """Return the first true value of `condition`, or fail saying that `what` did not come about."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(POLL_INTERVAL)
    return value


class Pace(NamedTuple):
    """How a slow reader reads: at most `piece` bytes, then nothing for `pause` seconds."""

    piece: int
    pause: float


class Output:
    """What a process writes to one descriptor: counted, hashed and, if wanted, kept."""

    def __init__(self, pipe: IO[bytes], *, keep: bool = True, pace: Pace | None = None) -> None:
        self.size = 0
        self.ended = False
        self._pipe = pipe
        self._keep = keep
        self._pace = pace
        self._kept = bytearray()
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read_all, daemon=True)

    def start_reading(self) -> None:
        """Begin, unless it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def _read_all(self) -> None:
        while not self.ended:
            piece, pause = self._pace or (READ_SIZE, 0.0)
            select.select([self._pipe], [], [])
            with self._changed:
                data = os.read(self._pipe.fileno(), piece)
                self.size += len(data)
                self._hash.update(data)
                if self._keep:
                    self._kept += data
                if not data:
                    self.ended = True
                    self._pipe.close()
                self._changed.notify_all()
            if pause:
                time.sleep(pause)

    def hurry(self) -> None:
        """Read as fast as it goes from now on."""
        self._pace = None

    @property
    def data(self) -> bytes:
        """All bytes so far, of an output that is kept."""
        assert self._keep
        with self._changed:
            return bytes(self._kept)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, kept or not."""
        with self._changed:
            return self._hash.hexdigest()

    def arrived(self) -> int:
        """How many bytes the process has written, those included that lie unread in its pipe."""
        with self._changed:
            unread = 0
            if not self.ended:
                answer = fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4))
                unread = struct.unpack("i", answer)[0]
            return self.size + unread

    def wait(self, condition: Callable[[Output], T], timeout: float = DEADLINE) -> T | None:
        """Return `condition(self)` once it is true, or None if the output ended or time ran out."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                size, ended = self.size, self.ended
            if value := condition(self):
                return value
            left = deadline - time.monotonic()
            if ended or left <= 0:
                return None
            with self._changed:
                if self.size == size and not self.ended:
                    self._changed.wait(left)

    def join(self, timeout: float) -> bool:
        """Wait for the end of the output; whether it came."""
        self.start_reading()
        self._thread.join(timeout)
        return self.ended


class Held:
    """The type of `HELD`: a standard input that the test writes to and closes itself."""


HELD: Final = Held()

Input = bytes | Path | int | Held | None
"""Bytes and then end of file, a file, an open descriptor, held by the test, or nothing at all."""


class Process:
    """A running program with its three standard streams.

    `reading=False` leaves its stdout unread until `stdout.start_reading()` or `wait()`.
    `forked=True` is for a module of ours that `Forked` can run.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: Input = None,
        keep: bool = True,
        pace: Pace | None = None,
        reading: bool = True,
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
        new_session: bool = False,
        forked: bool = False,
    ) -> None:
        self.command = list(command)
        self._popen: subprocess.Popen[bytes] | Forked
        with contextlib.ExitStack() as files:
            source: int
            if isinstance(stdin, Path):
                source = files.enter_context(stdin.open("rb")).fileno()
            elif isinstance(stdin, int):
                source = stdin
            else:
                source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
            if forked:
                self._popen = Forked(self.command, source, environment, directory)
            else:
                self._popen = subprocess.Popen(
                    self.command,
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=environment,
                    cwd=directory,
                    start_new_session=new_session,
                )
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        if pace or not reading:
            fcntl.fcntl(self._popen.stdout, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
        self.stdout = Output(self._popen.stdout, keep=keep, pace=pace)
        self.stderr = Output(self._popen.stderr)
        self.stderr.start_reading()
        if reading:
            self.stdout.start_reading()
        self._to_write: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, daemon=True)
        if self._popen.stdin is not None:
            self._writer.start()
        if isinstance(stdin, bytes):
            self.write(stdin)
            self.close_stdin()

    def _write_all(self) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._popen.stdin as pipe:
            while (data := self._to_write.get()) is not None:
                view = memoryview(data)
                while view:
                    view = view[pipe.write(view) :]

    def write(self, data: bytes) -> None:
        """Give the process these bytes to read; returns at once, whether it reads them or not."""
        self._to_write.put(data)

    def close_stdin(self) -> None:
        """Let end of file follow all that was written."""
        self._to_write.put(None)

    @property
    def pid(self) -> int:
        """By which it is signalled and watched."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def text(self) -> str:
        """All that came on stderr so far."""
        return self.stderr.data.decode(errors="backslashreplace")

    @property
    def lines(self) -> list[str]:
        """The lines of stderr so far."""
        text = self.text
        return text.removesuffix("\n").split("\n") if text else []

    @property
    def output(self) -> str:
        """All that came on stdout so far, of a command that answers with text."""
        return self.stdout.data.decode()

    def wait(self, timeout: float = DEADLINE) -> int:
        """Return the exit status, once the process and both its outputs have ended."""
        self.stdout.start_reading()
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout:g} s\n{self}") from None
        assert self.stdout.join(timeout), f"stdout stayed open\n{self}"
        assert self.stderr.join(timeout), f"stderr stayed open\n{self}"
        return status

    def wait_stderr(self, pattern: str, timeout: float = DEADLINE) -> re.Match[str]:
        """Return the first match of the regular expression `pattern` on stderr."""
        found = self.stderr.wait(lambda _: re.search(pattern, self.text), timeout)
        assert found, f"stderr never matched {pattern!r}\n{self}"
        return found

    def wait_stdout(self, size: int, timeout: float = DEADLINE) -> None:
        """Return once at least `size` bytes were read from stdout."""
        reached = self.stdout.wait(lambda output: output.size >= size, timeout)
        assert reached, f"stdout gave {self.stdout.size} of {size} bytes\n{self}"

    def interrupt(self) -> None:
        """What Ctrl-C in its terminal does."""
        self.send_signal(signal.SIGINT)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal this process and no other."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it at once and for certain, and close its streams."""
        self._popen.kill()
        self._popen.wait(DEADLINE)
        self.close_stdin()
        self.stdout.join(DEADLINE)
        self.stderr.join(DEADLINE)

    def __repr__(self) -> str:
        status = self._popen.poll()
        return (
            f"$ {shlex.join(self.command)}\n"
            f"status: {'running' if status is None else status}, stdout: {self.stdout.size} bytes\n"
            f"stderr:\n{self.text}"
        )


def statuses(*processes: Process, timeout: float = DEADLINE) -> list[int]:
    """The exit statuses of all, each waited for."""
    return [process.wait(timeout) for process in processes]
