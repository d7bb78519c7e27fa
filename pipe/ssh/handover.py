"""Hands a live SSH connection to another process of the service, and takes one over.

A session whose topic is at home in another process costs nothing more there if its whole connection
moves: the descriptor travels over a Unix socket with a `State` of some 1.4 KiB, and the client
notices nothing.  `why_not` says what cannot move, `export` takes a connection out of this process,
and `adopt` lets it go on in another one:

    there                                          here
    why_not(channel) is empty
    moved = export(service, channel)
    send moved.encode() and moved.socket  ──────▶  adopt(…, decode(data), socket)
    moved.socket.close()

Rules:

- A connection is in one process, or on its way.  Whoever has it counts it: its place at the gate,
  its quotas, its tenure and its sessions are given back there and taken here.
- From `export` on there is no way back: if the state is not sent, or nobody takes it, the last copy
  of the descriptor is closed, and the client sees that its connection was closed (`ssh`: 255).
- The other process asks again whether the user, its key and its place in a file or certificate
  still hold.  What was taken away in between counts as if it had always been there.
- A state holds keys.  It goes to another process of the same user on the same machine and nowhere
  else; neither errors nor logs nor a `repr` show what is in it.
- Both processes are of the same build.  What another build means by a field is not guessed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import asyncssh
import structlog
from pydantic import Field, ValidationError

from pipe import __version__
from pipe.errors import BadName, Ending, NotMoved, PipeError, QuotaExceeded
from pipe.language.names import TopicName, parse_pattern
from pipe.language.requests import Pipe, Publish, Subscribe, parse
from pipe.ssh.auth import Peer, Standing, caller_of
from pipe.ssh.lane import LaneConnection
from pipe.ssh.lane.moving import (
    Count,
    LaneState,
    Strict,
    detach,
    go_on,
    open_channel,
    prepare,
    take,
    why_stuck,
)
from pipe.ssh.login.logins import Identity
from pipe.ssh.login.restrictions import Restrictions
from pipe.store.guard import Mark
from pipe.stream.chunks import Chunk
from pipe.stream.traffic import Traffic

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pipe.limits.gate import Visit
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.session.session import Session
    from pipe.ssh.channel import Channel
    from pipe.ssh.lane import Outbox

LAYOUT = 1
"""Goes up when a field means something else than before."""

MAX_CARRIED_BYTES = 2 << 20
"""What may go along of the client's input: a usual window (1 MiB), and what was read after it."""

MAX_STATE_BYTES = MAX_CARRIED_BYTES + (64 << 10)
"""The largest encoded state."""

_DIGEST_BYTES = 32
_SIZE_BYTES = 4
BUILD = hashlib.sha256(
    f"pipe {__version__} asyncssh {asyncssh.__version__} layout {LAYOUT}".encode()
).digest()
"""By which processes tell whether they understand each other's states."""

log = structlog.get_logger()


class Terms(Strict):
    """`pipe.ssh.login.restrictions.Restrictions`, field by field."""

    command: str | None
    pty: bool
    forwarding: bool
    opens: frozenset[tuple[str, str]]
    certified_addresses: str


class Who(Strict):
    """`pipe.ssh.login.logins.Identity`, as of the login."""

    user: str = Field(min_length=1, max_length=255)
    fingerprint: str
    admin: bool
    terms: Terms
    expires: float | None
    filed: bool
    authority: str
    stored: bool

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """Write an identity down; what concerned only its login is left out."""
        terms = identity.restrictions
        return cls(
            user=identity.user,
            fingerprint=identity.fingerprint,
            admin=identity.admin,
            terms=Terms(
                command=terms.command,
                pty=terms.pty,
                forwarding=terms.forwarding,
                opens=terms.opens,
                certified_addresses=terms.certified_addresses,
            ),
            expires=identity.expires,
            filed=identity.filed,
            authority=identity.authority,
            stored=identity.stored,
        )

    @property
    def identity(self) -> Identity:
        """The identity again."""
        terms = self.terms
        return Identity(
            self.user,
            self.fingerprint,
            admin=self.admin,
            restrictions=Restrictions(
                terms.command, terms.pty, terms.forwarding, terms.opens, terms.certified_addresses
            ),
            expires=self.expires,
            filed=self.filed,
            authority=self.authority,
            stored=self.stored,
        )


class Moved(Strict):
    """`pipe.stream.traffic.Traffic`: what the sessions before this one moved."""

    received: Count
    received_chunks: Count
    delivered: Count
    delivered_chunks: Count
    paused_seconds: float
    waited_seconds: float


class State(Strict):
    """A connection, but for its descriptor and its client's input."""

    who: Who
    seconds: float = Field(ge=0)
    """Since it came in."""
    used_tunnels: bool
    source: str
    """Where it is from, as the gate writes it."""
    trusted: bool
    sessions: int = Field(ge=1)
    """How many there have been, this one included."""
    traffic: Moved
    newest_change: Count
    missing_changes: tuple[int, ...] = Field(max_length=1000)
    """How far the guard had read the log of changes (`pipe.store.guard.Mark`)."""
    lane: LaneState


