"""One SSH connection: asyncssh's, plus what asyncssh lacks.

This adds the following, using only public methods of asyncio and asyncssh:

- TCP backpressure.  asyncssh ignores the transport's ``pause_writing``, so for a peer with a large
  window that stops reading the server would buffer without end.  Here a connection is *blocked*
  while its transport is above its high water or keys are exchanged, and its ports are clogged.
- An end to key exchanges that never finish.
- An end to clients that ask and do not read (`pipe.ssh.answers`).
- The reason for each end, an `Ending`.
- A minimum for the packet size that a client accepts.
- No more sessions once the client asks for that (`pipe.ssh.openssh`).
- The commitment of an identity: the key whose signature was verified, and no other.
- A limit on failed authentication attempts.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import asyncssh
import structlog
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_NEWKEYS,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.packet import PacketDecodeError, SSHPacket

from pipe.errors import Ending
from pipe.limits.gate import Visit
from pipe.settings import Lane
from pipe.ssh.answers import Answers
from pipe.ssh.confirmation import ConfirmedChannel
from pipe.ssh.level_logger import LevelLogger
from pipe.ssh.openssh import no_more_sessions_as_keepalive
from pipe.ssh.port import Port
from pipe.ssh.tries import Tries
from pipe.ssh.windows import TunnelChannel

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from asyncssh.channel import SSHChannel
    from asyncssh.packet import SSHPacketLogger

    from pipe.service import Service
    from pipe.session.front import Owner
    from pipe.ssh.windows import Windowed

TRANSPORT_HIGH_WATER_BYTES = 1 << 20
"""A connection with more unsent data than this is blocked.  A subscriber's own buffer is as large:
two such buffers and a packet stay well below the 4 MiB that one stalled subscriber may hold."""

TRANSPORT_LOW_WATER_BYTES = 1 << 18
"""A blocked connection goes on below this: a quarter, so that the socket does not run dry."""

MIN_PACKET_BYTES = 1024
"""The smallest maximum packet size that a client may set.  Every packet costs the same however
little is in it: a reader of one-byte packets stopped the event loop for 20 s with one MiB.  Known
clients take 16 KiB and more; RFC 4253, section 6.1, requires all of them to take 32 KiB."""


_STREAM_MESSAGES = frozenset(
    (MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA, MSG_CHANNEL_WINDOW_ADJUST)
)
"""Messages that belong to a stream and are bounded with it; all others answer the client."""

_PROTOCOL_CODES = frozenset(
    (
        asyncssh.DISC_PROTOCOL_ERROR,
        asyncssh.DISC_KEY_EXCHANGE_FAILED,
        asyncssh.DISC_MAC_ERROR,
        asyncssh.DISC_COMPRESSION_ERROR,
        asyncssh.DISC_PROTOCOL_VERSION_NOT_SUPPORTED,
    )
)

_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER (socket(7)): on, with a time of 0."""

log = structlog.get_logger()

_asyncssh_log = LevelLogger()


class Client(Protocol):
    """The client at the other end, as far as a connection needs to know it."""

    async def screen(self, username: str, key_data: bytes, signature: bytes) -> bool:
        """Return whether to consider a key or certificate and its signature at all."""

    async def commit(self, username: str, key_data: bytes) -> bool:
        """Return whether this key, whose signature was verified, logs the client in."""

    def session_closed(self) -> None:
        """One of its channels is gone."""


