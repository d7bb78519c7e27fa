"""Who is at the other end: a key becomes a user, and a new key may claim a free name.

Rules, each against a known trap of this protocol (docs/security.md):

- The user's name is pinned by the first request; a client that changes it is disconnected.
- A key that was only queried proves nothing.  The identity is what `Peer.commit` stores for the
  one request
  whose signature was verified.
- asyncssh takes any key type for users, so the type and size are checked here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from typing import TYPE_CHECKING

import asyncssh
import structlog

from pipe.access import Caller
from pipe.errors import BadName, StoreError
from pipe.names import parse_user, quoted
from pipe.settings import Signup
from pipe.ssh.session import Session
from pipe.store.keys import check_key_type, read_public_key

if TYPE_CHECKING:
    from pipe.service import Service
    from pipe.ssh.connection import Connection
    from pipe.ssh.limits import ClaimLimit

log = structlog.get_logger()

IDLE_TIMEOUT_SECONDS = 60.0
"""How long a connection may stay without a channel, once logged in."""

TOUCH_INTERVAL_SECONDS = 600.0
"""A key's time of last use is this exact, so that a flurry of logins is not a flurry of writes."""


class Peer(asyncssh.SSHServer):
    """One connection's client: its login, and the sessions that it opens.

    Args:
        service: what all connections share.
        claims: the limit on new names per address.
    """

    def __init__(self, service: Service, claims: ClaimLimit) -> None:
        self._service = service
        self._claims = claims
        self._loop = asyncio.get_running_loop()
        self._connected_at = self._loop.time()
        self._user: str | None = None
        self._caller: Caller | None = None
        self._claimed = False
        self._tried = False
        self._explained = False
        self._key_used_at = 0.0
        self._sessions = 0
        self._idle_timer: asyncio.TimerHandle | None = None

    # -- asyncssh: the connection -----------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """A TCP connection has come in."""
        self._connection: Connection = conn  # type: ignore[assignment]  # made by our own factory
        self._connection.peer = self
        self._service.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._service.connections -= 1
        self._stop_idle_timer()
        if self._caller:
            self._service.lanes[self._connection.lane.value] -= 1
            log.debug("connection ended", user=self._caller.user, error=str(exc or ""))
            return
        result = "refused" if self._tried else "failed"
        self._service.metrics.logins.labels(result).inc()
        log.info(
            "login refused" if self._tried else "connection without login",
            user=self._user or "",
            address=self._connection.address,
            error=str(exc or ""),
        )

    # -- asyncssh: authentication -----------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """Pin the user's name.  Always True: False would let the client in without a key.

        Raises:
            ProtocolError: the client has changed the name.
        """
        if self._user is not None and username != self._user:
            raise asyncssh.ProtocolError("The user name must not change")
        self._user = username
        return True

    def public_key_auth_supported(self) -> bool:
        """The only method there is."""
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether this key, if it signs, would log in under this name."""
        self._tried = True
        try:
            user = parse_user(username)
            check_key_type(key)
            return await self._is_welcome(user, key.get_fingerprint())
        except (BadName, StoreError) as error:
            self._explain(error.message)
            return False

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """No CA is trusted."""
        return False

    async def _is_welcome(self, user: str, fingerprint: str) -> bool:
        store = self._service.store
        if await store.find_key(user, fingerprint):
            return True
        if self._service.settings.resolved_signup is not Signup.OPEN:
            return False
        if await store.get_user(user):
            self._explain(f"the name {quoted(user)} is taken, and this key is not one of its keys")
            return False
        if not self._claims.allows(self._connection.peer_address, self._loop.time()):
            self._service.metrics.refused.labels("claims").inc()
            self._explain("too many new names from your address today; try again tomorrow")
            return False
        return True

    async def commit(self, username: str, key_data: bytes) -> bool:
        """The signature by this key was verified: this is who it is, now or never.

        Returns:
            False where the name was claimed by somebody else in the meantime.
        """
        if username != self._user:
            return False
        digest = hashlib.sha256(key_data).digest()
        fingerprint = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
        store = self._service.store
        try:
            key = await store.find_key(username, fingerprint)
            if key:
                self._key_used_at = key.last_used or 0.0
            else:
                algorithm = key_data[4 : 4 + int.from_bytes(key_data[:4], "big")].decode("ascii")
                public = f"{algorithm} {base64.b64encode(key_data).decode()}"
                if not await store.claim(username, read_public_key(public)):
                    self._explain("this key belongs to another user, or the name was just taken")
                    return False
                self._claimed = True
                self._claims.record(self._connection.peer_address, self._loop.time())
                log.info("name claimed", user=username, key=fingerprint)
        except StoreError as error:
            self._explain(error.message)
            return False
        self._caller = Caller(username, fingerprint)
        return True

    def _explain(self, text: str) -> None:
        """Tell the client, once, why its login fails: ssh itself says only "Permission denied"."""
        if not self._explained:
            self._explained = True
            self._connection.send_auth_banner(f"pipe: {text}\r\n")

    def auth_completed(self) -> None:
        """The client is in: count it, and note when its key was used.

        Raises:
            PermissionDenied: no identity was committed, however that came about.
        """
        if self._caller is None:
            raise asyncssh.PermissionDenied("No identity was proved")
        metrics = self._service.metrics
        metrics.logins.labels("claimed" if self._claimed else "accepted").inc()
        metrics.handshake.observe(self._loop.time() - self._connected_at)
        self._service.lanes[self._connection.lane.value] += 1
        self._start_idle_timer()
        if time.time() - self._key_used_at > TOUCH_INTERVAL_SECONDS:
            self._connection.create_task(self._touch_key(self._caller.fingerprint))

    async def _touch_key(self, fingerprint: str) -> None:
        try:
            await self._service.store.touch_key(fingerprint, time.time())
        except StoreError as error:
            log.warning("cannot note that a key was used", error=error.message)

    # -- asyncssh: sessions -----------------------------------------------------------------------

    def session_requested(self) -> Session:
        """A client opens a channel.

        Raises:
            ChannelOpenError: it has enough of them, or the server is stopping.
        """
        if self._caller is None:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "not logged in"
            )
        if self._service.draining:
            self._service.metrics.refused.labels("draining").inc()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, "the server is shutting down"
            )
        most = self._service.settings.max_sessions_per_connection
        if self._sessions >= most:
            self._service.metrics.refused.labels("sessions").inc()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, f"more than {most} sessions on one connection"
            )
        self._sessions += 1
        self._stop_idle_timer()
        return Session(self._service, self._connection, self._caller)

    def session_closed(self) -> None:
        """One of its channels is gone."""
        self._sessions -= 1
        if not self._sessions:
            self._start_idle_timer()

    def _start_idle_timer(self) -> None:
        self._stop_idle_timer()
        self._idle_timer = self._loop.call_later(IDLE_TIMEOUT_SECONDS, self._connection.close)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None
