"""Each connection of HTTP, from its first byte on: whether it may come in, and for how long.

aiohttp has no time limit for the head of a request, so that a client could hold a connection with
half a line for ever.  Here a connection is closed that takes longer than ``login-timeout`` for a
head, or that asks for nothing for `KEEP_ALIVE_SECONDS`; while it is served there is no limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp.web import RequestPayloadError

from pipe.errors import QuotaExceeded
from pipe.limits.gate import Refusal, Visit
from pipe.limits.penalties import Offence

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aiohttp import StreamReader

    from pipe.limits.sources import TrustedSources
    from pipe.service import Login, Service

log = structlog.get_logger()

KEEP_ALIVE_SECONDS = 75.0
"""How long a connection that has logged in may be idle between requests: as nginx has it."""

Handler = asyncio.Protocol
"""What aiohttp serves a connection with."""


class Door:
    """All connections.

    Args:
        service: what all fronts share.
        make_handler: makes what serves a connection.
        proxies: connections from there count for nobody: their clients are told apart later.
        make_context: gives the certificate of the next connection; None: HTTP is plain.
    """

    def __init__(
        self,
        service: Service,
        make_handler: Callable[[], Handler],
        proxies: TrustedSources,
        make_context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._service = service
        self._make_handler = make_handler
        self._proxies = proxies
        self._make_context = make_context
        self._loop = asyncio.get_running_loop()
        self._guests: dict[object, Guest] = {}
        self.closed = asyncio.Event()

    def welcome(self, connection: socket.socket, address: str) -> None:
        """Let a connection in, or close it."""
        exempt = address in self._proxies
        visit = self._service.gate.enter(address, self._loop.time(), exempt=exempt)
        if isinstance(visit, Refusal):
            self._service.metrics.refused.labels(visit.value).inc()
            log.info("connection refused", address=address, reason=visit.value)
            connection.close()
            return
        self.receive(connection, visit)

    def receive(self, connection: socket.socket, visit: Visit) -> None:
        """Serve a connection that was let in."""
        guest = Guest(self._service, self._make_handler(), visit, self._guests)
        visit.cut = guest.cut_off
        guest.arrival = self._loop.create_task(self._serve(guest, connection))

    def carry(self, transport: asyncio.Transport, login: Login) -> asyncio.Protocol:
        """Serve a connection inside another one, whose client has logged in and is counted."""
        guest = Guest(self._service, self._make_handler(), Visit(login.address), self._guests)
        guest.carried()
        guest.connection_made(transport)
        return guest

    async def _serve(self, guest: Guest, connection: socket.socket) -> None:
        """Make a connection a transport, by TLS where that is wanted."""
        context = self._make_context() if self._make_context else None
        timeout = self._service.settings.login_timeout if context else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: guest, connection, ssl=context, ssl_handshake_timeout=timeout
            )
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError is an OSError
            log.debug("connection without a request", error=str(error))
            connection.close()
            guest.connection_lost(None)
        finally:
            guest.arrival = None

    def __len__(self) -> int:
        return len(self._guests)

    # -- what requests tell -----------------------------------------------------------------------

    def begins(self, handler: object, body: StreamReader, *, asks_on: bool) -> None:
        """A request has come on a connection; ``asks_on``: all that follows it are others."""
        guest = self._guests.get(handler)
        if guest:
            guest.begin(body, asks_on=asks_on)

    def ends(self, handler: object) -> None:
        """It is answered; the answer may still be on its way."""
        guest = self._guests.get(handler)
        if guest:
            guest.end(closing=self.closed.is_set())

    def tried(self, handler: object) -> None:
        """A login was refused, and has been charged for."""
        guest = self._guests.get(handler)
        if guest:
            guest.offended = True

    async def logged_in(self, handler: object, user: str) -> bool:
        """Somebody has logged in.

        Returns:
            Whether it was the first on that connection.

        Raises:
            QuotaExceeded: the user has as many connections as anybody may.
        """
        guest = self._guests.get(handler)
        return await guest.log_in(user) if guest else False

    def stop(self) -> None:
        """Close connections that ask for nothing now, and others after their answer."""
        self.closed.set()
        for guest in list(self._guests.values()):
            guest.close_if_idle()

    def close(self) -> None:
        """Close all that is left."""
        for guest in list(self._guests.values()):
            guest.cut_off()


class Guest(asyncio.Protocol):
    """One connection: stands before aiohttp's handler, and keeps the time.

    Args:
        service: what all fronts share.
        handler: serves it.
        visit: as the gate sees it.
        guests: where it is found by its handler while it is there.
    """

    __slots__ = (
        "_asks_on",
        "_body",
        "_busy",
        "_carried",
        "_guests",
        "_handler",
        "_heading",
        "_known",
        "_late",
        "_loop",
        "_mark",
        "_served",
        "_service",
        "_timer",
        "_transport",
        "_visit",
        "arrival",
        "offended",
    )

    def __init__(
        self,
        service: Service,
        handler: Handler,
        visit: Visit,
        guests: dict[object, Guest],
    ) -> None:
        self._service = service
        self._handler = handler
        self._visit = visit
        self._guests = guests
        self._asks_on = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self.arrival: asyncio.Task[None] | None = None  # until there is a transport
        self._timer: asyncio.TimerHandle | None = None
        self._body: StreamReader | None = None  # of the request that is served
        self._mark = 0  # unsent bytes when the timer was started
        self._served = False  # a request has come
        self._busy = False
        self._heading = True  # a head has begun to come
        self._known = False
        self._carried = False
        self._late = False
        self.offended = False
        guests[handler] = self

    def carried(self) -> None:
        """It is inside another connection, and its client has logged in on that."""
        self._known = self._carried = True
        self._service.metrics.web_tunnels.inc()

    # -- the transport ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is let in, and TLS is spoken where that is wanted."""
        self._transport = cast("asyncio.Transport", transport)
        self._keep_alive()
        self._start_timer(self._service.settings.login_timeout)
        self._handler.connection_made(transport)

    def _keep_alive(self) -> None:
        """Have the kernel ask silent clients whether they live, as SSH has its own way to.

        TCP_USER_TIMEOUT would do more: it cuts a reader that takes its time, too.
        """
        sock = self._transport and self._transport.get_extra_info("socket")
        if not sock or sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        settings = self._service.settings
        interval = max(1, round(settings.keepalive_interval))
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", interval),
                ("TCP_KEEPINTVL", interval),
                ("TCP_KEEPCNT", settings.keepalive_count),
            ):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        """Hand it on; the first byte of a head starts its clock."""
        if not self._busy and not self._heading:
            self._heading = True
            self._start_timer(self._service.settings.login_timeout)
        self._handler.data_received(data)
        if self._body and not self._body.is_eof() and getattr(self._handler, "_messages", None):
            # aiohttp has queued a refusal behind a body that cannot be read, and lets whoever
            # reads the body wait for ever.
            self._body.set_exception(RequestPayloadError("it is not encoded as it says"))
            self._body = None
        self._check_appetite()

    def _check_appetite(self) -> None:
        """Cut off a client that asks for so much behind a stream that aiohttp reads no further.

        It could not be told any more whether such a client is still there.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading():
            return
        if self._asks_on:
            self.cut_off()

    def eof_received(self) -> bool | None:
        """The client has sent everything: it counts as gone."""
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        """Hand it on."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone; the gate hears why."""
        if self._guests.pop(self._handler, None) is None:
            return
        self._stop_timer()
        if self._carried:
            self._service.metrics.web_tunnels.dec()
        if self._transport:
            self._handler.connection_lost(exc)
        self._visit.leave(self._offence, self._loop.time())

    @property
    def _offence(self) -> Offence | None:
        """What its address is charged with: failed logins have been already."""
        if self._known or self._served or self.offended:
            return None
        return Offence.TIMEOUT if self._late else Offence.NO_LOGIN

    # -- requests ---------------------------------------------------------------------------------

    def begin(self, body: StreamReader, *, asks_on: bool) -> None:
        """A request has come; ``asks_on``: all that follows it are others."""
        self._body = body
        self._served = self._busy = True
        self._stop_timer()
        self._asks_on = asks_on
        self._check_appetite()

    def end(self, *, closing: bool) -> None:
        """It is answered."""
        self._busy = self._heading = False
        self._body = None
        self._asks_on = False
        timeout = KEEP_ALIVE_SECONDS if self._known else self._service.settings.login_timeout
        self._start_timer(timeout)
        if closing and self._transport and not self._transport.get_write_buffer_size():
            self._loop.call_soon(self.close_if_idle)

    async def log_in(self, user: str) -> bool:
        """Somebody has logged in on it."""
        if self._known:
            return False
        await self._visit.ask(user)
        try:
            self._visit.admit(user)
        except QuotaExceeded as error:
            self._service.metrics.refused.labels(error.resource).inc()
            raise
        self._known = True
        return True

    # -- the end ----------------------------------------------------------------------------------

    def close_if_idle(self) -> None:
        """Close it unless a request is served."""
        if not self._busy and self._transport:
            self._transport.close()

    def cut_off(self) -> None:
        """Close it, whatever it does."""
        if self._transport:
            self._transport.abort()
        elif self.arrival:
            self.arrival.cancel()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._mark = self._unsent
        self._timer = self._loop.call_later(seconds, self._expire, seconds)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    @property
    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport else 0

    def _expire(self, seconds: float) -> None:
        if self._unsent != self._mark:  # it reads its answer, slowly
            self._start_timer(seconds)
            return
        self._timer = None
        self._late = True
        self.cut_off()
