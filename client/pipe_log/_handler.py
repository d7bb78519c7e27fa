"""What services use: a handler for `logging`, and a processor for structlog."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

from . import _fields
from ._http import Http
from ._lines import encode
from ._sender import CLOSE_SECONDS, Sender
from ._ssh import Ssh

Event = TypeVar("Event", bound=MutableMapping[str, Any])

OWN_LOGGER = "pipe_log"


def make_sender(url: str, token: str | None = None) -> Sender:
    """A sender to a URL, or to "ssh:HOST TOPIC".

    Raises:
        ValueError: it is neither.
    """
    if not url.startswith("ssh:"):
        return Sender(Http(url, token))
    if token is not None:
        raise ValueError("over SSH the key says who you are: there is no token")
    return Sender(Ssh(url))


class Handler(logging.Handler):
    """Sends records to a server of `pipe`, from a thread of its own.

    A record's `extra` becomes fields of its line, `user` among them: the name of the user whom the
    line is about, who alone will see it. `emit` never waits and never raises. At most 4 MiB of
    lines wait; beyond that the newest are dropped, and counted.

    Args:
        url: of the server, "https://pipe.example.org"; or "ssh:HOST TOPIC", for the `ssh` of the
            machine with its configuration and keys.
        token: the token, with the right to send logs; not with SSH.
        service: the name of the service, for each line that does not give one.
        level: the least level that is sent.

    Raises:
        ValueError: the URL or the token cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        service: str | None = None,
        level: int | str = logging.NOTSET,
    ) -> None:
        super().__init__(level)
        self.service = service
        self._sender = make_sender(url, token)

    @property
    def dropped(self) -> int:
        """How many records were dropped, or refused, so far."""
        return self._sender.dropped

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record's line."""
        try:
            name = record.name
            if name and (name == OWN_LOGGER or name.startswith("pipe_log.")):
                return
            if self._sender.is_own():
                return
            self._sender.put(encode(_fields.of_record(record, self.service)))
        except Exception:  # noqa: BLE001 - a log must not end what it tells of
            self._sender.drop()

    def emit_event(self, event: Mapping[str, Any], method: str, logger: object = None) -> None:
        """Queue the line of an event of structlog, as `Processor` does."""
        try:
            level = _fields.event_level(event, method)
            if level >= self.level and not self._sender.is_own():
                fields = _fields.of_event(event, level, logger, self.service)
                self._sender.put(encode(fields))
        except Exception:  # noqa: BLE001
            self._sender.drop()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Send what there is, for at most so many seconds; what is left is dropped."""
        self._sender.close(timeout)
        super().close()


class Processor:
    """A processor of structlog that sends each event by a `Handler`, and hands it on as it came.

    It stands before the renderer.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def __call__(self, logger: object, method: str, event: Event) -> Event:
        """Queue the event's line."""
        self._handler.emit_event(event, method, logger)
        return event
