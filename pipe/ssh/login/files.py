"""Files that an operator edits while the server runs: read again when they change.

Everything here waits for the disk: call it on a thread, never on the event loop.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from pipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FILE_BYTES = 1 << 20
"""A larger file of keys is a mistake: this has room for two thousand."""

_RACY_SECONDS = 2.0
"""A file read this soon after its last change is read again the next time: file system clocks are
too coarse to tell two quick changes apart."""

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """One file, and the value parsed from it when it was last read.

    As sshd with ``StrictModes``, this trusts a file only if nobody but its owner can change it, and
    the owner is root or the user that runs the server.

    Args:
        path: Where it is; symbolic links are followed.
        parse: Turns the text into the value.
    """

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self.path = path
        self._parse = parse
        self._state: tuple[int, ...] = ()
        self._outcome: T | UsageError | None = None
        self._digest: int | None = None  # of the text behind `_parsed`
        self._parsed: T

    def read(self) -> T:
        """What the file says now.

        Raises:
            FileNotFoundError: There is no file.
            UsageError: It cannot be read, trusted or parsed; the message says why.
        """
        try:
            # Without O_NONBLOCK opening a named pipe would block.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                state = _state(status)
                if state != self._state or self._outcome is None:
                    self._outcome = self._read_new(file.read(MAX_FILE_BYTES + 1), status)
                    racy = time.time() - status.st_mtime < _RACY_SECONDS
                    self._state = () if racy else state
        except FileNotFoundError:
            self._state, self._outcome = (), None
            raise
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror}") from error
        if isinstance(self._outcome, UsageError):
            raise self._outcome
        return self._outcome

    def _read_new(self, data: bytes, status: os.stat_result) -> T | UsageError:
        try:
            if not stat.S_ISREG(status.st_mode):
                raise UsageError("it is no regular file")
            check_modes(status)
            check_modes(self.path.resolve().parent.stat())
            if len(data) > MAX_FILE_BYTES:
                raise UsageError("it is too large")
            digest = hash(data)
            if digest != self._digest:
                self._parsed = self._parse(data.decode("utf-8", "replace"))
                self._digest = digest
        except UsageError as error:
            return error
        return self._parsed


def check_modes(status: os.stat_result) -> None:
    """Check that only root and the server's own user can change a file, or a folder's files.

    In a sticky folder like ``/tmp`` others can add files, which the check of the file itself
    refuses, but cannot replace any.

    Raises:
        UsageError: Somebody else can.
    """
    if status.st_uid not in {0, os.geteuid()}:
        raise UsageError("its owner is neither root nor the user that the server runs as")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise UsageError("others than its owner can write to it or its folder: chmod go-w")


def _state(status: os.stat_result) -> tuple[int, ...]:
    """A value that differs once a file is changed, replaced or given away."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
