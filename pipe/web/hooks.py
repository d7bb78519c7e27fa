"""``POST /hook/ID`` and ``POST /hook/ID/SECRET``: what other services tell.

Whoever has the right proof is answered 202 at once, also for a repeat, for what nobody wants to
know or nobody hears: some senders would repeat for ever what is refused, and keep the rest behind
it.  All others get a 401, in the same words and after the same work whether there is such a hook.

No body is held but those of `MAX_LARGE` long ones and of short ones; one that takes longer than a
login may is cut off.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from pipe.commands import UNAVAILABLE_TEXT
from pipe.errors import AccessDenied, Outcome, QuotaExceeded, StoreUnavailable
from pipe.events.hooks.deliveries import LIMIT, Delivery, Result
from pipe.events.hooks.hub import Post
from pipe.events.hooks.verify import Proof
from pipe.library.ends import end_by, end_of
from pipe.limits.penalties import Offence
from pipe.web.caller import client_of, refused
from pipe.web.parts import PARTS
from pipe.web.statuses import OUTCOME, Unauthorized, refusal

if TYPE_CHECKING:
    from pipe.store import Hook
    from pipe.web.parts import Web

log = structlog.get_logger()

MAX_BODY_BYTES = 1 << 20
"""The longest body; the longest that we have seen have some 100 KiB."""

LARGE_BYTES = 64 * 1024
"""A body that is longer is a long one: most have a few KiB."""

MAX_LARGE = 16
"""Long bodies at a time, of all hooks."""

PIECE_BYTES = 64 * 1024
"""What is read of a body before others get their turn: its HMAC takes some 0.1 ms."""

FORM = "application/x-www-form-urlencoded"
"""What GitHub sends unless it is told otherwise."""

WRONG_TEXT = "access denied: no such hook, or not its secret"


class Bodies:
    """The long bodies that are being read."""

    def __init__(self) -> None:
        self.large = 0

    def take(self) -> None:
        """Count one more.

        Raises:
            QuotaExceeded: there are as many as there may be.
        """
        if self.large >= MAX_LARGE:
            raise QuotaExceeded("too many long bodies at once: try again", LIMIT)
        self.large += 1


BODIES = web.AppKey("bodies", Bodies)


def add_routes(app: web.Application) -> None:
    """Serve both."""
    app[BODIES] = Bodies()
    app.router.add_post("/hook/{id}", receive)
    app.router.add_post("/hook/{id}/{secret}", receive)


async def receive(request: web.Request) -> web.StreamResponse:
    """Take a delivery."""
    parts = request.app[PARTS]
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        return _unsupported(request, "the body is compressed: send it as it is")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, request.content_length or 0)
    hook = await _find(request, parts)
    proof = Proof(
        hook.kind if hook else None,
        hook.secret if hook else "",
        request.headers,
        request.match_info.get("secret", ""),
        time.time(),
    )
    try:
        async with asyncio.timeout(parts.service.settings.login_timeout):
            body = await _read(request, proof)
    except TimeoutError:
        return _cut_off(request, parts)
    except QuotaExceeded:
        parts.service.metrics.refused.labels(LIMIT).inc()
        raise
    now = asyncio.get_running_loop().time()
    hooks = parts.service.hooks
    if not proof.holds() or hook is None:
        if hook:
            hooks.note(hook, Delivery(time.time(), Result.REFUSED, len(body)), now)
        else:
            hooks.note_unknown()
        return _refuse(request)
    try:
        await parts.door.logged_in(request.protocol, hook.user)
        hooks.deliveries.take(hook.id, now)
    except QuotaExceeded as error:
        hooks.note(hook, Delivery(time.time(), Result.LIMITED, len(body)), now)
        if error.resource == LIMIT:
            parts.service.metrics.refused.labels(LIMIT).inc()
        raise
    if hook.kind.tells_of_images and request.content_type == FORM:
        delivery = Delivery(time.time(), Result.UNREADABLE, len(body), detail="it is a form")
        hooks.note(hook, delivery, now)
        return _unsupported(request, "the body is a form: choose the content type application/json")
    await hooks.deliver(hook, Post(request.headers, body, proof.fingerprint), time.time(), now)
    return web.Response(status=202, headers={OUTCOME: Outcome.DONE.label})


async def _find(request: web.Request, parts: Web) -> Hook | None:
    try:
        return await parts.service.store.hooks.find(request.match_info["id"])
    except StoreUnavailable as error:
        log.warning("delivery not taken", error=error.message)
        raise StoreUnavailable(UNAVAILABLE_TEXT) from error


async def _read(request: web.Request, proof: Proof) -> bytes:
    """Read a body, and show it to the proof.

    Raises:
        HTTPRequestEntityTooLarge: it is longer than allowed.
        QuotaExceeded: it is long, and others are too.
    """
    bodies = request.app[BODIES]
    pieces: list[bytes] = []
    size, counted = 0, False
    try:
        while piece := await request.content.read(PIECE_BYTES):
            size += len(piece)
            if size > MAX_BODY_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, size)
            if size > LARGE_BYTES:
                if not counted:
                    bodies.take()
                    counted = True
                await asyncio.sleep(0)
            proof.update(piece)
            pieces.append(piece)
    finally:
        bodies.large -= counted
    return b"".join(pieces)


def _refuse(request: web.Request) -> web.StreamResponse:
    error = Unauthorized(WRONG_TEXT)
    refused(request, AccessDenied(WRONG_TEXT), "hook")
    response = refusal(
        request,
        end_by(error),
        HTTPStatus.UNAUTHORIZED,
        {"WWW-Authenticate": 'Bearer realm="pipe hooks"'},
    )
    response.force_close()  # the gate judges whoever comes again
    return response


def _unsupported(request: web.Request, text: str) -> web.StreamResponse:
    return refusal(request, end_of(Outcome.USAGE, text), HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _cut_off(request: web.Request, parts: Web) -> web.StreamResponse:
    """End a connection whose body does not come."""
    address = client_of(request).address
    now = asyncio.get_running_loop().time()
    parts.service.gate.charge(address, Offence.TIMEOUT, now)
    if request.transport:
        request.transport.abort()
    return web.Response()
