"""By HTTP: a POST for each batch, over a connection that is kept."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ._transport import Refused, Unsent
from ._words import printable

if TYPE_CHECKING:
    from ._transport import Batch

TIMEOUT: Final = 10.0
"""Seconds to connect, and for an answer to begin or go on."""

LONGEST_WAIT: Final = 600.0
"""Seconds: as long as a server may ask us to wait."""

ANSWER_LIMIT: Final = 16 * 1024
"""Bytes of an answer that are read, so that its connection can be used again."""

PATH: Final = "/api/logs"

AGAIN: Final = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)
"""Answers of the 400s that are about the moment and not about the batch."""


class Http:
    """Posts batches to `url`; without a path that is `/api/logs` there.

    Raises:
        ValueError: the URL is none, or not one of HTTP.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL as https://pipe.example.org")
        if parts.username is not None:
            raise ValueError("the URL has a user or password: give a token instead")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("the token has characters that no token has")
        self.where = f"{parts.scheme}://{parts.netloc}"
        self.held = self.held_lines = 0
        self.works = True
        self._secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = parts.port
        self._path = parts.path if parts.path.strip("/") else PATH
        if parts.query:
            self._path += "?" + parts.query
        self._headers = {"Content-Type": "application/x-ndjson", "User-Agent": "pipe-log"}
        if token is not None:
            self._headers["Authorization"] = "Bearer " + token
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Batch) -> None:
        """Post a batch, and wait until the server has it."""
        if not batch.data:
            return
        kept = self._connection is not None
        try:
            try:
                answer = self._post(batch.data)
            except (http.client.RemoteDisconnected, ConnectionError):
                if not kept:
                    raise
                answer = self._post(batch.data)  # the server had closed what we kept
            self._judge(answer)
        except (OSError, http.client.HTTPException) as error:
            self._close()
            raise Unsent(str(error) or type(error).__name__) from None

    def lost(self) -> bool:
        """Never: nothing is kept."""
        return False

    def finish(self, timeout: float) -> None:  # noqa: ARG002
        """Close the connection."""
        self._close()

    def abort(self) -> None:
        """Do nothing: the thread that waits is a daemon."""

    def forsake(self) -> None:
        """Close our copy of the parent's socket, which says nothing to the server."""
        self._close()

    def _post(self, data: bytes) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.request("POST", self._path, data, self._headers)
            return self._connection.getresponse()
        except BaseException:
            self._close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)

    def _judge(self, answer: http.client.HTTPResponse) -> None:
        text = answer.read(ANSWER_LIMIT)
        if answer.will_close or not answer.isclosed():
            self._close()
        status = answer.status
        if 200 <= status < 300:
            return
        reason = f"{status} {answer.reason}"
        if said := text.decode("utf-8", "replace").strip():
            reason += ": " + printable(said.splitlines()[0])
        if status >= 500 or status in AGAIN:
            raise Unsent(reason, _seconds(answer.headers.get("Retry-After")))
        if 300 <= status < 400:
            reason += " to " + printable(answer.headers.get("Location", "?"))
        raise Refused(reason)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


def _seconds(text: str | None) -> float:
    """What Retry-After asks for: a number of seconds, or a date."""
    if text is None:
        return 0.0
    try:
        seconds = float(text) if text.strip().isdigit() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _seconds_until(date: str) -> float:
    return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
