"""Where nodes of a mesh are, and what they are called."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from pipe.errors import BadName

_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A label of a host name (RFC 1123), in small letters: it is part of keys and file names."""

NODE_RULE = "1 to 63 of a-z 0-9 -, not beginning or ending with -"
PLACE_RULE = "a host and a port, as in n1.example:2223 or [::1]:2223"


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read it; an IPv6 address stands in brackets.

        Raises:
            BadName: it is none.
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        name = host[1:-1] if bracketed else host
        shown = name.isascii() and name.isprintable() and not set(name) & set(" ,/@[]")
        if not (colon and name and shown) or (":" in name) is not bracketed:
            raise BadName(f"this is no place: use {PLACE_RULE}")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise BadName(f"this is no place: use {PLACE_RULE}")
        return cls(name, int(port))


def parse_node(text: str) -> str:
    """Check a node's name.

    Raises:
        BadName: it is none.
    """
    if not _NODE.fullmatch(text):
        raise BadName(f"this is no name of a node: use {NODE_RULE}")
    return text


def check_places(text: str) -> str:
    """Check one place, or several with commas between them, for a setting.

    Raises:
        ValueError: one is none.
    """
    try:
        return ",".join(str(Place.parse(part.strip())) for part in text.split(","))
    except BadName as error:
        raise ValueError(error.message) from None


def check_node(text: str) -> str:
    """Check a node's name, for a setting.

    Raises:
        ValueError: it is none.
    """
    try:
        return parse_node(text)
    except BadName as error:
        raise ValueError(error.message) from None