class Connection(asyncssh.SSHServerConnection):
    """What connections on both data paths have in common.

    Args:
        loop: the event loop that it lives on.
        options: asyncssh's options, see `pipe.ssh.server`.
        service: what all connections share.
    """

    # asyncssh's connections have so many attributes that a few more double the size of their dict.
    __slots__ = (
        "_answers",
        "_authenticated",
        "_client_keys",
        "_client_waits_for_keys",
        "_clock",
        "_no_more_sessions",
        "_opens_tunnel",
        "_rekey_timeout",
        "_rekey_timer",
        "_said_goodbye",
        "_service",
        "_speaks_ssh",
        "_transport_full",
        "_tries",
        "address",
        "blocked",
        "ending",
        "keys",
        "left_before_keys",
        "lost",
        "peer",
        "peer_address",
        "ports",
        "transport",
        "turns",
        "visit",
    )

    channel_class: ClassVar[type[ConfirmedChannel]] = ConfirmedChannel
    tunnel_class: ClassVar[type[TunnelChannel]] = TunnelChannel

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: asyncssh.SSHServerConnectionOptions,
        service: Service,
    ) -> None:
        super().__init__(loop, options)
        self.ports: dict[Port, None] = {}
        self.blocked = False
        self.lost = False  # whether nothing sent from now on arrives
        self.peer: Client | None = None
        self.transport: asyncio.Transport | None = None
        self.peer_address = ""  # the client's IP address
        self.address = ""  # the same with the port, for people to read
        self._service = service
        self._clock = loop
        self.turns = service.turns
        self._rekey_timeout = service.settings.rekey_timeout
        self._rekey_timer: asyncio.TimerHandle | None = None
        self._tries = Tries(service.settings.max_auth_tries)
        self._transport_full = False
        self._authenticated = False
        self._speaks_ssh = False  # whether a packet has arrived
        self._said_goodbye = False
        self._no_more_sessions = False  # whether the client asked for that
        self._opens_tunnel = False  # while a request for one is handled
        self._client_keys = 0  # key exchanges that it began or agreed to
        self._client_waits_for_keys = False  # so that it may send nothing else
        self.keys = 0  # how many new keys outgoing packets have had
        self.left_before_keys = 0  # keys that the client awaited when it disconnected
        self._answers: Answers | None = None  # while it is blocked and asks
        self.visit = Visit("")  # until the gate says where it is from
        self.ending: Ending | None = None  # once there is a reason

    @property
    def lane(self) -> Lane:
        """Which data path this connection is on."""
        return Lane.ASYNCSSH

    @property
    def logger(self) -> LevelLogger:
        """The logger that asyncssh uses for this connection."""
        return _asyncssh_log

    def log_received_packet(self, *_: object) -> None:
        """Log no packets: asyncssh would format each one, whatever the level."""

    def log_sent_packet(self, *_: object) -> None:
        """Log no packets."""

    def check_key_permission(self, permission: str) -> bool:
        """Permit pseudo-terminals, and tunnels to be judged by the client's `Peer`.

        All other forwarding is refused at once: asyncssh would decide in a task, which fails if the
        connection is gone by then.
        """
        return permission == "pty" or (permission == "port-forwarding" and self._opens_tunnel)

    def check_certificate_permission(self, permission: str) -> bool:
        """Leave tunnels to be judged by the client's `Peer` as well."""
        if permission == "port-forwarding":
            return self._opens_tunnel
        return super().check_certificate_permission(permission)

    def create_server_channel(
        self,
        encoding: str | None = None,
        errors: str = "strict",
        window: int = 0,
        max_pktsize: int = 0,
    ) -> asyncssh.SSHServerChannel[bytes]:
        """Make a session's channel: bytes, no line editor."""
        return self.channel_class(
            self,
            self._clock,
            allow_pty=True,
            line_editor=False,
            line_echo=False,
            line_history=0,
            max_line_length=0,
            encoding=encoding,
            errors=errors,
            window=window,
            max_pktsize=max_pktsize,
        )

    def create_tcp_channel(
        self,
        encoding: str | None = None,
        errors: str = "strict",
        window: int = 0,
        max_pktsize: int = 0,
    ) -> asyncssh.SSHTCPChannel[bytes]:
        """Make a tunnel's channel."""
        return self.tunnel_class(self, self._clock, encoding, errors, window, max_pktsize)

    def make_port(self, owner: Owner, channel: SSHChannel[bytes]) -> Port:
        """Give a new session or tunnel its data path."""
        made = cast("Windowed", channel)  # by one of the two above
        return Port(owner, made, self, self._service.router, self._service.settings.buffer)

    def session_closed(self) -> None:
        """One of the sessions is gone."""
        if self.peer:
            self.peer.session_closed()

    # -- the end ----------------------------------------------------------------------------------

    def cut_off(self, ending: Ending, text: str = "") -> None:
        """End it for this reason, and tell the client if it still listens."""
        if self.lost or self.is_closed():
            return
        self.ending = self.ending or ending
        self.disconnect(asyncssh.DISC_BY_APPLICATION, text or f"Closed: {ending.label}")

    def why_ended(self, exc: Exception | None) -> Ending:
        """The reason why it ended; ``exc`` is what asyncssh says about it."""
        if self.ending:
            return self.ending
        if isinstance(exc, asyncssh.ConnectionLost):
            return self._lost
        if isinstance(exc, asyncssh.DisconnectError) and exc.code in _PROTOCOL_CODES:
            return Ending.PROTOCOL
        return Ending.CLIENT

    @property
    def _lost(self) -> Ending:
        return Ending.LOST if self._speaks_ssh else Ending.PROBE

    def log_fields(self) -> dict[str, str]:
        """What the log says about the client's software and its data path."""
        version = str(self.get_extra_info("client_version", ""))
        to_server, to_client = (
            self.get_extra_info(name, "") for name in ("recv_cipher", "send_cipher")
        )
        return {
            "client": version.removeprefix("SSH-2.0-"),
            "cipher": to_server if to_server == to_client else f"{to_server}, {to_client}",
            "lane": self.lane.value if to_server else "",
        }

    def internal_error(
        self,
        exc_info: tuple[type[BaseException], BaseException, TracebackType]
        | tuple[None, None, None]
        | None = None,
        error_logger: object = None,
    ) -> None:
        """End this connection and no other because of a fault of ours, and log the fault.

        Some unreadable input ends up here too: in a packet whose handler is a coroutine, or a
        version string that is not ASCII.  After our DISCONNECT nothing is a fault: asyncssh goes on
        handling input when it no longer can.
        """
        _, error, _ = exc_info or sys.exc_info()
        if not self._said_goodbye:
            if isinstance(error, PacketDecodeError | UnicodeDecodeError):
                self.ending = self.ending or Ending.PROTOCOL
            else:
                self.ending = self.ending or Ending.FAILED
                log.error("connection failed", address=self.address, exc_info=error)
        self.lost = True
        super().internal_error(exc_info, error_logger)  # type: ignore[arg-type]

    # -- the transport ----------------------------------------------------------------------------

    @property
    def exchanges_keys(self) -> bool:
        """Whether new keys are still to come, so that asyncssh defers what is sent."""
        return self._rekey_timer is not None

    @property
    def holds_back(self) -> bool:
        """Whether what was sent has not reached the transport, or never will.

        asyncssh goes on sending for a turn or two after the end of the connection.
        """
        transport = self.transport
        return self.lost or self.exchanges_keys or transport is None or transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, with the transport's water marks set."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(
            high=TRANSPORT_HIGH_WATER_BYTES, low=TRANSPORT_LOW_WATER_BYTES
        )
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        self.peer_address, self.address = str(host), f"{host}:{port}"
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None = None) -> None:
        """End, with the timers stopped.

        From the transport ``exc`` is a system error or None; from asyncssh's timers for the login
        and for keepalive it is one of asyncssh's.
        """
        self.lose()
        self._stop_rekey_timer()
        self._forget_answers()
        if self.ending is None:
            if isinstance(exc, asyncssh.ConnectionLost):
                self.ending = Ending.DEAD if self._authenticated else Ending.LOGIN_TIMEOUT
            elif exc is not None:
                self.ending = self._lost
        if self.ending is Ending.DEAD:
            self._forget_unsent()
        super().connection_lost(exc)

    def lose(self) -> None:
        """Nothing reaches the client any longer, so nothing counts as written from now on.

        Its ports keep what they are given.  They are not told, as their sessions end in a moment.
        """
        self.lost = self.blocked = True

    def _forget_unsent(self) -> None:
        """Reset it, or the kernel would keep trying to send the rest to nobody for minutes."""
        sock = self.transport and self.transport.get_extra_info("socket")
        if sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def pause_writing(self) -> None:
        """The transport is above its high water."""
        self._transport_full = True
        self._update_blocked()

    def resume_writing(self) -> None:
        """The transport is below its low water."""
        self._transport_full = False
        self._update_blocked()

    def _update_blocked(self) -> None:
        blocked = self.lost or self._transport_full or self._rekey_timer is not None
        if blocked != self.blocked:
            self.blocked = blocked
            self._forget_answers()
            for port in list(self.ports):
                port.connection_changed()

    def _count_answer(self, size: int) -> None:
        if self.transport is None or self.transport.is_closing():
            # Nothing waits in it, and nobody would close the `Answers` again: the reference cycle
            # would keep the whole connection until garbage collection.
            return
        if self._answers is None:
            settings = self._service.settings
            self._answers = Answers(
                self._clock,
                lambda: self.transport.get_write_buffer_size() if self.transport else 0,
                self.cut_off,
                settings.max_unsent,
                settings.unread_timeout,
            )
        self._answers.add(size, deferred=not self._transport_full)

    def _forget_answers(self) -> None:
        if self._answers:
            self._answers.close()
            self._answers = None

    # -- receiving --------------------------------------------------------------------------------

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Handle a packet, counting attempts to log in and refusing some channels."""
        self._speaks_ssh = True
        if pkttype in {MSG_KEXINIT, MSG_NEWKEYS}:
            self._client_waits_for_keys = pkttype == MSG_KEXINIT
            self._client_keys += self._client_waits_for_keys
        elif pkttype == MSG_DISCONNECT:
            self.lost = True
            self.left_before_keys = self._client_keys if self._client_waits_for_keys else 0
        if pkttype == MSG_USERAUTH_REQUEST and not self._authenticated:
            self._count_try(lambda: self._tries.begin(packet))
        if pkttype == MSG_CHANNEL_OPEN and self._authenticated:
            return self._refuse_channel(packet) or self._open_channel(pkttype, pktid, packet)
        if pkttype == MSG_GLOBAL_REQUEST and self._authenticated:
            agreed = no_more_sessions_as_keepalive(packet)
            if agreed:
                self._no_more_sessions = True
                packet = agreed
        return super().process_packet(pkttype, pktid, packet)

    def _refuse_channel(self, packet: SSHPacket) -> bool:
        """Refuse a channel with too small packets or after the last; return whether it did."""
        request = SSHPacket(packet.get_remaining_payload())
        kind = request.get_string()
        number, _window, most = (request.get_uint32() for _ in range(3))
        if most < MIN_PACKET_BYTES:
            reason = f"packets of less than {MIN_PACKET_BYTES} bytes are not sent"
        elif self._no_more_sessions and kind == b"session":
            reason = "the client has said that it opens no more sessions"
        else:
            return False
        self.send_channel_open_failure(
            number, asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, reason, asyncssh.DEFAULT_LANG
        )
        return True

    def _open_channel(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        kind = SSHPacket(packet.get_remaining_payload()).get_string()
        self._opens_tunnel = kind == b"direct-tcpip"
        try:
            return super().process_packet(pkttype, pktid, packet)
        finally:
            self._opens_tunnel = False

    @property
    def only_forwards(self) -> bool:
        """Whether the client has said that it opens no more sessions: ``ssh -N`` does so first."""
        return self._no_more_sessions

    # -- key exchange -----------------------------------------------------------------------------

    def send_packet(
        self, pkttype: int, *args: bytes, handler: SSHPacketLogger | None = None
    ) -> None:
        """Send a packet, but none of asyncssh's empty IGNOREs, which guard only CBC ciphers.

        A KEXINIT blocks the connection: asyncssh defers data packets until it has new keys, without
        a bound.
        """
        if pkttype == MSG_IGNORE:
            return
        if pkttype == MSG_DISCONNECT:
            self._said_goodbye = self.lost = True
        if pkttype == MSG_KEXINIT and self._authenticated and self._rekey_timer is None:
            self._rekey_timer = self._clock.call_later(self._rekey_timeout, self._rekey_too_slow)
            self._update_blocked()
        super().send_packet(pkttype, *args, handler=handler)
        if self.blocked and pkttype not in _STREAM_MESSAGES:
            self._count_answer(sum(map(len, args)))

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Finish a key exchange."""
        self.keys += 1
        self._stop_rekey_timer()
        super().send_newkeys(k, h)  # sends deferred packets, which may start the next exchange
        self._update_blocked()

    def _stop_rekey_timer(self) -> None:
        if self._rekey_timer:
            self._rekey_timer.cancel()
            self._rekey_timer = None

    def _rekey_too_slow(self) -> None:
        self.ending = self.ending or Ending.REKEY
        self.connection_lost(
            asyncssh.ConnectionLost(f"no new keys within {self._rekey_timeout:g} seconds")
        )

    # -- authentication ---------------------------------------------------------------------------

    async def reload_config(self) -> None:
        """Do nothing: no configuration file depends on the user."""

    def _count_try(self, count: Callable[[], None]) -> None:
        try:
            count()
        except asyncssh.DisconnectError:
            self.ending = Ending.TRIES
            raise

    def send_userauth_failure(self, partial_success: bool) -> None:
        """Refuse an attempt to log in, and after too many the connection.

        Raises:
            DisconnectError: the last try is used up.
        """
        self._count_try(lambda: self._tries.end(failed=True))
        super().send_userauth_failure(partial_success)

    async def validate_public_key(
        self, username: str, key_data: bytes, msg: bytes, signature: bytes
    ) -> bool:
        """Check a key, and commit the identity if it signed the session's identifier.

        A client may query one key and sign with another (the trap of CVE-2024-45337), so only the
        key of the request whose signature was verified becomes the identity.
        """
        peer = self.peer
        if peer is None or not await peer.screen(username, key_data, signature):
            return False
        if not await super().validate_public_key(username, key_data, msg, signature):
            return False
        if not msg:
            self._tries.end(failed=False)
            return True
        return await peer.commit(username, key_data)

    async def send_userauth_success(self) -> None:
        """Tell the client that it is in."""
        self._authenticated = True
        await super().send_userauth_success()
