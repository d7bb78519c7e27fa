"""Workers that know each other because a test says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.mesh.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pipe.mesh.directory import WorkerId


class Neighbours:
    """A `pipe.mesh.peers.Peers`.

    Args:
        me: this worker.
        folder: where all have their sockets.
        known: all of them, which it shares with the others.
    """

    def __init__(self, me: WorkerId, folder: Path, known: dict[WorkerId, Peer]) -> None:
        self.own = known[me] = Peer(me, folder / f"{me.number}.{me.epoch}")
        self._known = known
        self.bury: Callable[[WorkerId], Awaitable[None]]

    @property
    def others(self) -> Mapping[WorkerId, Peer]:
        """All there are: nobody asks for itself."""
        return self._known

    @property
    def first(self) -> WorkerId | None:
        """Who is number 1."""
        return next((one for one in self._known if one.number == 1), None)

    def follow(
        self,
        changed: Callable[[], None],  # noqa: ARG002
        gone: Callable[[WorkerId], Awaitable[None]],
    ) -> None:
        """Let a test say that a worker is dead."""
        self.bury = gone
