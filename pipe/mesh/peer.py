"""This process as a peer of Eclipse Zenoh: its session, and who else is there.

Zenoh finds the nodes, says who is alive, and carries questions over mutual TLS; links are streams
of our own (`pipe.mesh.tls`).  No other module imports it, and nothing imports this one unless the
server is part of a mesh.

Its calls may wait for a network, and so none is made in the event loop; what it tells comes in
threads of its own.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import zenoh

from pipe.errors import BadName, StartError
from pipe.language.names import escape
from pipe.language.places import Place
from pipe.mesh.directory import WorkerId
from pipe.mesh.greeting import BadGreeting, read_identity
from pipe.mesh.identity import PROTOCOL, Identity, disagreement
from pipe.mesh.members import Members

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipe.mesh.certificates import MeshFiles

_PREFIX = f"pipe/{PROTOCOL}"
"""The version is in every key, so two can live side by side."""

LEASE_MILLISECONDS = 2000
"""A peer that sends nothing for so long is gone, and its liveliness token with it."""

WAIT_BEFORE_CLOSE = 3_000_000
"""Microseconds that a congested peer has before its transport is closed; without a bound, one that
stands still holds up all others, and Zenoh has been seen to fail at the end."""

HANDSHAKE_MILLISECONDS = 3000
"""How long a stranger at the port may take for TLS."""

ASK_SECONDS = 1.0

MAX_UNTOLD = 16
"""Messages that wait to be sent; with more, the next is lost, as on a network that is full."""


class ZenohPeer:
    """One process's session.  Make it with `ZenohPeer.open`.

    Attributes:
        me: the worker that this process is; number 0 is a machine's hub.
        members: who else is there.
    """

    def __init__(self, session: zenoh.Session, me: WorkerId, identity: Identity) -> None:
        self._session = session
        self.me = me
        self._identity = identity
        self.members = Members()
        self._loop = asyncio.get_running_loop()
        self._declared: list[Any] = []
        self._tokens: dict[WorkerId, Any] = {}
        self._speaker = ThreadPoolExecutor(1, "mesh")
        self._untold = 0
        self._listener: Callable[[WorkerId, bytes], None] | None = None

    @classmethod
    async def open(
        cls,
        me: WorkerId,
        identity: Identity,
        files: MeshFiles,
        listen: str,
        join: Sequence[str] = (),
    ) -> Self:
        """Become part of the mesh.

        Args:
            me: the worker that this process is.
            identity: what all nodes must have in common.
            files: the node's certificate.
            listen: ``host:port`` for other peers.
            join: ``host:port`` of any that may be there; gossip tells of the others.

        Raises:
            StartError: the address or the certificates cannot be used.
        """
        config = _configure(files, listen, join)
        try:
            session = await asyncio.to_thread(zenoh.open, config)
        except zenoh.ZError as error:
            raise StartError(
                f"cannot join the mesh at {escape(listen)}: {_brief(error)}"
            ) from error
        peer = cls(session, me, identity)
        try:
            await asyncio.to_thread(peer._watch)
        except BaseException:
            await peer.close()
            raise
        return peer

    async def appear(self, worker: WorkerId | None = None, place: Place | None = None) -> None:
        """Let the others see a worker: it can be reached now.

        Args:
            worker: which, of this machine; by default this one.
            place: where it takes links.
        """
        await asyncio.to_thread(self._declare_token, worker or self.me, place)

    async def vanish(self, worker: WorkerId) -> None:
        """Let the others see that a worker of this machine is gone."""
        token = self._tokens.pop(worker, None)
        if token:
            await asyncio.to_thread(token.undeclare)

    async def check(self) -> None:
        """Ask all nodes whether they are of the same service.

        Raises:
            StartError: one is not; the message says how to mend it.
        """
        for node, identity in await asyncio.to_thread(self._ask):
            reason = disagreement(self._identity, identity, node)
            if node == self.me.node and self.me.number == 0:
                reason = f"there is a node {node} already: give this one another --node"
            if reason:
                raise StartError(f"cannot join the mesh: {reason}")

    def listen(self, heard: Callable[[WorkerId, bytes], None]) -> None:
        """Be told from now on what others `tell`, and who."""
        self._listener = heard

    def tell(self, data: bytes, *, whole: bool = False) -> None:
        """Tell all others, in the order of the calls, without waiting.

        What finds the network full is lost; one that is ``whole`` waits for it, in its thread.
        """
        if self._untold < MAX_UNTOLD:
            self._untold += 1
            self._speaker.submit(self._put, data, whole)

    async def close(self) -> None:
        """Leave the mesh, once everything is told."""
        await asyncio.to_thread(self._speaker.shutdown)
        await asyncio.to_thread(self._session.close)

    # -- in threads -------------------------------------------------------------------------------

    def _watch(self) -> None:
        answer = json.dumps([self.me.node, self._identity])
        key = f"{_PREFIX}/ask/{_worker_key(self.me)}"

        def asked(query: zenoh.Query) -> None:
            query.reply(key, answer)

        def seen(sample: zenoh.Sample) -> None:
            there = sample.kind == zenoh.SampleKind.PUT  # each is a new object
            self._call_soon(self._seen, str(sample.key_expr), there)

        def told(sample: zenoh.Sample) -> None:
            self._call_soon(self._heard, str(sample.key_expr), sample.payload.to_bytes())

        self._declared += (
            self._session.declare_queryable(key, asked),
            self._session.declare_subscriber(
                f"{_PREFIX}/told/**", told, allowed_origin=zenoh.Locality.REMOTE
            ),
            self._session.liveliness().declare_subscriber(f"{_PREFIX}/node/**", seen, history=True),
        )

    def _put(self, data: bytes, whole: bool) -> None:
        control = zenoh.CongestionControl
        try:
            self._session.put(
                f"{_PREFIX}/told/{_worker_key(self.me)}",
                data,
                congestion_control=control.BLOCK if whole else control.DROP,
                priority=zenoh.Priority.INTERACTIVE_HIGH,
            )
        except zenoh.ZError:  # as if it were lost
            return
        finally:
            self._call_soon(self._told)

    def _declare_token(self, worker: WorkerId, place: Place | None) -> None:
        key = f"{_PREFIX}/node/{_worker_key(worker)}" + (f"/{place}" if place else "")
        self._tokens[worker] = self._session.liveliness().declare_token(key)

    def _ask(self) -> list[tuple[str, Identity]]:
        """Ask every version: the number is one of the things that are compared."""
        found = []
        for reply in self._session.get(
            "pipe/*/ask/**",
            target=zenoh.QueryTarget.ALL,
            consolidation=zenoh.ConsolidationMode.NONE,
            timeout=ASK_SECONDS,
            priority=zenoh.Priority.INTERACTIVE_HIGH,
            allowed_destination=zenoh.Locality.REMOTE,
        ):
            sample = reply.ok
            if sample is None:
                continue
            try:
                node, identity = json.loads(sample.payload.to_bytes())
                found.append((str(node), read_identity(identity)))
            except (ValueError, BadGreeting):
                continue
        return found

    def _call_soon(self, call: Any, *arguments: object) -> None:  # noqa: ANN401 - any of ours
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended before Zenoh
            return

    # -- in the loop ------------------------------------------------------------------------------

    def _told(self) -> None:
        self._untold -= 1

    def _heard(self, key: str, data: bytes) -> None:
        worker = _parse_worker_key(key.removeprefix(f"{_PREFIX}/told/").split("/"))
        if worker and self._listener:
            self._listener(worker, data)

    def _seen(self, key: str, there: bool) -> None:
        parts = key.removeprefix(f"{_PREFIX}/node/").split("/")
        worker = _parse_worker_key(parts[:3])
        if worker is None or worker == self.me:
            return
        if there:
            self.members.appeared(worker, _place(parts[3:]))
        else:
            self.members.vanished(worker)


def _worker_key(worker: WorkerId) -> str:
    """A worker as three parts of a key."""
    return f"{worker.node}/{worker.number}/{worker.epoch}"


def _parse_worker_key(parts: Sequence[str]) -> WorkerId | None:
    """Read them; None if they name no worker."""
    match parts:
        case [node, number, epoch] if all(
            part.isascii() and part.isdigit() and len(part) < 21 for part in (number, epoch)
        ):
            return WorkerId(node, int(number), int(epoch))
    return None


def _place(parts: Sequence[str]) -> Place | None:
    """Read what stands behind a worker in a key, if it is a place."""
    try:
        return Place.parse("/".join(parts)) if parts else None
    except BadName:
        return None


def _configure(files: MeshFiles, listen: str, join: Sequence[str]) -> zenoh.Config:
    """Zenoh's settings; what it finds in files or the environment does not count."""
    certificate, key = str(files.certificate), str(files.key)
    settings: dict[str, object] = {
        "mode": "peer",
        "listen/endpoints": [f"tls/{listen}#tls_handshake_timeout_ms={HANDSHAKE_MILLISECONDS}"],
        "listen/exit_on_failure": True,
        "connect/endpoints": [f"tls/{place}" for place in join],
        "connect/timeout_ms": 0,
        "connect/exit_on_failure": False,
        "connect/retry": {
            "period_init_ms": 250,
            "period_max_ms": 2000,
            "period_increase_factor": 2,
        },
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": True,
        "adminspace/enabled": False,
        "plugins_loading/enabled": False,
        "timestamping/enabled": False,
        "transport/shared_memory/enabled": False,
        "transport/link/protocols": ["tls"],
        "transport/link/tx/lease": LEASE_MILLISECONDS,
        "transport/link/tx/queue/congestion_control/block/wait_before_close": WAIT_BEFORE_CLOSE,
        "transport/link/tls": {
            "root_ca_certificate": str(files.ca),
            "listen_certificate": certificate,
            "listen_private_key": key,
            "connect_certificate": certificate,
            "connect_private_key": key,
            "enable_mtls": True,
            "verify_name_on_connect": False,
            "close_link_on_expiration": True,
        },
    }
    config = zenoh.Config()
    for name, value in settings.items():
        config.insert_json5(name, json.dumps(value))
    return config


def _brief(error: BaseException) -> str:
    """Its first sentence; the rest names lines of Zenoh's source."""
    return escape(str(error).split(" at ")[0].strip())
