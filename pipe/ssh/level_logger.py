"""asyncssh's logger, without what is worded only to be thrown away."""

from __future__ import annotations

from typing import Self

from asyncssh.logging import SSHLogger


class LevelLogger(SSHLogger):
    """Looks at the level first, where asyncssh turns all arguments into text before that.

    One for all connections and channels: what gets through is an error and its traceback, and
    `pipe.ssh.connection` says whose it is.
    """

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        """Write a line of asyncssh's, if anybody wants lines like that."""
        if self.isEnabledFor(level):
            super().log(level, msg, *args, **kwargs)

    def get_child(self, child: str = "", context: str = "") -> Self:  # noqa: ARG002
        """The same."""
        return self
