"""Parts of a stream: ``Range`` and ``Content-Range``, which HTTP's own clients send to go on.

A stream's bytes have numbers, and the stream an identifier in ``Pipe-Stream``.  Without that a
range is not heeded: it could be one of another stream of the same name.  RFC 9110, section 14, has
no last byte that is not known yet; there `LAST` stands for it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from pipe.errors import Outcome, UsageError
from pipe.language.names import is_pattern
from pipe.language.past import MAX_OFFSET, parse_id
from pipe.library.ends import end_by
from pipe.web.statuses import refusal

if TYPE_CHECKING:
    from aiohttp import web

    from pipe.errors import PipeError
    from pipe.language.requests import Publish, Subscribe

STREAM = "Pipe-Stream"

LAST = MAX_OFFSET
"""The last byte of a stream that has not ended."""

_RANGE = re.compile(r"bytes=([0-9]{1,18})-")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-(?:[0-9]{1,18}|\*)/(?:[0-9]{1,18}|\*)")


def read_range(request: web.Request, wanted: Subscribe) -> Subscribe:
    """Let a reader begin with the byte that ``Range`` and ``Pipe-Stream`` name together.

    Raises:
        UsageError: the identifier is none.
    """
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if STREAM not in request.headers or not found or is_pattern(wanted.topic):
        return wanted
    stream = parse_id(request.headers[STREAM])
    return replace(wanted, offset=int(found[1]), stream=stream)


def is_partial(request: web.Request, wanted: Subscribe) -> bool:
    """Whether a reader begins where its ``Range`` says."""
    return wanted.offset is not None and STREAM in request.headers


def read_content_range(request: web.Request, wanted: Publish) -> Publish:
    """Let a publisher go on with the byte that ``Content-Range`` names.

    Raises:
        UsageError: the header is not understood.
    """
    text = request.headers.get("Content-Range")
    if text is None:
        return wanted
    found = _CONTENT_RANGE.fullmatch(text)
    if not found:
        raise UsageError("Content-Range takes the byte to go on with: bytes N-*/*")
    return replace(wanted, at=int(found[1]))


def refuse_range(
    request: web.Request, error: PipeError, kept: tuple[str, int, int] | None
) -> web.Response:
    """Answer a reader whose byte is not there: 416, and which bytes of which stream are."""
    headers = {}
    late = error.outcome is Outcome.LATE
    if late and kept is not None:
        stream, first, behind = kept
        headers = {
            STREAM: stream,
            "Content-Range": f"bytes */{behind}",
            "Pipe-Kept": f"{first}-{behind}",
        }
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if late else None
    return refusal(request, end_by(error), status, headers)
