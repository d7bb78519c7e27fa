"""Listening for HTTP, and every option of aiohttp that matters set on purpose."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp import HttpVersion11, web, web_response

from pipe.errors import Outcome, PipeError, StartError, UsageError
from pipe.library.ends import end_of
from pipe.limits.bounds import NO_NETWORKS, parse_networks
from pipe.limits.listener import Listener, why_not_web
from pipe.limits.sources import TrustedSources
from pipe.settings import is_loopback
from pipe.web import api, feeds, hooks
from pipe.web.caller import client_of, login_of, peer_of, refused
from pipe.web.door import KEEP_ALIVE_SECONDS, Door
from pipe.web.hangup import Hangups
from pipe.web.manual import Manual
from pipe.web.origin import Site, accepts_in_tunnel
from pipe.web.pages import Pages
from pipe.web.parts import PARTS, Web
from pipe.web.registry import Registry
from pipe.web.statuses import OUTCOME, NotFound, refusal, refusal_of
from pipe.web.streams import links, publish, read
from pipe.web.streams import socket as sockets
from pipe.web.tls import Certificate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipe.service import Service
    from pipe.settings import Settings
    from pipe.web.parts import Authenticator

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

LINGER_SECONDS = 5.0
"""How long a body that nobody wants is read over, so that its sender gets to see the answer."""

SHUTDOWN_SECONDS = 2.0
"""How long answers may take to leave at a stop."""

SERVER = "pipe"
"""What the header says of the software: a name, no version to match exploits against."""

QUIET = (
    ("aiohttp.server", logging.CRITICAL),
    ("aiohttp.websocket", logging.ERROR),
)
"""They would log secrets: the address in a head that is too long, with a trace, and the token that
a client offers as its subprotocol.  Faults of ours are logged by `_serve`."""

ALLOWED_HEADERS = (
    "Authorization, Content-Type, Content-Encoding, Content-Disposition, Accept, Range,"
    " Content-Range, Pipe-Stream"
)
EXPOSED_HEADERS = (
    "Pipe-Outcome, Pipe-Status, Pipe-Length, Pipe-Publishers, Pipe-Subscribers, Pipe-Rejected,"
    " Pipe-Stream, Pipe-Offset, Pipe-Kept, Content-Range, Retry-After, Content-Disposition"
)
PREFLIGHT_SECONDS = 7200
"""What Chromium keeps at most."""

OPEN_TO_PAGES = ("/topic/", "/t/", "/pubsub/", "/pipe/", "/l/", "/api/", "/v1/")
"""Routes that pages of other origins may use; no cookie of theirs ever counts there."""

ROUTES = {
    "/topic/": "topic",
    "/t/": "topic",
    "/pubsub/": "pubsub",
    "/pipe/": "pipe",
    "/l/": "link",
    "/api/": "api",
    "/hook/": "hook",
    "/v1/": "api",
    "/feed/": "feed",
    "/badge/": "feed",
    "/status/": "feed",
    "/healthz": "health",
    "/v2/": "registry",
}
"""The label of a request, by what its path begins with; all else is `OTHER`."""

OTHER = "page"


class WebServer:
    """The listening socket and the requests that come in through it.

    Args:
        service: what all fronts share.
        authenticator: says whom a token lets in.

    Raises:
        StartError: it would send tokens over a network in the open.
    """

    def __init__(self, service: Service, authenticator: Authenticator) -> None:
        settings = service.settings
        check_privacy(settings)
        self._settings = settings
        loop = asyncio.get_running_loop()
        self.parts = Web(
            service,
            authenticator,
            Hangups(loop),
            TrustedSources(parse_networks(settings.web_proxies)),
            Site(settings.resolved_web_url),
        )
        self.port = 0
        for name, level in QUIET:
            logging.getLogger(name).setLevel(level)
        # What aiohttp refuses by itself, a head that it cannot read, never comes to `_dress`.
        web_response.SERVER_SOFTWARE = SERVER  # type: ignore[attr-defined]

    async def prepare(self) -> None:
        """Make everything but a listening socket.

        Raises:
            StartError: the certificate cannot be used.
        """
        settings, parts = self._settings, self.parts
        certificate = None
        if settings.web_tls_cert:
            certificate = Certificate(settings.web_tls_cert, settings.web_tls_key)
        self._registry = Registry(settings.registry_url)
        self._runner = web.AppRunner(
            make_app(parts, self._registry),
            access_log=None,
            handler_cancellation=True,  # else a reader that left would stay, and be sent to
            auto_decompress=False,
            keepalive_timeout=2 * KEEP_ALIVE_SECONDS,  # the door keeps the time
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        parts.door = Door(
            parts.service,
            cast("Callable[[], asyncio.Protocol]", self._runner.server),
            parts.proxies,
            (lambda: certificate.context) if certificate else None,
        )
        if settings.web_tunnel:
            parts.service.tunnels = parts.door
        self._listener = Listener(parts.door.welcome)

    async def start(self) -> None:
        """Begin to accept; sets ``port``.

        Raises:
            StartError: the address or the certificate cannot be used.
        """
        await self.prepare()
        host, port = self._settings.web_host, self._settings.web_port
        try:
            self.port = await self._listener.start(host, port)
        except OSError as error:
            await self.close()
            raise why_not_web(host, port, error) from error

    def stop_accepting(self) -> None:
        """Close the listening socket, if there is one, and connections that ask for nothing."""
        self._listener.close()
        self.parts.door.stop()

    async def close(self) -> None:
        """End what is left."""
        self.parts.service.tunnels = None
        await self._runner.cleanup()
        await self._registry.close()
        self.parts.door.close()
        self.parts.hangups.close()


def make_app(parts: Web, registry: Registry) -> web.Application:
    """Put the routes together."""
    app = web.Application(middlewares=[_usher])
    app[PARTS] = parts
    app.on_response_prepare.append(_dress)
    for prefix in ("/topic", "/t"):
        _add(app, f"{prefix}/{{topic:.*}}", publish.publish, "PUT", "POST")
        _add(app, f"{prefix}/{{topic:.*}}", read.read, "GET")
        _add(app, f"{prefix}/{{topic:.*}}", read.head, "HEAD")
    _add(app, "/pubsub/{topic:.*}", publish.publish_without_waiting, "POST")
    _add(app, "/pubsub/{topic:.*}", read.read, "GET")
    _add(app, "/pipe/{topic:.*}", sockets.converse, "GET")
    _add(app, "/l/{secret}/raw", links.read, "GET")
    _add(app, "/l/{secret}/raw", links.publish, "PUT", "POST")
    _add(app, "/healthz", _health, "GET", "HEAD")
    api.add_routes(app)
    registry.add_routes(app)
    hooks.add_routes(app)
    feeds.add_routes(app)
    manual = Manual()
    pages = Pages(
        parts.site,
        parts.service.ssh_command(),
        parts.authenticator,
        lambda request: client_of(request).address,
        refused,
        has_manual=bool(manual),
    )
    app.add_routes(pages.routes())
    app.add_routes(manual.routes())
    return app


def _add(app: web.Application, path: str, handler: Handler, *methods: str) -> None:
    for method in methods:
        app.router.add_route(method, path, handler, expect_handler=_expect)


async def _expect(request: web.Request) -> None:
    """``Expect: 100-continue`` is answered when somebody wants the body."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def _health(request: web.Request) -> web.StreamResponse:
    """``GET /healthz``: whether new streams are welcome."""
    if request.app[PARTS].service.draining:
        return refusal(request, end_of(Outcome.SHUTDOWN))
    return web.Response(text="ok\n", headers={OUTCOME: Outcome.DONE.label})


