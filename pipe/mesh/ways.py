"""How a worker reaches the others: by a socket on its machine, over TLS on another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Unreachable
from pipe.language.names import escape
from pipe.language.places import Place

if TYPE_CHECKING:
    from pipe.mesh.directory import WorkerId
    from pipe.mesh.link import Link
    from pipe.mesh.peers import Peers
    from pipe.mesh.unix import Sockets
    from pipe.mesh.wires import TlsWires


class Ways:
    """Those of one worker: a `pipe.mesh.mesh.Reach`.

    Args:
        peers: who the others are.
        sockets: leads to those of this machine.
        wires: leads to those of other machines.
    """

    def __init__(self, peers: Peers, sockets: Sockets, wires: TlsWires) -> None:
        self._peers = peers
        self._sockets = sockets
        self._wires = wires

    async def connect(self, worker: WorkerId, link: Link) -> None:
        """Attach a link to a wire to another worker.

        Raises:
            Unreachable: it is not there.
        """
        own = self._peers.own.worker.node
        if worker.node == own:
            await self._sockets.connect(worker, link)
            return
        peer = self._peers.others.get(worker)
        if peer is None or not isinstance(peer.at, Place):
            raise Unreachable(
                f"{escape(worker.node)} cannot be reached from {own}: it is gone or cut off;"
                " try again in some seconds"
            )
        wire = await self._wires.connect(worker, peer.at, link)
        if link.over:  # by what came before it could answer
            wire.close()
        link.attach(wire)
