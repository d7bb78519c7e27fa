"""Who is alive: the workers of all nodes, and who wants to know when one is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.mesh.directory import WorkerId


class Peers(Protocol):
    """Knows the other workers of the service."""

    @property
    def alive(self) -> frozenset[WorkerId]:
        """The workers that are there now."""

    def watch(self, died: Callable[[WorkerId], None]) -> Callable[[], None]:
        """Tell when a worker has gone; one that is started anew is another.

        Returns:
            What ends that.
        """


class Members:
    """`Peers` from what something else sees: `appeared` and `vanished` may come twice."""

    def __init__(self) -> None:
        self._alive: set[WorkerId] = set()
        self._watchers: dict[object, Callable[[WorkerId], None]] = {}

    @property
    def alive(self) -> frozenset[WorkerId]:
        """The workers that are there now."""
        return frozenset(self._alive)

    @property
    def nodes(self) -> frozenset[str]:
        """The names of the machines that have a worker."""
        return frozenset(worker.node for worker in self._alive)

    def watch(self, died: Callable[[WorkerId], None]) -> Callable[[], None]:
        """Tell when a worker has gone."""
        mark = object()
        self._watchers[mark] = died

        def end() -> None:
            self._watchers.pop(mark, None)

        return end

    def appeared(self, worker: WorkerId) -> None:
        """A worker is there."""
        self._alive.add(worker)

    def vanished(self, worker: WorkerId) -> None:
        """A worker is gone."""
        if worker in self._alive:
            self._alive.remove(worker)
            for died in list(self._watchers.values()):
                died(worker)
