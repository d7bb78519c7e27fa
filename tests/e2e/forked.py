"""Programs of ours that start at once: forked off a process that has imported what they need.

Tests start hundreds of servers, and each takes a second of processor time to import what it is made
of.  The fork server of `multiprocessing` does that once for each process that runs tests.  What it
forks is as good as a program that was executed: it has its own descriptors, environment, folder and
words, and ends with its own status.  Only what an interpreter is told before it begins (``-X``,
``PYTHONMALLOC``) is as it was for the tests.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pipe.app", "pipe.hub.serve", "pipe.web.server", "pipe.web.outgoing"]
)

MADV_POPULATE_READ: Final = 22
"""madvise(2), since Linux 5.14; on an older one processes seem to grow by some MiB."""


class Forked:
    """A module that runs as ``python -m`` would run it, with the manners of `subprocess.Popen`.

    Args:
        command: what would execute it: this interpreter, ``-m``, the module, its words.
        stdin: a descriptor, or `subprocess.PIPE` or `subprocess.DEVNULL`.
        env: its environment; None: as it is here.
        cwd: its folder; None: as it is here.
    """

    def __init__(
        self,
        command: Sequence[str],
        stdin: int,
        env: Mapping[str, str] | None,
        cwd: Path | None,
    ) -> None:
        assert list(command[:2]) == [sys.executable, "-m"]
        self._command = list(command)
        self._asking = threading.Lock()  # its status can be read only once
        self.stdin: IO[bytes] | None = None
        if stdin == subprocess.PIPE:
            source, ours = os.pipe()
            self.stdin = os.fdopen(ours, "wb", buffering=0)
        elif stdin == subprocess.DEVNULL:
            source = os.open(os.devnull, os.O_RDONLY)
        else:
            source = os.dup(stdin)
        self.stdout, output = _outlet()
        self.stderr, errors = _outlet()
        streams = [Connection(source, writable=False)]
        streams += [Connection(one, readable=False) for one in (output, errors)]
        self._process = _CONTEXT.Process(
            target=_become,
            args=(streams, dict(env or os.environ), cwd or Path.cwd(), self._command[2:]),
            daemon=True,  # ended with the tests, whatever becomes of them
        )
        self._process.start()
        for stream in streams:
            stream.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """Its status, or None while it runs."""
        with self._asking:
            return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end, and return its status.

        Raises:
            subprocess.TimeoutExpired: it goes on for longer than so many seconds.
        """
        wait([self._process.sentinel], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _outlet() -> tuple[IO[bytes], int]:
    """Where to read what a program writes, and the descriptor for it to write to."""
    ours, its = os.pipe()
    return os.fdopen(ours, "rb", buffering=0), its


def _touch_code() -> None:
    """Have the kernel map all files that are, which a fork would see grow as it runs their code."""
    advise = ctypes.CDLL(None).madvise
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, _, _, inode = line.split()[:5]
        if mode.startswith("r") and inode != "0":
            begin, end = (int(number, 16) for number in span.split("-"))
            advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_POPULATE_READ)


def _become(
    streams: Sequence[Connection], environment: Mapping[str, str], folder: Path, words: list[str]
) -> None:
    """Be that program, in the process that was forked for it."""
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = os.fdopen(0, closefd=False)
    _touch_code()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.orig_argv = [sys.executable, "-m", *words]
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # noqa: SLF001 - as an interpreter does at its end
