"""Takes a connection on the lane out of this process, and puts one that was taken out elsewhere in.

`why_stuck` says whether it can be done now, `take` returns what the other process needs to know,
`detach` takes the socket from under the connection, and `prepare`, `open_channel` and `go_on` make
a connection there that goes on with the next packet.  `pipe.ssh.handover` is about all that is not
packets: who has logged in, and what is counted.

Nothing is decided twice and nothing is lost: no packet is half handled, nothing is unsent, and no
keys are exchanged.  Input that was read and not handled goes along, sealed as it came.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, cast

from asyncssh.encryption import get_encryption_params
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipe.errors import NotMoved
from pipe.ssh.lane.channel import LaneChannel
from pipe.ssh.lane.cipher import TAG_BYTES, Opener, Sealer
from pipe.ssh.lane.port import BLOCK_BYTES
from pipe.ssh.slices import SHARE_SECONDS
from pipe.ssh.windows import MAX_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import asyncssh

    from pipe.ssh.channel import Channel
    from pipe.ssh.lane.connection import LaneConnection

NONCE_BYTES = 12
MAX_HASH_BYTES = 64
"""The longest exchange hash of any method, SHA-512's, which is the session's identifier."""

MAX_VERSION_BYTES = 255
"""RFC 4253, section 4.2."""

_OPEN = frozenset(("open", "eof"))
"""States of a channel's receiving half in which nothing of it waits."""

Uint32: TypeAlias = Annotated[int, Field(ge=0, le=MAX_WINDOW)]
Count: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]
Version: TypeAlias = Annotated[str, Field(max_length=MAX_VERSION_BYTES, pattern=r"^SSH-[ -~]+$")]


class Strict(BaseModel):
    """A part of a state that takes nothing but what it names; no error shows what was in it."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class Direction(Strict):
    """One direction's key, and where its packets are."""

    cipher: Literal["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
    key: bytes = Field(repr=False)
    nonce: bytes = Field(repr=False, min_length=NONCE_BYTES, max_length=NONCE_BYTES)
    sequence: Uint32

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.key) != _sizes(self.cipher)[0]:
            raise ValueError("a key has the wrong length")
        return self


class ChannelState(Strict):
    """A session's channel: its numbers at both ends, its windows, its command."""

    ours: Uint32
    theirs: Uint32
    send_window: Uint32
    send_packet: int = Field(gt=0, le=MAX_WINDOW)
    recv_window: Uint32
    full_window: Uint32
    recv_packet: int = Field(gt=0, le=MAX_WINDOW)
    command: bytes = Field(repr=False)
    """UTF-8; what is none is as the client sent it."""
    ended: bool
    """Whether the client has sent its end of file."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recv_window > self.full_window:
            raise ValueError("a window is larger than its size")
        return self


class LaneState(Strict):
    """All that makes a connection's packets and its one channel."""

    client_version: Version
    server_version: Version
    session_id: bytes = Field(repr=False, min_length=1, max_length=MAX_HASH_BYTES)
    strict: bool
    """Whether sequence numbers begin anew with each key exchange."""
    takes_extensions: bool
    to_server: Direction
    to_client: Direction
    sent_bytes: Count
    """Since the last key exchange."""
    rekey_seconds: float
    """Until the next one, by the clock."""
    keys: Count
    """How many new keys outgoing packets have had."""
    client_keys: Count
    """How many key exchanges the client began or agreed to."""
    no_more_sessions: bool
    next_channel: Uint32
    certificate: dict[str, bool | str] | None
    """The options of the certificate that the client logged in with, if it did."""
    missed_keepalives: Count
    unanswered: int = Field(ge=0, le=100)
    """Requests of ours that the client has yet to answer."""
    channel: ChannelState


class _Gone(asyncio.BufferedProtocol):
    """The protocol of a transport whose socket somebody else has."""

    def get_buffer(self, sizehint: int) -> bytearray:
        """Take what cannot come, as nothing is read any more."""
        return bytearray(max(sizehint, 1))


def _sizes(cipher: str) -> tuple[int, int]:
    """The size of a cipher's key, and of its block, in bytes."""
    key, _nonce, block, *_ = get_encryption_params(cipher.encode(), b"")
    return key, block


# -- out ------------------------------------------------------------------------------------------


def why_stuck(connection: LaneConnection, channel: asyncssh.SSHServerChannel[bytes]) -> str:
    """Say why a connection with this channel cannot be taken out now; empty if it can."""
    return next((text for text, holds in _obstacles(connection, channel) if holds()), "")


