"""What a publisher says that its stream is, and what a reader is told of it.

A reader's browser acts on it, so what could run as a script on the server's own page, or passes for
a page of it, is told to be text or bytes, whoever says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipe.errors import UsageError
from pipe.language.names import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipe.language.names import TopicName
    from pipe.stream.topics import Member

BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"

MAX_NAME_BYTES = 255
"""What one file name may have on common file systems."""

_PASSED = frozenset(
    {
        "text/plain",
        "text/csv",
        "application/json",
        "application/x-ndjson",
        "application/pdf",
        "application/zip",
        "application/gzip",
        BYTES,
    }
)
_PASSED_KINDS = ("image/", "audio/", "video/")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a publisher says of its stream on a topic; empty and None where it says nothing."""

    content_type: str = ""
    filename: str = ""
    length: int | None = None
    topic: str = ""


NO_OFFER = Offer()


def offer_of(headers: Mapping[str, str], length: int | None) -> Offer:
    """Read an upload's headers."""
    content_type = headers.get("Content-Type", "")
    if content_type.startswith("application/x-www-form-urlencoded"):
        content_type = ""  # what curl -d says of everything
    return Offer(content_type, _filename_in(headers.get("Content-Disposition", "")), length)


def offer_of_part(headers: Mapping[str, str], filename: str | None) -> Offer:
    """Read the headers of a file in a form."""
    return Offer(headers.get("Content-Type", ""), filename or "")


def the_offer(offers: Mapping[Member, Offer], members: Iterable[Member]) -> Offer:
    """What the only publisher among these offers; of several, nobody speaks for all."""
    publishers = [member for member in members if member.source]
    return offers.get(publishers[0], NO_OFFER) if len(publishers) == 1 else NO_OFFER


def the_offer_on(offers: Mapping[Member, Offer], topic: TopicName) -> Offer:
    """The same for a topic elsewhere that has one publisher, if that one is among these."""
    found = [offer for offer in offers.values() if offer.topic == str(topic)]
    return found[0] if len(found) == 1 else NO_OFFER


def safe_type(content_type: str) -> str:
    """What a browser may be told that a stream is."""
    message = Message()
    message["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    kind = message.get_content_type() if "/" in content_type else ""
    charset = message.get_param("charset")
    passed = kind in _PASSED or (kind.startswith(_PASSED_KINDS) and kind != "image/svg+xml")
    if not passed:
        kind = "text/plain" if kind.startswith("text/") else BYTES
    if kind.startswith("text/") and isinstance(charset, str) and charset.isascii():
        word = "".join(one for one in charset if one.isalnum() or one in "-_")[:40]
        return f"{kind}; charset={word.lower()}" if word else kind
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def check_filename(text: str) -> str:
    """Accept the name of a file.

    Raises:
        UsageError: it is none.
    """
    name = safe_filename(text)
    if not name or name != text:
        raise UsageError(f"{quoted(text)} is no name of a file")
    return name


def safe_filename(text: str) -> str:
    """The last part of a path, without what is no character of a name; may be empty."""
    name = text.replace("\\", "/").rpartition("/")[2]
    name = "".join(one for one in name if one.isprintable()).strip()
    while len(name.encode()) > MAX_NAME_BYTES:
        name = name[:-1]
    return "" if name.strip(".") == "" else name


def disposition(filename: str) -> str:
    """Write ``Content-Disposition`` (RFC 6266): to be kept under this name."""
    plain = "".join(one if one.isascii() and one not in '"\\%' else "_" for one in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _filename_in(header: str) -> str:
    if not header:
        return ""
    message = Message()
    message["Content-Disposition"] = header.replace("\r", " ").replace("\n", " ")
    return safe_filename(message.get_filename("") or "")
