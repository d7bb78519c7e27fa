"""One session as a user has it: an `ssh`, its three streams, and the wait for its answers."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from loadtest.load.target import Target

READ_BYTES: Final = 1 << 16

PATIENCE_SECONDS: Final = 30.0
"""For any one answer; who waits longer has been let down."""


class LetDownError(Exception):
    """Something that a user was promised did not come."""


class Session:
    """One `ssh` and what it runs on the server."""

    def __init__(self, target: Target, words: str) -> None:
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            target.command(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for Locust: a session that it ends is no failure
        )
        self._said: list[bytes] = []
        self._greeted = threading.Event()
        self._greeted_after = 0.0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            while data := pipe.read(READ_BYTES):
                if not self._said:
                    self._greeted_after = time.perf_counter() - self.started
                    self._greeted.set()
                self._said.append(data)
        self._greeted.set()

    def wait_greeting(self) -> float:
        """Return after how many seconds the server's first line came."""
        if not self._greeted.wait(PATIENCE_SECONDS) or not self._greeted_after:
            raise LetDownError(f"no login: {self.text}")
        if self._process.poll():
            raise LetDownError(f"ended at once: {self.text}")
        return self._greeted_after

    @property
    def text(self) -> str:
        """What came on stderr so far, in one line."""
        return " | ".join(b"".join(self._said).decode(errors="replace").split("\n"))

    def write(self, data: bytes) -> None:
        """Write all of it, however long that takes."""
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:
            raise LetDownError(f"cannot write: {error}: {self.text}") from error

    def end_input(self) -> None:
        """Let end of file follow."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def read(self, size: int = READ_BYTES) -> bytes:
        """Return what there is, at most `size` bytes; nothing at the end of the stream."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def wait(self) -> None:
        """Wait for a good end."""
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LetDownError(f"did not end: {self.text}") from None
        if status:
            raise LetDownError(f"status {status}: {self.text}")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
