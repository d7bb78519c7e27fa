"""``whoami``: who the server takes the caller for, and the limits that apply."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipe.names import escape
from pipe.quantities import format_size

if TYPE_CHECKING:
    from pipe.access import Caller
    from pipe.settings import Settings


def whoami(caller: Caller, address: str, settings: Settings, *, as_json: bool) -> str:
    """Answer in aligned lines, or as one JSON object."""
    facts = {
        "user": caller.user,
        "key": caller.fingerprint,
        "address": address,
        "sessions_per_connection": settings.max_sessions_per_connection,
        "buffer_bytes": settings.buffer,
    }
    if as_json:
        return json.dumps(facts) + "\n"
    rows = [
        ("user", caller.user),
        ("key", caller.fingerprint),
        ("address", escape(address)),
        ("limits", f"{settings.max_sessions_per_connection} sessions a connection"),
        ("", f"{format_size(settings.buffer)} buffered for a reader that falls behind"),
    ]
    return "".join(f"{name:<9}{value}\n" for name, value in rows)
