"""Lines that other programs wrote: cut out of their output, and made lines of our own.

A line that is a JSON object is handed on as it came, with what it lacks put before its first field.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ._lines import GAP_ROOM, LINE_LIMIT, encode, parsed, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMES: Final = frozenset(("time", "timestamp", "@timestamp", "ts", "date"))
"""Fields that tell the time of a line, by any of the names that a server knows."""

SERVICES: Final = frozenset(("service", "service.name", "SYSLOG_IDENTIFIER", "container_name"))


class Source:
    """What is said of all lines of a source.

    Args:
        service: the service, of lines that give none.
        fields: fields that every line has, whatever it says itself.
    """

    def __init__(self, service: str | None, fields: Mapping[str, str]) -> None:
        self.service = service
        self.fields = dict(fields)

    def line(self, text: bytes, moment: str | None = None, **more: str) -> bytes:
        """The line that stands for what a program wrote.

        Args:
            text: without its newline.
            moment: when it was written, as RFC 3339 writes it; by default now.
            more: fields of a line that is no JSON.
        """
        moment = moment or timestamp(time.time())
        if (said := parsed(text)) is None:
            message = text.decode("utf-8", "backslashreplace")
            return encode({**self._defaults({}, moment), "msg": message, **more, **self.fields})
        if self.fields.keys() & said.keys() or len(text) > LINE_LIMIT - GAP_ROOM:
            return encode({**self._defaults(said, moment), **said, **self.fields})
        added = {**self._defaults(said, moment), **self.fields}
        if not added:
            return text + b"\n"
        start = encode(added)[:-2]
        if len(start) + len(text) >= LINE_LIMIT - GAP_ROOM:
            return encode({**added, **said})
        return start + b"," + text[1:].lstrip() + b"\n"

    def _defaults(self, said: Mapping[str, Any], moment: str) -> dict[str, str]:
        """What is said for a line that does not say it."""
        defaults = {}
        if not TIMES & said.keys():
            defaults["time"] = moment
        if not said:
            defaults["level"] = "INFO"
        if self.service is not None and not SERVICES & said.keys():
            defaults["service"] = self.service
        return defaults


class Lines:
    """Cuts a stream of bytes into lines, and keeps of each no more than a line may have."""

    def __init__(self) -> None:
        self._start = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what was written, and give the lines that are complete, without their ends."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._keep(end)
            yield from self.end()
        self._keep(rest)

    def end(self) -> Iterator[bytes]:
        """Give what is there as a line, as nothing more belongs to it; blank ones are left out."""
        text = bytes(self._start).rstrip()
        self._start.clear()
        if text:
            yield text

    def _keep(self, piece: bytes) -> None:
        self._start += piece[: LINE_LIMIT - len(self._start)]
