"""The workers of all machines, as their liveliness shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.mesh.directory import WorkerId


class Members:
    """Knows who is alive, and tells of changes; `appeared` and `vanished` may come twice."""

    def __init__(self) -> None:
        self._alive: set[WorkerId] = set()
        self._followers: list[tuple[Callable[[], None], Callable[[WorkerId], None]]] = []

    @property
    def others(self) -> frozenset[WorkerId]:
        """All that are there now, but this one; number 0 is a machine's hub."""
        return frozenset(self._alive)

    @property
    def nodes(self) -> frozenset[str]:
        """The names of their machines."""
        return frozenset(worker.node for worker in self._alive)

    def follow(self, changed: Callable[[], None], gone: Callable[[WorkerId], None]) -> None:
        """Be told from now on.

        Args:
            changed: called after `others` has changed.
            gone: called before that for one that is gone; a worker that starts anew is another.
        """
        self._followers.append((changed, gone))

    def appeared(self, worker: WorkerId) -> None:
        """A worker is there."""
        if worker not in self._alive:
            self._alive.add(worker)
            self._tell()

    def vanished(self, worker: WorkerId) -> None:
        """A worker is gone."""
        if worker in self._alive:
            self._alive.remove(worker)
            for _, gone in self._followers:
                gone(worker)
            self._tell()

    def _tell(self) -> None:
        for changed, _ in self._followers:
            changed()