class Cargo(NamedTuple):
    """What travels beside the descriptor: the state and the client's input.

    ``early`` is what the session got and did not use, ``unread`` what the connection has not
    handled, sealed.
    """

    state: State
    early: bytes
    unread: bytes

    def __repr__(self) -> str:
        """Show no bytes of the client's."""
        return f"<Cargo: {len(self.early)} and {len(self.unread)} bytes of input>"

    def encode(self) -> bytes:
        """Return it as bytes for `decode`, at most `MAX_STATE_BYTES`."""
        head = self.state.model_dump_json().encode()
        sizes = (len(head), len(self.early))
        body = b"".join(
            (*(size.to_bytes(_SIZE_BYTES, "big") for size in sizes), head, self.early, self.unread)
        )
        return BUILD + hashlib.sha256(body).digest() + body


@dataclass(slots=True)
class Parcel:
    """A connection that is on its way; close its ``socket`` once it is sent, or was not."""

    cargo: Cargo
    socket: socket.socket = field(repr=False)


def decode(data: bytes) -> Cargo:
    """Read what `Cargo.encode` wrote.

    Raises:
        NotMoved: it is damaged, or was written by another build.
    """
    if len(data) > MAX_STATE_BYTES:
        raise NotMoved("the state of a connection is too large")
    build, digest = data[:_DIGEST_BYTES], data[_DIGEST_BYTES : 2 * _DIGEST_BYTES]
    if build != BUILD:
        raise NotMoved("a connection can be handed over only between processes of the same build")
    body = data[2 * _DIGEST_BYTES :]
    start = 2 * _SIZE_BYTES
    if len(body) < start or not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise NotMoved("the state of a connection is damaged")
    stop = start + int.from_bytes(body[:_SIZE_BYTES], "big")
    end = stop + int.from_bytes(body[_SIZE_BYTES:start], "big")
    if end > len(body):
        raise NotMoved("the state of a connection is cut short")
    try:
        state = State.model_validate_json(body[start:stop])
    except ValidationError as error:
        raise NotMoved(f"the state of a connection has a fault in: {_faults(error)}") from None
    return Cargo(state, body[stop:end], body[end:])


def _faults(error: ValidationError) -> str:
    """The names of the fields that are not as they should be, without what is in them."""
    return ", ".join(".".join(map(str, one["loc"])) or "its form" for one in error.errors())


# -- out ------------------------------------------------------------------------------------------


def why_not(channel: Channel) -> str:
    """Say why the connection of a session cannot move now; empty if it can.

    The session must not have joined yet, and nothing of its request may be under way but the
    question where it belongs.
    """
    connection = channel.connection
    if not isinstance(connection, LaneConnection):
        return "it is not on the fast lane"
    stuck = why_stuck(connection, channel.channel)
    if stuck:
        return stuck
    if channel.has_terminal:
        return "its client has a terminal"
    if channel.session.member is not None:
        return "it has joined already"
    return _why_not_this(channel.command, channel.session.caller)


def _why_not_this(command: str, caller: Caller) -> str:
    """Say why a request is no reason to move."""
    try:
        request = parse(command)
        if not isinstance(request, (Publish, Subscribe, Pipe)):
            return "its request is none for a topic"
        if not request.topic:
            return "its request names no topic"
        name = parse_pattern(request.topic, caller=caller.user, public=request.public)
    except (BadName, PipeError):
        return "its request is faulty"
    return "" if isinstance(name, TopicName) else "its request is for a pattern"


def export(service: Service, channel: Channel) -> Parcel:
    """Take the connection of a session out of this process.

    The client is told nothing.  A moment later everything that counts the connection here is given
    back, and its session is closed: a task of that session's own is cancelled.

    Raises:
        NotMoved: `why_not` has a reason, or what was still unsent does not fit the socket: nothing
            has changed.
    """
    reason = why_not(channel)
    connection, peer = channel.connection, channel.connection.peer
    standing = peer.standing if isinstance(peer, Peer) else None
    if reason or not isinstance(connection, LaneConnection) or standing is None:
        raise NotMoved(reason or "nobody has logged in on it yet")
    barred = service.access.why_barred(channel.session.caller)
    if barred:
        raise NotMoved(barred)
    try:
        lane, unread = take(connection, channel.channel, channel.command)
        state = _state(service, connection.visit, standing, lane)
    except ValidationError as error:  # it would be refused there
        raise NotMoved(f"{_faults(error)} cannot be handed over") from None
    pieces = list(channel.session.take_back())
    early = b"".join(piece.data for piece in pieces)
    if len(early) + len(unread) > MAX_CARRIED_BYTES:
        _put_back(channel, early)
        raise NotMoved("too much of its input is unread")
    connection.ending = Ending.MOVED
    try:
        socket = detach(connection)
    except OSError as error:
        connection.ending = None
        _put_back(channel, early)
        raise NotMoved(f"no copy of its descriptor can be made: {error.strerror}") from error
    return Parcel(Cargo(state, early, unread), socket)


def _put_back(channel: Channel, early: bytes) -> None:
    """Give a session what was taken from it."""
    if early:
        channel.session.feed(Chunk(early))


