"""One client and its login: asyncssh asks, and `pipe.ssh.login.logins` answers.

Rules, each against a known trap of this protocol (docs/security.md):

- The first request pins the user's name; a client that changes it is disconnected.
- A key that was only queried proves nothing.  The identity is what `Peer.commit` stores for the
  one request whose signature was verified.
- asyncssh accepts any kind of key, certificate and signature from users, so `Peer.screen` refuses
  those that we do not want before asyncssh sees them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import asyncssh
import structlog

from pipe.errors import Ending, PipeError, QuotaExceeded, StoreUnavailable
from pipe.limits.penalties import Offence
from pipe.limits.quotas import Resource
from pipe.rights.callers import Caller, next_login
from pipe.ssh.channel import Channel
from pipe.ssh.login.signatures import fingerprint_of, name_of
from pipe.ssh.tunnel import Tunnels, prohibited
from pipe.store.keys import ALLOWED_TYPES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipe.service import Service
    from pipe.ssh.connection import Connection
    from pipe.ssh.login.logins import Identity, Logins
    from pipe.ssh.login.tenure import Tenures

log = structlog.get_logger()

TOUCH_INTERVAL_SECONDS = 600.0
"""How exact a key's time of last use is, so that many logins do not mean many writes."""

MAX_SHOWN_KEYS = 3
"""Fingerprints in the log line of a refused login: as many as fit the length of a value."""

_BLAMELESS = frozenset(
    (Ending.EVICTED, Ending.QUOTA, Ending.SHUTDOWN, Ending.FAILED, Ending.UNAVAILABLE)
)

UNAVAILABLE_TEXT = "nobody can log in right now, as the accounts database does not answer"


class Standing(NamedTuple):
    """A login, for another process that goes on with it.

    ``seconds`` is how long ago its connection came in, and ``used_tunnels`` whether it ever had a
    tunnel.
    """

    identity: Identity
    seconds: float
    used_tunnels: bool


def caller_of(identity: Identity, login: int | None = None) -> Caller:
    """Make the caller that an identity logs in as, as a new login or by a number of `Caller`."""
    return Caller(
        identity.user,
        identity.fingerprint,
        identity.admin,
        next_login() if login is None else login,
        lent=identity.ends_with_another,
        until=identity.expires,
        backing=identity.backing,
    )


