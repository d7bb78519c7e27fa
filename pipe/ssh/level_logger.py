"""asyncssh's logger, without formatting lines that are then discarded."""

from __future__ import annotations

from typing import Self

from asyncssh.logging import SSHLogger


class LevelLogger(SSHLogger):
    """Checks the level first; asyncssh formats all arguments before it does.

    All connections and channels share one: only errors with a traceback get through, and
    `pipe.ssh.connection` says whose they are.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        """Write one of asyncssh's lines, if its level is enabled."""
        if self.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)

    def get_child(self, child: str = "", context: str = "") -> Self:  # noqa: ARG002
        """Return itself."""
        return self
