"""Connections that go from one worker to another, as a topic of their clients is at home there.

The hub hands them on, as it counts whose guest a client is.  It sees nothing of what goes along:
the client's socket and its state, which holds keys, are behind one descriptor, and the state is in
memory that no file has.  From when a connection is taken out of its worker until the other one has
it, it is in messages only; if one of them is lost with a process, the kernel closes the connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import structlog

from pipe.errors import NotMoved, PipeError
from pipe.hub.far import FarVisit
from pipe.language.names import parse_topic
from pipe.mesh.directory import WorkerId
from pipe.ssh.channel import Channel as SSHChannel
from pipe.ssh.handover import export

if TYPE_CHECKING:
    from pipe.hub.channel import Channel, Message
    from pipe.hub.far import FarGate
    from pipe.language.names import TopicName
    from pipe.mesh.mesh import Mesh
    from pipe.mesh.peers import Peers
    from pipe.service import Service
    from pipe.session.session import Session
    from pipe.ssh.server import SSHServer

log = structlog.get_logger()


class Crate:
    """Room for a socket and for bytes of any number, which goes away as one descriptor.

    Raises:
        OSError: there can be none; everything that may fail has then failed, but for memory.
    """

    def __init__(self) -> None:
        self._memory = os.memfd_create("moved", os.MFD_CLOEXEC)
        try:
            self._inside, self._outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            os.close(self._memory)
            raise

    def fill(self, client: socket.socket, data: bytes) -> socket.socket:
        """Put everything in, and return what to send."""
        with client, os.fdopen(self._memory, "wb", closefd=False) as memory:
            memory.write(data)
            memory.flush()
            socket.send_fds(self._inside, [b"\0"], [client.fileno(), self._memory])
        os.close(self._memory)
        self._inside.close()
        return self._outside

    def close(self) -> None:
        """Let go of it, as nothing is sent."""
        os.close(self._memory)
        self._inside.close()
        self._outside.close()


def empty(crate: socket.socket | None) -> tuple[socket.socket, bytes]:
    """Take out what a `Crate` was filled with.

    Raises:
        OSError: nothing is in it, or there is none.
    """
    descriptors: list[int] = []
    if crate:
        with crate:
            crate.setblocking(False)
            _, descriptors, _, _ = socket.recv_fds(crate, 1, 2)
    if len(descriptors) != 2:
        for one in descriptors:
            os.close(one)
        raise OSError("there are no descriptors left")
    client, memory = descriptors
    connection = socket.socket(fileno=client)
    with os.fdopen(memory, "rb") as file:
        file.seek(0)
        return connection, file.read()


class Moves:
    """Those of one worker.

    Args:
        service: what its connections share.
        server: has them.
        gate: has their visits.
        channel: to the hub.
        peers: this worker, and the others.
    """

    mesh: Mesh

    def __init__(
        self, service: Service, server: SSHServer, gate: FarGate, channel: Channel, peers: Peers
    ) -> None:
        self._service = service
        self._server = server
        self._gate = gate
        self._channel = channel
        self._peers = peers

    def carry(self, front: object, topic: TopicName, home: WorkerId) -> bool:
        """Send a client to the worker where its topic is at home.

        Returns:
            Whether it is gone; if not, nothing has changed.
        """
        if home.node != self._peers.own.worker.node:
            return False
        sent = self._send(front, topic, home)
        if not sent:
            self.mesh.figures.moves["stayed"] += 1
        return sent

    def _send(self, front: object, topic: TopicName, home: WorkerId) -> bool:
        if not isinstance(front, SSHChannel):
            return False
        visit, peer = front.connection.visit, self._peers.others.get(home)
        if not isinstance(visit, FarVisit) or peer is None or peer.leaving or self._channel.full:
            return False
        if peer.build != self._peers.own.build:
            return False  # it is of another version
        try:
            crate = Crate()
        except OSError:
            return False
        visit.moves = True  # so that the hub does not hear that it has left
        try:
            parcel = export(self._service, front)
        except NotMoved as error:
            log.debug("connection stays", reason=error.message)
            visit.moves = False
            crate.close()
            return False
        try:
            goods = crate.fill(parcel.socket, parcel.cargo.encode())
        except OSError as error:
            log.error("connection lost on its way to another worker", reason=str(error))
            crate.close()
            self._gate.tell_left(visit)
            self.mesh.withdraw(topic, home)
            self.mesh.figures.moves["failed"] += 1
            return True
        message = {
            "type": "move",
            "guest": visit.number,
            "source": visit.source,
            "trusted": visit.trusted,
            "topic": str(topic),
            "home": home,
        }
        self._channel.send(message, goods)
        return True

    async def take(self, message: Message, crate: socket.socket | None) -> None:
        """Go on with a connection that the hub has handed on.

        If it comes back to where it was, as the other worker has gone or is full, it stays.

        Args:
            message: what the hub says of it.
            crate: from `Crate.fill`; None if there was no descriptor left for it.
        """
        visit = self._gate.receive(message["guest"], message["source"], trusted=message["trusted"])
        arrival = None
        if not message["returned"]:
            topic = parse_topic(message["topic"], caller="")
            arrival = self.mesh.receive(topic, WorkerId(*message["asker"]))
        begun = False

        def ready(session: Session) -> None:
            nonlocal begun
            begun = True
            session.visit = arrival
            session.movable = False

        try:
            client, state = empty(crate)
            await self._server.adopt(state, client, ready, visit)
            self.mesh.figures.moves["returned" if message["returned"] else "moved"] += 1
        except (PipeError, OSError) as error:
            self.mesh.figures.moves["failed"] += 1
            text = error.message if isinstance(error, PipeError) else str(error)
            log.warning("connection not taken over", reason=text)
            visit.leave(None, asyncio.get_running_loop().time())
        finally:
            if arrival and not begun:
                arrival.settle()