class Peer(asyncssh.SSHServer):
    """One connection's client: its login, and the sessions that it opens.

    Args:
        service: what all connections share.
        logins: decides who may log in.
        tenures: ends logins whose certificate or line in a key file has ended.
    """

    def __init__(self, service: Service, logins: Logins, tenures: Tenures) -> None:
        self._service = service
        self._logins = logins
        self._tenures = tenures
        self._loop = asyncio.get_running_loop()
        self._connected_at = self._loop.time()
        self._user: str | None = None
        self._identity: Identity | None = None
        self._caller: Caller | None = None
        self._tried = False
        self._shown: dict[str, None] = {}  # fingerprints of the keys shown, each once
        self._reason = ""
        self._logged_in = False
        self._gone = False
        self._moved = False  # here from another process, with a session
        self._sessions = 0
        self._tunnels = Tunnels(service)
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
        self._gone = True
        self._stop_idle_timer()
        ending = self._connection.why_ended(exc)
        self._service.metrics.disconnects.labels(ending.label).inc()
        self._connection.visit.leave(self._offence(ending), self._loop.time())
        if self._logged_in and self._caller:
            self._tenures.end(self._caller)
            self._service.lanes[self._connection.lane.value] -= 1
        # In its turn, so that its log line follows those of its sessions.
        self._service.turns.do(partial(self._conclude, ending, exc))

    def _conclude(self, ending: Ending, exc: Exception | None) -> None:
        if self._logged_in:
            moved = ending is Ending.MOVED
            self._report("connection handed over" if moved else "connection ended", ending, exc)
            self._forget()
            return
        if ending is Ending.PROBE:
            result, event = "probe", "probe"
        elif self._tried:
            result, event = "refused", "login refused"
            self._warn()
        else:
            result, event = "failed", "connection without login"
        self._service.metrics.logins.labels(result).inc()
        self._report(event, ending, exc)
        self._forget()

    def _warn(self) -> None:
        """Tell the user in whose name somebody tried to log in."""
        self._service.once.warn(
            self._user or "",
            "login refused",
            {
                "address": self._connection.address,
                "keys": " ".join(self._shown),
                "told": self._reason,
            },
        )

    def _offence(self, ending: Ending) -> Offence | None:
        """The offence to charge its address with; none if the server caused the end."""
        if self._logged_in or ending in _BLAMELESS:
            return None
        if ending is Ending.LOGIN_TIMEOUT:
            return Offence.TIMEOUT
        return Offence.REFUSED if self._tried else Offence.NO_LOGIN

    def _report(self, event: str, ending: Ending, exc: Exception | None) -> None:
        visit = self._connection.visit
        log.log(
            logging.DEBUG if ending is Ending.PROBE else logging.INFO,
            event,
            user=self._user or "",
            address=self._connection.address,
            **self._connection.log_fields(),
            reason=ending.label,
            sessions=visit.sessions,
            **visit.traffic.log_fields(),
            seconds=round(self._loop.time() - self._connected_at, 3),
            **({"keys": " ".join(self._shown)} if not self._logged_in and self._shown else {}),
            **({"told": self._reason} if self._reason else {}),
            **({"error": str(exc)} if exc else {}),
        )

    # -- asyncssh: authentication -----------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        """Pin the user's name.  Always returns True: False would let the client in without a key.

        Raises:
            ProtocolError: the client has changed the name.
        """
        if self._user is not None and username != self._user:
            raise asyncssh.ProtocolError("The user name must not change")
        self._user = username
        return True

    def public_key_auth_supported(self) -> bool:
        """Public keys are the only method."""
        return True

    async def screen(self, username: str, key_data: bytes, signature: bytes) -> bool:
        """Return whether to consider a key or certificate and its signature at all.

        Our own connection asks this before asyncssh sees them.
        """
        self._tried = True
        if len(self._shown) < MAX_SHOWN_KEYS and name_of(key_data) in ALLOWED_TYPES:
            self._shown[fingerprint_of(key_data)] = None
        address = self._connection.peer_address
        return await self._ask(lambda: self._logins.screen(username, key_data, signature, address))

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Return whether this key, if it signs, would log in under this name."""
        address = self._connection.peer_address
        return await self._ask(lambda: self._logins.welcome(username, key.public_data, address))

    async def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Return whether to trust certificates by this CA."""
        return await self._logins.trusts(key.get_fingerprint())

    async def commit(self, username: str, key_data: bytes) -> bool:
        """Commit the identity, as the signature by this key was verified.

        Returns:
            False if somebody else has claimed the name in the meantime.
        """
        if username != self._user:
            return False

        async def question() -> None:
            address = self._connection.peer_address
            while True:
                # Made before the decision, so that a later removal applies to this login.
                attempt = Caller(username, "")
                identity = await self._logins.admit(username, key_data, address)
                caller = caller_of(identity, attempt.login)
                await self._service.guard.catch_up()
                if not self._service.access.why_barred(caller):
                    break
            await self._connection.visit.ask(identity.user)
            self._identity, self._caller = identity, caller

        return await self._ask(question)

    async def _ask(self, question: Callable[[], Awaitable[None]]) -> bool:
        """Ask `Logins`, and tell the client what was wrong.

        Raises:
            ServiceNotAvailable: no login can be decided now, so the client need not try other keys.
        """
        try:
            await question()
        except StoreUnavailable as error:
            self._explain(UNAVAILABLE_TEXT)
            self._reason = error.message
            self._connection.ending = Ending.UNAVAILABLE
            raise asyncssh.ServiceNotAvailable("The accounts database does not answer") from error
        except PipeError as error:
            self._explain(error.message)
            return False
        return True

    def _explain(self, text: str) -> None:
        """Tell the client once why its login fails: ssh says only "Permission denied"."""
        if text and not self._reason:
            self._reason = text
            self._connection.send_auth_banner(f"pipe: {text}\r\n")

    def auth_completed(self) -> None:
        """The client is in: count it, and note when its key was used.

        Raises:
            PermissionDenied: no identity was committed, for whatever reason.
            DisconnectError: the user has as many connections as allowed.
        """
        identity, caller = self._identity, self._caller
        if identity is None or caller is None:
            raise asyncssh.PermissionDenied("No identity was proved")
        metrics = self._service.metrics
        try:
            self._enter(identity, caller)
        except QuotaExceeded as error:
            raise asyncssh.DisconnectError(
                asyncssh.DISC_TOO_MANY_CONNECTIONS, error.message
            ) from error
        metrics.logins.labels("claimed" if identity.claimed else "accepted").inc()
        metrics.handshake.observe(self._loop.time() - self._connected_at)
        if identity.stored and time.time() - (identity.last_used or 0) > TOUCH_INTERVAL_SECONDS:
            self._service.store.note_use(identity.user, identity.fingerprint)

    def _enter(self, identity: Identity, caller: Caller) -> None:
        try:
            self._connection.visit.admit(identity.user)
        except QuotaExceeded as error:
            self._service.metrics.refused.labels(error.resource).inc()
            self._connection.ending = Ending.QUOTA
            self._reason = error.message
            raise
        self._logged_in = True
        self._tenures.begin(caller, identity, self._connection.peer_address)
        self._service.lanes[self._connection.lane.value] += 1
        self._start_idle_timer()

    # -- another process --------------------------------------------------------------------------

    @property
    def standing(self) -> Standing | None:
        """What another process has to know of this login; None if there is none."""
        if not self._logged_in or self._gone or self._identity is None:
            return None
        seconds = self._loop.time() - self._connected_at
        return Standing(self._identity, seconds, self._tunnels.used)

    def resume(self, standing: Standing, caller: Caller) -> None:
        """Go on with a login that another process has decided; no metric counts it again.

        Raises:
            QuotaExceeded: the user has as many connections as allowed.
        """
        identity = standing.identity
        self._user, self._identity, self._caller = identity.user, identity, caller
        self._tried = self._moved = True
        self._connected_at = self._loop.time() - standing.seconds
        self._tunnels.used = standing.used_tunnels
        self._enter(identity, caller)

    # -- asyncssh: sessions -----------------------------------------------------------------------

    def session_requested(self) -> Channel:
        """The client opens a channel.

        Raises:
            ChannelOpenError: it has too many of them, or the server is stopping.
        """
        if self._caller is None or self._identity is None:
            raise prohibited("not logged in")
        self._refuse_while_draining()
        most = self._service.settings.max_sessions_per_connection
        if self._sessions >= most:
            self._service.metrics.refused.labels("sessions").inc()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, f"more than {most} sessions on one connection"
            )
        visit = self._connection.visit
        try:
            if self._moved:
                self._service.quotas.take_over(Resource.SESSIONS, *visit.holders)
            else:
                self._service.take(Resource.SESSIONS, visit.holders)
        except QuotaExceeded as error:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, error.message
            ) from error
        self._moved = False
        self._sessions += 1
        visit.sessions += 1
        self._stop_idle_timer()
        return Channel(self._service, self._connection, self._caller, self._identity.restrictions)

    def _refuse_while_draining(self) -> None:
        if self._service.draining:
            self._service.metrics.refused.labels("draining").inc()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE, "the server is shutting down"
            )

    def session_closed(self) -> None:
        """One of its channels is gone."""
        self._service.quotas.give_back(Resource.SESSIONS, *self._connection.visit.holders)
        self._sessions -= 1
        if self._gone:
            self._forget()
        else:
            self._start_idle_timer()

    # -- asyncssh: tunnels ------------------------------------------------------------------------

    def connection_requested(
        self,
        dest_host: str,
        dest_port: int,
        orig_host: str,  # noqa: ARG002
        orig_port: int,  # noqa: ARG002
    ) -> tuple[asyncssh.SSHTCPChannel[bytes], asyncssh.SSHTCPSession[bytes]]:
        """The client opens a tunnel.

        Raises:
            ChannelOpenError: not to there, not by this login, or not now; the message says which.
        """
        if self._caller is None or self._identity is None:
            raise prohibited("not logged in")
        self._refuse_while_draining()
        opened = self._tunnels.open(
            dest_host,
            dest_port,
            self._caller,
            self._identity.restrictions,
            self._connection,
            self._tunnel_closed,
        )
        self._stop_idle_timer()
        return opened

    def _tunnel_closed(self) -> None:
        if not self._gone:
            self._start_idle_timer()

    # -- the end ----------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Cut the reference cycle with the connection, which frees both at once."""
        if not self._sessions:
            self._connection.peer = None

    def _start_idle_timer(self) -> None:
        """Close the connection later, if it has no channel."""
        self._stop_idle_timer()
        if not (self._sessions or self._tunnels.open_now):
            self._idle_timer = self._loop.call_later(
                self._service.settings.idle_timeout, self._idle
            )

    def _idle(self) -> None:
        """Close it, unless it is there for tunnels: those come as somebody asks for a page."""
        self._idle_timer = None
        connection = self._connection
        forwards = connection.only_forwards and not connection.visit.sessions
        barred = self._caller is None or self._service.access.why_barred(self._caller)
        useless = self._service.tunnels is None or not (forwards or self._tunnels.used)
        if barred or useless:
            connection.cut_off(Ending.IDLE)

    def _stop_idle_timer(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None
