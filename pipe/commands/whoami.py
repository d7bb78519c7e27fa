"""``whoami``: who the caller is to the server, and the limits that apply."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipe.commands.layout import date, labelled
from pipe.commands.tokens import describe_scope
from pipe.language.durations import format_duration
from pipe.language.names import escape
from pipe.language.sizes import format_size
from pipe.limits.quotas import Holder, Resource, Scope

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.rights.callers import Caller
    from pipe.service import Service


def whoami(service: Service, asker: Asker, *, as_json: bool) -> str:
    """Answer in aligned lines, or as one JSON object."""
    caller = asker.caller
    if as_json:
        facts = {
            "user": caller.user,
            "admin": caller.admin,
            "key": caller.fingerprint,
            "address": asker.address,
            "token": _token(asker.caller),
            "limits": _limits(service, asker),
            "used": {one.value: _used(service, asker, one) for one in Resource},
        }
        return json.dumps(facts) + "\n"
    rows = [
        ("user", caller.user),
        ("key", caller.fingerprint),
        ("address", escape(asker.address)),
    ]
    if caller.token:
        name = f' "{escape(caller.token_name)}"' if caller.token_name else ""
        rows += [
            ("token", f"{caller.token}{name}, until {date(caller.until, 'removed')}"),
            ("may", describe_scope(caller.scope)),
        ]
    rows += zip(("limits", *[""] * 9), _sentences(service, asker), strict=False)
    return labelled(rows)


def _token(caller: Caller) -> dict[str, object] | None:
    """The token that let the caller in, if one did."""
    if not caller.token:
        return None
    return {
        "id": caller.token,
        "name": caller.token_name,
        "until": caller.until,
        "read": caller.scope.reads.shown if caller.scope else None,
        "write": caller.scope.writes.shown if caller.scope else None,
        "admin": caller.admin,
    }


def _limits(service: Service, asker: Asker) -> dict[str, float | None]:
    """Every limit by name; None if there is none for this caller."""
    settings = service.settings
    limits: dict[str, float | None] = {}
    for resource in Resource:
        for scope in Scope:
            most = service.quotas.limit(resource, scope)
            applies = scope is Scope.USER or _counts_address(asker)
            name = f"{resource.value}_per_{scope.name.lower()}"
            limits[name] = most or None if applies else None
    return {
        **limits,
        "sessions_per_connection": settings.max_sessions_per_connection,
        "bytes_per_second": settings.max_rate_per_user or None,
        "buffer_bytes": settings.buffer,
        "window_bytes": settings.window,
        "stall_seconds": settings.stall_timeout,
        "idle_seconds": settings.idle_timeout,
    }


def _sentences(service: Service, asker: Asker) -> list[str]:
    settings = service.settings
    rate = settings.max_rate_per_user
    sessions = f", {settings.max_sessions_per_connection} on one connection"
    return [
        _quota(service, asker, Resource.CONNECTIONS),
        _quota(service, asker, Resource.SESSIONS) + sessions,
        _quota(service, asker, Resource.TOPICS),
        _quota(service, asker, Resource.PATTERNS),
        f"{format_size(rate)} published per second, by all your sessions together"
        if rate
        else "any number of bytes per second",
        f"{format_size(settings.window)} sent ahead by a writer that is held up",
        f"{format_size(settings.buffer)} buffered for a reader that falls behind, which is cut off"
        f" if it takes nothing for {format_duration(settings.stall_timeout)} while others wait",
        f"{format_duration(settings.idle_timeout)} for a connection without a session",
    ]


def _quota(service: Service, asker: Asker, resource: Resource) -> str:
    used = _used(service, asker, resource)
    most = service.quotas.limit(resource, Scope.USER)
    text = f"{used} of {most or 'any number of'} {resource.value}"
    shared = service.quotas.limit(resource, Scope.ADDRESS)
    if shared and _counts_address(asker):
        text += f", {shared} from your address"
    return text


def _used(service: Service, asker: Asker, resource: Resource) -> int:
    return service.quotas.held(resource, Holder(Scope.USER, asker.caller.user))


def _counts_address(asker: Asker) -> bool:
    return any(holder.scope is Scope.ADDRESS for holder in asker.holders)