def _obstacles(
    connection: LaneConnection, channel: asyncssh.SSHServerChannel[bytes]
) -> tuple[tuple[str, Callable[[], object]], ...]:
    """What may be in the way, each with a test; later ones rely on earlier ones."""
    one, transport = connection, connection._transport
    return (
        ("the connection is ending", lambda: _is_ending(one)),
        ("nobody has logged in on it yet", lambda: not (one._auth_complete and one._authenticated)),
        ("its cipher is not AES-GCM", lambda: not one._uses_gcm()),
        ("keys are exchanged on it", lambda: _exchanges_keys(one)),
        ("one of its packets is being handled", lambda: _is_busy(one)),
        ("it has more than one channel", lambda: [*one._channels.values()] != [channel]),
        ("its channel is not open", lambda: not _is_open(channel)),
        (
            "something is unsent",
            lambda: (
                one.blocked
                or one._deferred_packets
                or channel._send_buf
                or any(port.queued for port in one.ports)
                or (transport and transport.get_write_buffer_size())
            ),
        ),
    )


def _is_ending(connection: LaneConnection) -> bool:
    transport = connection._transport
    over = connection.lost or connection.ending or connection.is_closed()
    return bool(over) or transport is None or transport.is_closing()


def _exchanges_keys(connection: LaneConnection) -> bool:
    """Whether keys are exchanged; the client's NEWKEYS may be all that is missing."""
    under_way = connection._kex or connection._next_recv_encryption or connection.exchanges_keys
    return bool(under_way) or not connection._kex_complete or connection._kexinit_sent


def _is_busy(connection: LaneConnection) -> bool:
    handled = connection._recv_handler == connection._recv_pkthdr
    if not handled or connection._inpbuf or connection._global_request_queue:
        return True
    return connection._outbox.at_work or connection._recv_encryption is not connection._opener


def _is_open(channel: asyncssh.SSHServerChannel[bytes]) -> bool:
    if not isinstance(channel, LaneChannel) or channel._request_queue or channel._recv_buf:
        return False
    if not channel._session_started or channel.end_sent:
        return False
    return channel._send_state == "open" and channel._recv_state in _OPEN


def take(
    connection: LaneConnection, channel: asyncssh.SSHServerChannel[bytes], command: str
) -> tuple[LaneState, bytes]:
    """Return the state and the input that nobody has handled; `detach` must follow at once.

    Args:
        connection: one that `why_stuck` says nothing about.
        channel: its channel.
        command: what that runs.

    Raises:
        NotMoved: the socket does not take what is still to be written; it goes on as before.
    """
    if connection._flush_due:
        connection.flush()
    transport = cast("asyncio.Transport", connection._transport)
    if connection.blocked or transport.is_closing() or transport.get_write_buffer_size():
        raise NotMoved("something is unsent")
    unread, back = connection._rest(), 0
    if connection._opened:  # asyncssh's next packet, which the other process opens again
        unread, back = connection._opened[1] + unread, 1
    return _state(connection, channel, command, back), unread


def _state(
    connection: LaneConnection, channel: asyncssh.SSHServerChannel[bytes], command: str, back: int
) -> LaneState:
    opener, sealer = cast("Opener", connection._opener), connection._sealer()
    key, nonce = opener.secrets(back=back)
    to_server = _direction(connection._enc_alg_cs, key, nonce, connection._recv_seq)
    key, nonce = sealer.secrets()
    to_client = _direction(connection._enc_alg_sc, key, nonce, connection._send_seq)
    options = connection._cert_options
    return LaneState(
        client_version=connection._client_version.decode(),
        server_version=connection._server_version.decode(),
        session_id=connection._session_id,
        strict=connection._strict_kex,
        takes_extensions=connection._can_recv_ext_info,
        to_server=to_server,
        to_client=to_client,
        sent_bytes=connection._rekey_bytes_sent,
        rekey_seconds=connection._rekey_time - time.monotonic(),
        keys=connection.keys,
        client_keys=connection._client_keys,
        no_more_sessions=connection._no_more_sessions,
        next_channel=connection._next_recv_chan,
        certificate=None if options is None else _plain(options),
        missed_keepalives=connection._keepalive_count,
        unanswered=len(connection._global_request_waiters),
        channel=_channel_state(channel, command),
    )


def _direction(cipher: bytes, key: bytes, nonce: bytes, sequence: int) -> Direction:
    name = cast("Literal['aes128-gcm@openssh.com', 'aes256-gcm@openssh.com']", cipher.decode())
    return Direction(cipher=name, key=key, nonce=nonce, sequence=sequence)


def _plain(options: Mapping[str, object]) -> dict[str, bool | str]:
    """The options that matter after the login; addresses were for the login itself."""
    return {name: one for name, one in options.items() if isinstance(one, bool | str)}


