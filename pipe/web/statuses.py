"""What each end means in HTTP: the status, the header ``Pipe-Outcome``, the words of SSH.

A status tells what came before the first byte.  After it there is only whether the response ends
as it should: it does if and only if ``ssh`` would have exited with 0.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from pipe.errors import AccessDenied, Outcome, PipeError
from pipe.library.ends import end_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipe.library.ends import End

STATUSES = {
    Outcome.DONE: HTTPStatus.OK,
    Outcome.USAGE: HTTPStatus.BAD_REQUEST,
    Outcome.DENIED: HTTPStatus.FORBIDDEN,
    Outcome.LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Outcome.FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    Outcome.BROKEN: HTTPStatus.BAD_GATEWAY,
    Outcome.STALLED: HTTPStatus.BAD_GATEWAY,
    Outcome.SLOW: HTTPStatus.BAD_GATEWAY,
    Outcome.DROPPED: HTTPStatus.BAD_GATEWAY,
    Outcome.CUT: HTTPStatus.BAD_GATEWAY,
    Outcome.INTERRUPTED: HTTPStatus.BAD_GATEWAY,
    Outcome.UNDELIVERED: HTTPStatus.BAD_GATEWAY,
    Outcome.LEFT: HTTPStatus.BAD_GATEWAY,
    Outcome.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.SHUTDOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Outcome.TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    Outcome.LATE: HTTPStatus.PRECONDITION_FAILED,
}
"""All but 408, which clients repeat by themselves."""

RETRY_AFTER = {
    HTTPStatus.TOO_MANY_REQUESTS: "1",
    HTTPStatus.SERVICE_UNAVAILABLE: "5",
}
"""Seconds until another try makes sense."""

OUTCOME, STATUS = "Pipe-Outcome", "Pipe-Status"

CHALLENGE = 'Bearer realm="pipe"'
BASIC_CHALLENGE = 'Basic realm="pipe", charset="UTF-8"'


class Unauthorized(AccessDenied):
    """Nobody is known to have sent this request."""


class NotFound(PipeError):
    """There is no such thing."""

    outcome = Outcome.USAGE


class Gone(PipeError):
    """There was such a thing, and is no more."""

    outcome = Outcome.DENIED


class UpgradeRequired(PipeError):
    """This is spoken to by WebSocket only."""

    outcome = Outcome.USAGE


_STATUSES_OF_ERRORS: dict[type[PipeError], HTTPStatus] = {
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    NotFound: HTTPStatus.NOT_FOUND,
    Gone: HTTPStatus.GONE,
    UpgradeRequired: HTTPStatus.UPGRADE_REQUIRED,
}


def status_of(end: End) -> HTTPStatus:
    """The status of a response that has not begun."""
    if end.outcome is Outcome.DONE and end.status:
        return HTTPStatus.FAILED_DEPENDENCY
    return STATUSES[end.outcome]


def refusal(
    request: web.Request,
    end: End,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Say in a response that has not begun why there is none."""
    code = status or status_of(end)
    found = {OUTCOME: end.outcome.label, **(headers or {})}
    if end.outcome is Outcome.DONE:
        found[STATUS] = str(end.status)
    if code in RETRY_AFTER:
        found.setdefault("Retry-After", RETRY_AFTER[HTTPStatus(code)])
    if wants_json(request):
        response = web.json_response(end.as_json(), status=code, headers=found)
    else:
        body = f"{end.message}\n".encode("utf-8", "backslashreplace")
        found["Content-Type"] = "text/plain; charset=utf-8"
        response = web.Response(body=body, status=code, headers=found)
    if request.body_exists and not request.content.is_eof():
        response.force_close()  # so that the client stops sending
    return response


def refusal_of(request: web.Request, error: PipeError) -> web.Response:
    """Say in a response that has not begun what was wrong."""
    status = _STATUSES_OF_ERRORS.get(type(error))
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        # A page asks by itself: a browser that is told of Basic would open a window of its own.
        from_page = "Sec-Fetch-Mode" in request.headers
        headers["WWW-Authenticate"] = CHALLENGE if from_page else f"{BASIC_CHALLENGE}, {CHALLENGE}"
    if status is HTTPStatus.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
    return refusal(request, end_by(error), status, headers)


def wants_json(request: web.Request) -> bool:
    """Whether a client asks for JSON."""
    return "application/json" in request.headers.get("Accept", "")


def json_text(value: object) -> str:
    """Write JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
