"""How the parts of this package tell a user what has happened to something of theirs."""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Writes a line of the server's own into a user's log, which ``logs`` shows."""

    def __call__(self, user: str, level: str, msg: str, /, **fields: object) -> None:
        """Write it.

        Args:
            user: Who it is about, and who is told.
            level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
            msg: What has happened, in the words of the log.
            fields: The rest, which the user may know.
        """