def _channel_state(channel: asyncssh.SSHServerChannel[bytes], command: str) -> ChannelState:
    return ChannelState(
        ours=cast("int", channel._recv_chan),
        theirs=cast("int", channel._send_chan),
        send_window=channel._send_window,
        send_packet=channel._send_pktsize,
        recv_window=channel._recv_window,
        full_window=channel._init_recv_window,
        recv_packet=channel._recv_pktsize,
        command=command.encode("utf-8", "surrogateescape"),
        ended=channel._recv_state == "eof",
    )


def detach(connection: LaneConnection) -> socket.socket:
    """Take the socket from under a connection, and end what is left without a word to the client.

    A transport closes its descriptor without shutting the connection down, so that a copy made
    before keeps TCP as it is: no FIN is sent while there is one.

    Raises:
        OSError: there are no descriptors left; nothing has changed.
    """
    transport = cast("asyncio.Transport", connection._transport)
    copy = os.dup(transport.get_extra_info("socket").fileno())
    if not connection._reading_paused:
        transport.pause_reading()
    transport.set_protocol(_Gone())
    transport.abort()
    connection.lose()
    connection._transport = None
    for task in tuple(connection._tasks):
        task.cancel()  # each waits for an answer that another process will get
    # Not now: the copy goes on its way sooner, and its new owner begins meanwhile.
    connection._loop.call_soon(connection._cleanup, None)
    return socket.socket(fileno=copy)


# -- in -------------------------------------------------------------------------------------------


def prepare(connection: LaneConnection, state: LaneState) -> None:
    """Make a new connection what the other was, before it has a transport."""
    connection._cancel_login_timer()
    connection._client_version = state.client_version.encode()
    connection._server_version = state.server_version.encode()
    connection._session_id = state.session_id
    connection._strict_kex = state.strict
    connection._can_recv_ext_info = state.takes_extensions
    connection._next_recv_chan = state.channel.ours
    connection._cert_options = cast("dict[str, object] | None", state.certificate)
    connection.keys, connection._client_keys = state.keys, state.client_keys
    connection._no_more_sessions = state.no_more_sessions
    connection._kex_complete = True
    connection._auth_complete = connection._auth_final = True
    connection._authenticated = connection._speaks_ssh = True
    connection._rekey_bytes_sent = state.sent_bytes
    connection._rekey_time = time.monotonic() + state.rekey_seconds
    connection._keepalive_count = state.missed_keepalives
    connection._recv_handler = connection._recv_pkthdr
    connection.share_seconds = SHARE_SECONDS
    _set_ciphers(connection, state.to_server, state.to_client)
    connection._stay_with_gcm()


def _set_ciphers(connection: LaneConnection, to_server: Direction, to_client: Direction) -> None:
    opener = Opener(to_server.key, to_server.nonce)
    connection._opener = connection._recv_encryption = opener
    connection._recv_seq = to_server.sequence
    connection._recv_blocksize = _sizes(to_server.cipher)[1]
    connection._recv_macsize = TAG_BYTES
    connection._send_encryption = Sealer(to_client.key, to_client.nonce)
    connection._send_seq = to_client.sequence
    connection._send_enchdrlen = 1  # the length is not encrypted
    connection._send_blocksize = BLOCK_BYTES
    for_server, for_client = to_server.cipher, to_client.cipher
    connection._enc_alg_cs = connection._mac_alg_cs = for_server.encode()
    connection._enc_alg_sc = connection._mac_alg_sc = for_client.encode()
    connection._cmp_alg_cs = connection._cmp_alg_sc = b"none"
    connection.set_extra_info(
        client_version=connection._client_version.decode(),
        server_version=connection._server_version.decode(),
        recv_cipher=for_server,
        recv_mac=for_server,
        recv_compression="none",
        send_cipher=for_client,
        send_mac=for_client,
        send_compression="none",
    )


def open_channel(connection: LaneConnection, state: ChannelState, session: Channel) -> None:
    """Make the channel on a connection that has its transport, and tell its session."""
    channel = connection.create_server_channel(None, "strict", state.full_window, state.recv_packet)
    channel._send_chan = state.theirs
    channel._send_window = state.send_window
    channel._send_pktsize = state.send_packet
    channel._recv_window = state.recv_window
    channel._send_state = "open"
    channel._recv_state = "eof" if state.ended else "open"
    channel._recv_paused = False
    channel._session_started = True
    channel._session = session
    session.connection_made(channel)


def go_on(connection: LaneConnection, state: LaneState, unread: bytes) -> None:
    """Begin with the input that the other process has left, and with the keepalive."""
    connection._next_recv_chan = state.next_channel
    for _ in range(state.unanswered):
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: _note_answer(connection))
        connection._global_request_waiters.append(answer)
    connection._set_keepalive_timer()
    if unread:
        connection._input = unread
        connection._queue()


def _note_answer(connection: LaneConnection) -> None:
    """The client has answered a keepalive that another process had sent."""
    connection._keepalive_count = 0