@web.middleware
async def _usher(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep the time of a request, judge its client, and word what goes wrong."""
    parts = request.app[PARTS]
    asks_on = not request.body_exists and "Upgrade" not in request.headers
    parts.door.begins(request.protocol, request.content, asks_on=asks_on)
    try:
        response = await _serve(request, handler, parts)
    finally:
        parts.door.ends(request.protocol)
    parts.service.metrics.web_requests.labels(_label(request), f"{response.status // 100}xx").inc()
    return response


async def _serve(request: web.Request, handler: Handler, parts: Web) -> web.StreamResponse:
    try:
        early = _judge(request, parts)
        if early:
            return early
        if request.method == "OPTIONS" and _is_open(request):
            return await _preflight(request)
        return await handler(request)
    except PipeError as error:
        return refusal_of(request, error)
    except web.HTTPException as error:
        return _plain(request, error)
    except web.RequestPayloadError:
        return refusal_of(request, UsageError("the body is not encoded as it says"))
    except OSError:  # the client is gone
        if request.transport:
            request.transport.abort()
        return web.Response()
    except Exception:
        log.exception("request failed", route=_label(request))
        end = end_of(Outcome.FAILED)
        return refusal(request, end)


def _judge(request: web.Request, parts: Web) -> web.Response | None:
    """Turn a request away before it does anything, where there is a reason to."""
    service = parts.service
    if service.draining and request.path != "/healthz":
        service.metrics.refused.labels("draining").inc()
        response = refusal(request, end_of(Outcome.SHUTDOWN))
        response.force_close()
        return response
    if login_of(request):
        return _judge_in_tunnel(request)
    address = client_of(request).address
    if address != peer_of(request):
        now = asyncio.get_running_loop().time()
        if service.gate.refuses(address, now):
            service.metrics.refused.labels("penalty").inc()
            text = "too many logins from your address were refused: try again later"
            end = end_of(Outcome.LIMITED, text)
            return refusal(request, end, headers={"Retry-After": "60"})
    return None


def _judge_in_tunnel(request: web.Request) -> web.Response | None:
    """Turn away what comes through an SSH connection, but perhaps not from its user."""
    if request.version < HttpVersion11:
        text = "in a tunnel HTTP/1.0 cannot tell a broken stream from a whole one: use HTTP/1.1"
        return refusal(request, end_of(Outcome.USAGE, text), 505)
    if accepts_in_tunnel(request.headers):
        return None
    request.app[PARTS].service.metrics.refused.labels("origin").inc()
    text = (
        "access denied: in a tunnel this server is called localhost, by programs and by its own"
        " pages; another page has sent this, or it came by another name"
    )
    return refusal(request, end_of(Outcome.DENIED, text))


async def _preflight(request: web.Request) -> web.Response:
    """Say what pages of other origins may send."""
    match = await request.app.router.resolve(request)
    methods = getattr(match.http_exception, "allowed_methods", None)
    if not methods:
        raise NotFound("there is no such address")
    return web.Response(
        status=204,
        headers={
            "Allow": ", ".join(sorted({*methods, "OPTIONS"})),
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        },
    )


def _plain(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Aiohttp's own refusals, in our words."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    texts = {
        404: "there is no such address: /topic/NAME is a topic",
        405: f"{request.method} means nothing here: there is {headers.get('Allow', '')}",
        413: "the body is too long",
        417: "nothing is known of that expectation but 100-continue",
    }
    end = end_of(Outcome.USAGE, texts.get(error.status, error.reason))
    return refusal(request, end, error.status, headers)


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    """Put on what each response has."""
    response.headers["Server"] = SERVER
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if _is_open(request):
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS


def _is_open(request: web.Request) -> bool:
    """Whether pages of other origins may ask: with a token, which nobody needs in a tunnel."""
    return request.path.startswith(OPEN_TO_PAGES) and not login_of(request)


def _label(request: web.Request) -> str:
    path = request.path
    return next((label for prefix, label in ROUTES.items() if path.startswith(prefix)), OTHER)


def check_privacy(settings: Settings) -> None:
    """Refuse what would send tokens over a network in the open.

    Raises:
        StartError: it would.
    """
    private = is_loopback(settings.web_host) or settings.web_tls_cert
    if not private and settings.web_proxies == NO_NETWORKS and not settings.web_plain:
        raise StartError(
            f"web-host is {settings.web_host}, and HTTP would send tokens there in the open: give "
            "--web-tls-cert, or --web-proxies for the proxy that does TLS, or --web-plain yes"
        )
    if settings.web_tls_key and not settings.web_tls_cert:
        raise StartError("web-tls-key is given without web-tls-cert")
