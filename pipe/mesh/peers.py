"""Which other workers there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pipe.language.places import Place
    from pipe.mesh.directory import WorkerId


class Peer(NamedTuple):
    """One other worker.

    ``at`` is where it takes links: a Unix socket in a folder that only the server's user may enter,
    or a place on another machine.  A worker that is ``leaving`` takes no new topics, and serves
    those that it has until they end.  Clients can move only to one of the same ``build``.
    """

    worker: WorkerId
    at: Path | Place
    leaving: bool = False
    build: str = ""


class Peers(Protocol):
    """Knows them, and tells of changes."""

    @property
    def own(self) -> Peer:
        """This worker, and its socket, on which it has to listen before others know of it."""

    @property
    def others(self) -> Mapping[WorkerId, Peer]:
        """All that are ready now."""

    @property
    def first(self) -> WorkerId | None:
        """Who does what there is once, as logs, hooks, webhooks and monitors, if anybody does."""

    def follow(
        self,
        changed: Callable[[], None],
        gone: Callable[[WorkerId], Awaitable[None]],
    ) -> None:
        """Be told from now on.

        Args:
            changed: called after `others` has changed.
            gone: called once for each worker that is dead.  It returns when nothing that it sent is
                unread, and all its joins are told to the directory: then those that never came are
                forgotten.
        """
