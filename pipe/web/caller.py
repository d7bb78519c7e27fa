"""Who sends a request: what it shows, who that is, and what it counts for.

    Authorization: Bearer TOKEN             programs
    Authorization: Basic USER:TOKEN         curl -u, docker login
    Sec-WebSocket-Protocol: pipe, TOKEN     pages of others, which can set no other header
    Cookie: pipe=…                          our own page, as `pipe.web.origin` judges

Inside an SSH connection it is who has logged in there, unless a token is shown.

A token never stands in a query: those end up in logs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

import structlog

from pipe.errors import AccessDenied, QuotaExceeded
from pipe.limits.penalties import Offence
from pipe.limits.quotas import Holder, Resource, Scope
from pipe.limits.sources import source_of
from pipe.web.forwarded import HEADERS, Client, find_client
from pipe.web.parts import PARTS
from pipe.web.statuses import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from pipe.rights.callers import Caller
    from pipe.service import Login
    from pipe.web.parts import Web

log = structlog.get_logger()

WEBSOCKET_PROTOCOL = "pipe"
"""The subprotocol that is spoken; what stands beside it in a request is a token."""

MISSING_TEXT = (
    "access denied: who is it? Show a token, as in curl -u NAME:TOKEN; 'ssh HOST tokens add'"
    " makes one"
)


class Credentials(NamedTuple):
    """What a request shows."""

    token: str
    user: str | None = None


class Visitor:
    """Somebody who is let in for one request; `leave` comes once at its end.

    Raises:
        QuotaExceeded: the user or the address has as many sessions as anybody may.
    """

    __slots__ = ("_lent", "_web", "address", "caller", "holders")

    def __init__(
        self,
        web: Web,
        caller: Caller,
        address: str,
        holders: tuple[Holder, ...],
        *,
        lent: bool = True,
    ) -> None:
        web.service.take(Resource.SESSIONS, holders)
        self.caller = caller
        self.address = address
        self.holders = holders
        self._lent = lent  # whether the login is of this request alone
        self._web: Web | None = web

    def leave(self) -> None:
        """Give all back; calling it again does nothing."""
        web, self._web = self._web, None
        if web:
            web.service.quotas.give_back(Resource.SESSIONS, *self.holders)
            if self._lent:
                web.authenticator.leave(self.caller)


def login_of(request: web.Request) -> Login | None:
    """Who has logged in on the SSH connection that a request came through, if it did."""
    login: Login | None = request.transport.get_extra_info("login") if request.transport else None
    return login


def client_of(request: web.Request) -> Client:
    """Where a request comes from, through proxies of ours or directly."""
    login = login_of(request)
    if login:
        return Client(login.address, secure=True)
    parts = request.app[PARTS]
    client = find_client(peer_of(request), request.headers, parts.proxies, secure=request.secure)
    if client.address == peer_of(request) and not parts.warned:
        _warn_of_proxy(request, parts, client)
    return client


def _warn_of_proxy(request: web.Request, parts: Web, client: Client) -> None:
    """Say once that a proxy is not believed: all its clients would have its own address."""
    if client.address not in parts.proxies and any(name in request.headers for name in HEADERS):
        parts.warned = True
        log.warning(
            "forwarded address ignored",
            address=client.address,
            reason="if that is a proxy of yours, name it in web-proxies: all its clients count as"
            " one address, and as this machine where the proxy runs here",
        )


def peer_of(request: web.Request) -> str:
    """The IP address at the other end of a request's connection."""
    peer = request.transport and request.transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


async def admit(request: web.Request) -> Visitor:
    """Let in whoever shows a token or a cookie, or has logged in on the connection around it.

    Raises:
        Unauthorized: it shows none, or one that lets nobody in.
        AccessDenied: that login is over.
        QuotaExceeded: it is one too many.
        StoreUnavailable: nobody can be judged now.
    """
    authenticator = request.app[PARTS].authenticator
    found = credentials_of(request)
    if found:
        return await welcome(
            request, lambda address: authenticator.admit(found.token, address, found.user)
        )
    login = login_of(request)
    if login:
        parts = request.app[PARTS]
        parts.service.access.require(login.caller)
        return Visitor(parts, *login, lent=False)
    cookie = _cookie_of(request)
    if cookie:
        return await welcome(request, lambda address: authenticator.admit_session(cookie, address))
    raise Unauthorized(MISSING_TEXT)


def _cookie_of(request: web.Request) -> str:
    """The cookie of our own page; empty if there is none, or another page may stand behind it."""
    site = request.app[PARTS].site
    upgrade = "Upgrade" in request.headers
    if not site.accepts_cookie(request.method, request.headers, upgrade=upgrade):
        return ""
    return request.cookies.get(site.cookie_name, "")


async def welcome(request: web.Request, ask: Callable[[str], Awaitable[Caller]]) -> Visitor:
    """Let in whomever ``ask`` names, who is told the client's address.

    Raises:
        Unauthorized: it names nobody.
        QuotaExceeded: it is one too many.
        StoreUnavailable: nobody can be judged now.
    """
    parts = request.app[PARTS]
    service, address = parts.service, client_of(request).address
    try:
        caller = await ask(address)
    except AccessDenied as error:
        refused(request, error)
        raise Unauthorized(error.message) from error
    try:
        if await parts.door.logged_in(request.protocol, caller.user):
            service.metrics.logins.labels("accepted").inc()
        return Visitor(parts, caller, address, _holders(parts, caller.user, address))
    except QuotaExceeded:
        parts.authenticator.leave(caller)
        raise


def refused(request: web.Request, error: AccessDenied, reason: str = "token") -> None:
    """What a client showed lets nobody in: note it, and charge for it.

    Args:
        request: the client's.
        error: what it is told.
        reason: what it showed, for the log.
    """
    parts = request.app[PARTS]
    address = client_of(request).address
    parts.service.metrics.logins.labels("refused").inc()
    now = asyncio.get_running_loop().time()
    parts.service.gate.charge(address, Offence.REFUSED, now)
    parts.door.tried(request.protocol)
    log.info("login refused", address=address, reason=reason, told=error.message)


def _holders(parts: Web, user: str, address: str) -> tuple[Holder, ...]:
    """Whose sessions these are."""
    holder = Holder(Scope.USER, user)
    if parts.service.gate.trusts(address):
        return (holder,)
    return (Holder(Scope.ADDRESS, source_of(address)), holder)


def credentials_of(request: web.Request) -> Credentials | None:
    """What a request shows; None: nothing.

    Raises:
        Unauthorized: it cannot be read.
    """
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, rest = header.partition(" ")
        match scheme.lower():
            case "bearer":
                return Credentials(rest.strip())
            case "basic":
                return _read_basic(rest.strip())
            case _:
                raise Unauthorized("access denied: use Authorization: Bearer TOKEN, or Basic")
    protocols = request.headers.get("Sec-WebSocket-Protocol", "")
    words = [word.strip() for word in protocols.split(",")]
    if WEBSOCKET_PROTOCOL in words:
        tokens = [word for word in words if word != WEBSOCKET_PROTOCOL]
        if tokens:
            return Credentials(tokens[0])
    return None


def _read_basic(text: str) -> Credentials:
    try:
        user, colon, token = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
        user = token = ""
    if not colon:
        raise Unauthorized("access denied: Authorization: Basic takes NAME:TOKEN in base64")
    return Credentials(token, user)
