"""What the proxy says itself, in the form that clients of registries show to their users."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from pipe.errors import Outcome, PipeError
from pipe.web.statuses import (
    BASIC_CHALLENGE,
    OUTCOME,
    RETRY_AFTER,
    STATUSES,
    NotFound,
    Unauthorized,
)

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
"""By this clients know that they have found a registry."""

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
"""What users have pushed is served from the page's own origin: a browser runs nothing of it."""


class RegistryDown(PipeError):
    """The registry behind the proxy does not do what is asked of it."""

    outcome = Outcome.UNAVAILABLE


_STATUSES: tuple[tuple[type[PipeError], HTTPStatus], ...] = (
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (NotFound, HTTPStatus.NOT_FOUND),
    (RegistryDown, HTTPStatus.BAD_GATEWAY),
)

_CODES = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.FORBIDDEN: "DENIED",
    HTTPStatus.NOT_FOUND: "NAME_UNKNOWN",
    HTTPStatus.BAD_REQUEST: "NAME_INVALID",
    HTTPStatus.TOO_MANY_REQUESTS: "TOOMANYREQUESTS",
}


def answer_to(request: web.Request, error: PipeError) -> web.Response:
    """Say in a response that has not begun what was wrong."""
    usual = STATUSES[error.outcome]
    status = next((found for kind, found in _STATUSES if isinstance(error, kind)), usual)
    headers = {**VERSION, **SAFE, OUTCOME: error.outcome.label}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = BASIC_CHALLENGE
    if status in RETRY_AFTER:
        headers["Retry-After"] = RETRY_AFTER[status]
    known = {"code": _CODES.get(status, "UNAVAILABLE"), "message": error.message}
    response = web.json_response({"errors": [known]}, status=status, headers=headers)
    if request.body_exists and not request.content.is_eof():
        response.force_close()  # so that the client stops sending
    return response
