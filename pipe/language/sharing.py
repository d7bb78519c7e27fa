"""The flags that say in whose space a topic is, and who else may join it."""

from __future__ import annotations

from pipe.errors import UsageError
from pipe.language.flags import Flag, boolean
from pipe.language.names import parse_grantee


def _access_list(text: str) -> tuple[str, ...]:
    entries = tuple(dict.fromkeys(entry.strip() for entry in text.split(",")))
    if not all(entries):
        raise UsageError("the list has an empty entry: write it like bob,carol")
    return tuple(map(parse_grantee, entries))


_ACCESS_TEXT = "users, keys (SHA256:...) or @users who may join while this session lives"

SHARING = (
    Flag("public", "-p --public", boolean, "use the space that all users share"),
    Flag("access", "-a --access", _access_list, _ACCESS_TEXT, "LIST"),
)
"""Of `pub`, `sub`, `pipe` and `chat`."""