def _state(service: Service, visit: Visit, standing: Standing, lane: LaneState) -> State:
    mark, traffic = service.guard.mark, visit.traffic
    return State(
        who=Who.of(standing.identity),
        seconds=max(0.0, standing.seconds),
        used_tunnels=standing.used_tunnels,
        source=visit.source,
        trusted=visit.trusted,
        sessions=visit.sessions,
        traffic=Moved(
            received=traffic.received,
            received_chunks=traffic.received_chunks,
            delivered=traffic.delivered,
            delivered_chunks=traffic.delivered_chunks,
            paused_seconds=traffic.paused_seconds,
            waited_seconds=traffic.waited_seconds,
        ),
        newest_change=mark.newest,
        missing_changes=mark.missing,
        lane=lane,
    )


# -- in -------------------------------------------------------------------------------------------


async def adopt(
    service: Service,
    options: asyncssh.SSHServerConnectionOptions,
    outbox: Outbox,
    cargo: Cargo,
    socket: socket.socket,
    ready: Callable[[Session], object] = lambda _: None,
    visit: Visit | None = None,
) -> LaneConnection:
    """Go on with a connection from another process.  The socket belongs to it from now on.

    A user or key that was removed in between is told so by the session, with status 77.

    Args:
        service: what all connections share.
        options: asyncssh's options; they make a `Peer` of each connection.
        outbox: flushes it.
        cargo: what came with the descriptor.
        socket: the descriptor.
        ready: called with the session before it begins.
        visit: if the gate has counted it already.

    Raises:
        NotMoved: it cannot go on here; its client has been told, or sees a closed connection.
    """
    state = cargo.state
    loop = asyncio.get_running_loop()
    try:
        caller = await _judge(service, state)
        visit = _enter(service, state, visit)
    except BaseException:
        socket.close()
        raise
    connection = LaneConnection(loop, options, service, outbox)
    connection.visit = visit
    prepare(connection, state.lane)
    arrival = _Arrival(service, connection, cargo, caller, ready)
    try:
        await loop.connect_accepted_socket(lambda: arrival, socket)
    except BaseException as error:
        if connection.transport is None:
            visit.leave(None, loop.time())
            socket.close()
        else:
            connection.cut_off(Ending.FAILED)
        if isinstance(error, OSError):
            raise NotMoved(f"its socket cannot be used: {error.strerror or error}") from error
        raise
    if arrival.error:
        raise NotMoved(arrival.error)
    log.info("connection taken over", user=caller.user, address=connection.address)
    return connection


async def _judge(service: Service, state: State) -> Caller:
    """Make the caller, who is barred if anything was taken from it in between.

    Raises:
        StoreUnavailable: it cannot be known now.
    """
    await service.guard.catch_up()
    caller = caller_of(state.who.identity)
    mark = Mark(state.newest_change, state.missing_changes)
    text = await service.guard.why_lost(caller, mark)
    if text:
        service.access.dismiss(caller, text)
    return caller


def _enter(service: Service, state: State, counted: Visit | None) -> Visit:
    try:
        visit = counted or service.gate.take_over(state.source, trusted=state.trusted)
    except QuotaExceeded as error:
        service.metrics.refused.labels(error.resource).inc()
        raise NotMoved(error.message) from error
    visit.sessions = state.sessions - 1  # this one will be counted
    visit.traffic = Traffic(**state.traffic.model_dump())
    return visit


class _Arrival(asyncio.Protocol):
    """The first protocol of a transport: gives it to the connection, in one step.

    Args:
        service: what all connections share.
        connection: prepared.
        cargo: what goes on.
        caller: who has logged in.
        ready: called with the session before it begins.
    """

    def __init__(
        self,
        service: Service,
        connection: LaneConnection,
        cargo: Cargo,
        caller: Caller,
        ready: Callable[[Session], object],
    ) -> None:
        self._service = service
        self._connection = connection
        self._cargo = cargo
        self._caller = caller
        self._ready = ready
        self.error = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin where the other process has stopped, or end the connection."""
        connection = self._connection
        cast("asyncio.Transport", transport).set_protocol(connection)
        connection.connection_made(transport)
        try:
            self._begin(cast("Peer", connection.peer))
        except QuotaExceeded as error:
            self._end(error.message)
        except asyncssh.ChannelOpenError as error:
            self._end(error.reason)
        except Exception:  # noqa: BLE001 - it ends this connection and no other
            self.error = "a fault of ours"
            connection.internal_error()

    def _begin(self, peer: Peer) -> None:
        connection, (state, early, unread) = self._connection, self._cargo
        standing = Standing(state.who.identity, state.seconds, state.used_tunnels)
        peer.resume(standing, self._caller)
        channel = peer.session_requested()
        lane = state.lane
        open_channel(connection, lane.channel, channel)
        self._ready(channel.session)
        command = lane.channel.command.decode("utf-8", "surrogateescape")
        channel.resume(command, early, ended=lane.channel.ended)
        go_on(connection, lane, unread)

    def _end(self, text: str) -> None:
        self.error = text
        draining = self._service.draining
        self._connection.cut_off(Ending.SHUTDOWN if draining else Ending.QUOTA, text)
