"""Topics that are watched in one worker and at home in another, with real servers and `ssh`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Outcome
from pipe.events.listener import Listener
from pipe.language.names import TopicName
from pipe.stream.ports import Mode
from tests.mesh.workers import on_topic

if TYPE_CHECKING:
    from pipe.stream.chunks import Chunk
    from tests.mesh.workers import Run, Worker, Workers


class Watching:
    """A listener and a watcher of a topic in the first worker."""

    def __init__(self, workers: Workers, name: TopicName) -> None:
        self.taken = b""
        self.ends: list[tuple[int, bool]] = []
        self.seen: list[object] = []
        self.late = 0
        self.router = workers[1].service.router
        self.listener = Listener(
            self.router, name, self._take, self._note_end, late=self._note_late
        )

    def _take(self, chunk: Chunk) -> None:
        self.taken += bytes(chunk.data)

    def _note_end(self, status: int, broken: bool) -> None:
        self.ends.append((status, broken))

    def _note_late(self) -> None:
        self.late += 1

    def published(self, size: int) -> None:
        """Note it."""
        self.seen.append(size)

    def ended(self, status: int, broken: bool) -> None:
        """Note it."""
        self.seen.append((status, broken))

    def idle(self) -> None:
        """It is no end of what was published."""


NAME = TopicName("alice", ("build",))


async def begin_elsewhere(workers: Workers) -> tuple[Run, Watching]:
    """A stream between clients of the second worker, which is then watched in the first."""
    sub = await workers.run(2, "sub -k build")
    await on_topic(workers, 2, 1)
    pub = await workers.run(2, "pub -x 3 build", None)
    await pub.write(b"one ")
    assert await sub.read(4) == b"one "
    watching = Watching(workers, NAME)
    watching.listener.start()
    watching.router.watch(NAME, watching)
    await workers.until(lambda: watching.late == 1)
    return pub, watching


def cut_all(worker: Worker) -> None:
    """End all its sessions."""
    for session in list(worker.service.sessions):
        session.cut(Outcome.CUT)


async def test_watched_where_it_is_at_home(workers: Workers) -> None:
    """Who begins to watch a topic that is in use in another worker gets what comes from then on."""
    pub, watching = await begin_elsewhere(workers)
    await pub.write(b"two")
    await workers.until(lambda: watching.taken == b"two")
    pub.end()
    assert await pub.status() == 0
    await workers.until(lambda: watching.ends == [(3, False)])
    again = await workers.run(1, "pub build", b"whole")
    assert await again.status() == 0
    await workers.until(lambda: len(watching.ends) == 2)
    assert (watching.taken, watching.ends) == (b"twowhole", [(3, False), (0, False)])
    assert watching.seen == [3, (3, False), 5, (0, False)]
    assert watching.late == 1


async def test_watched_until_the_link_is_cut(workers: Workers) -> None:
    """A stream whose rest will not be heard of has broken off."""
    _, watching = await begin_elsewhere(workers)
    workers[2].mesh.close()
    await workers.until(lambda: watching.ends == [(74, True)])
    assert watching.seen == [(74, True)]


async def test_watched_no_more(workers: Workers) -> None:
    """Once nobody watches it, or it has closed there, nothing is left there."""
    _, watching = await begin_elsewhere(workers)
    assert workers[2].service.router.statistics().sessions[Mode.SUBSCRIBE] == 1
    watching.listener.stop()
    watching.router.unwatch(NAME, watching)
    await workers.until(lambda: len(workers[2].service.router.members(NAME)) == 2)
    cut_all(workers[2])
    await workers.until(lambda: not workers[2].topics)
    _, watching = await begin_elsewhere(workers)
    cut_all(workers[2])
    await workers.until(lambda: not workers[2].service.router._watchers)  # noqa: SLF001
    assert [broken for _, broken in watching.ends] == [True], watching.ends
