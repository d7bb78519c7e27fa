"""A session's way to where it has to run: here, or over a link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pipe.errors import Unreachable
from pipe.mesh.asking import wait_answer
from pipe.mesh.questions import Notice, read_result, write_notice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.elsewhere import Client, Errand, Way
    from pipe.language.names import TopicName
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.edge import EdgeEnd
    from pipe.mesh.figures import LinkFigures

MAX_NOTICE_BYTES = 512 * 1024
"""What the server itself may say on a topic elsewhere: it goes in one frame, written as base64."""


class Owner(Protocol):
    """What a visit tells the mesh.

    ``carry`` moves a client there, as `pipe.elsewhere.Visit.carry` does; ``figures`` counts hops.
    """

    carry: Callable[[object, TopicName, WorkerId], bool]
    figures: LinkFigures

    def expect(self, asker: WorkerId) -> None:
        """A join is about to be made here."""

    def settle(self, topic: TopicName | None, asker: WorkerId) -> None:
        """It has been made, or never will be."""

    def withdraw(self, topic: TopicName, home: WorkerId) -> None:
        """A join that the directory has counted is not sent."""


class Here:
    """A session that runs here; with a topic it is a join that the directory has counted."""

    far = False

    def __init__(self, mesh: Owner, topic: TopicName | None, asker: WorkerId) -> None:
        self._mesh = mesh
        self._topic = topic
        self._asker = asker
        mesh.expect(asker)

    def carry(self, front: object) -> bool:  # noqa: ARG002
        """It runs here."""
        return False

    def open(self, errand: Errand, client: Client) -> Way:
        """It runs here."""
        raise NotImplementedError

    async def announce(self, data: bytes, hold: float) -> tuple[bool, int | None]:
        """It is published here."""
        raise NotImplementedError

    def settle(self) -> None:
        """It has joined or failed."""
        self._mesh.settle(self._topic, self._asker)


class There:
    """A session that runs in another worker."""

    far = True

    def __init__(
        self,
        mesh: Owner,
        end: EdgeEnd,
        worker: WorkerId,
        topic: TopicName | None,
        *,
        stays: bool = False,
    ) -> None:
        self._mesh = mesh
        self._end = end
        self._worker = worker
        self._topic = topic
        self._stays = stays  # its client does
        self._sent = False
        end.visits += 1

    def carry(self, front: object) -> bool:
        """Move the client there, unless it is better off here."""
        if self._topic and not self._stays and not self._end.link.over:
            self._sent = self._mesh.carry(front, self._topic, self._worker)
        return self._sent

    def open(self, errand: Errand, client: Client) -> Way:
        """Have it run there."""
        relay = self._end.open(errand, client)
        self._sent = not self._end.link.over
        if self._sent:
            self._mesh.figures.hopped(self._worker)
        else:  # it has ended since it was found
            asyncio.get_running_loop().call_soon(relay.lose, "the other worker is gone")
        return relay

    async def announce(self, data: bytes, hold: float) -> tuple[bool, int | None]:
        """Have it published there.

        Raises:
            Unreachable: nobody has answered.
        """
        if self._topic is None or len(data) > MAX_NOTICE_BYTES or self._end.link.over:
            return False, None
        self._sent = True
        question = write_notice(Notice(self._topic, data, hold))
        answer = await wait_answer(self._end, question)
        if answer is None:
            raise Unreachable(f"worker {self._worker} does not answer: try again")
        return read_result(answer)

    def settle(self) -> None:
        """It was opened or never will be."""
        self._end.visits -= 1
        if self._topic and not self._sent:
            self._mesh.withdraw(self._topic, self._worker)
