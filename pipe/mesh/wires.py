"""The wires of one worker to workers of other machines, and when it wants one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from pipe.errors import Unreachable
from pipe.language.names import escape
from pipe.mesh.greeting import BadGreeting, Greeting, decode_answer, encode_answer
from pipe.mesh.tls import Door, TlsWire, misnamed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.identity import Identity
    from pipe.mesh.wire import Acceptor, End

log = structlog.get_logger()


class TlsWires:
    """Opens and accepts wires for one worker.

    Args:
        me: the worker.
        identity: what its node has in common with all others.
        contexts: as `pipe.mesh.certificates.contexts` makes them.
        accept: makes the end of a wire that another worker has opened.
        used: called with the seconds that the frames of a read took.

    Attributes:
        refused: how many wires it did not want that others have opened.
    """

    def __init__(
        self,
        me: WorkerId,
        identity: Identity,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
        accept: Acceptor,
        used: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._me = me
        self._identity = identity
        self._accept = accept
        self._door = Door(contexts, self._greeted, used)
        self.refused = 0

    async def listen(self, host: str, port: int) -> int:
        """Accept wires, and return the port: a free one if it was 0.

        Raises:
            StartError: the place cannot be had.
        """
        return await self._door.listen(host, port)

    async def connect(self, worker: WorkerId, place: tuple[str, int], end: End) -> TlsWire:
        """Open a wire to a worker.

        Args:
            worker: which; one that was started anew is another.
            place: where it listens.
            end: is told what comes.

        Raises:
            Unreachable: it cannot be reached, or does not want the wire.
        """
        greeting = Greeting(self._me, worker, self._identity).encode()
        try:
            wire, answer = await self._door.dial(
                place, greeting, partial(misnamed, node=worker.node)
            )
            refusal = _read(answer)
        except Unreachable as error:
            refusal = error.message
        else:
            if refusal is None:
                wire.begin(end)
                return wire
            wire.close()
        raise Unreachable(
            f"{escape(worker.node)} cannot be reached from {self._me.node}: {refusal}"
        )

    async def close(self) -> None:
        """Accept no more; wires stay."""
        await self._door.close()

    def _greeted(self, wire: TlsWire, frame: bytes) -> None:
        try:
            greeting = Greeting.decode(frame)
        except BadGreeting:
            wire.close()
            return
        sender = greeting.sender
        refusal = greeting.refusal(self._me, self._identity) or misnamed(wire, sender.node)
        if refusal is None:
            wire.send([(encode_answer(None),)])
            wire.begin(self._accept(sender, wire))
        else:
            wire.finish((encode_answer(refusal),))
            self.refused += 1
            log.warning("link refused", worker=escape(str(sender)), reason=refusal)


def _read(answer: bytes) -> str | None:
    try:
        return decode_answer(answer)
    except BadGreeting:
        return "it does not speak the mesh's protocol"
