"""``logs``: what services and this server have logged about the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import AccessDenied
from pipe.events.logs.filters import Filter
from pipe.rights.scopes import Right

if TYPE_CHECKING:
    from pipe.events.logs.followers import Follower
    from pipe.language.log_requests import Logs
    from pipe.rights.callers import Caller
    from pipe.service import Service


def show_logs(service: Service, caller: Caller, request: Logs) -> str | Follower:
    """Answer with past lines, or with a follower that begins with them.

    Raises:
        AccessDenied: the caller may not see them.
    """
    require_logs(caller)
    user = request.user or caller.user
    if (request.everybody or user != caller.user) and not caller.admin:
        raise AccessDenied("access denied: only admins see what is logged about others")
    whose = "" if request.everybody else user
    wanted = Filter(request.level, request.service, request.grep.encode("utf-8", "surrogateescape"))
    past = service.logs.past(whose, wanted, request.past, request.since)
    if not request.follow:
        return b"".join(past).decode()
    follower = service.logs.follow(whose, wanted, sees_hidden=caller.admin)
    for line in past:
        follower.offer(line)
    return follower


def require_logs(caller: Caller) -> None:
    """Refuse a token that is not for logs.

    Raises:
        AccessDenied: it is not.
    """
    if caller.scope is not None and Right.LOGS not in caller.scope.rights:
        raise AccessDenied(
            "access denied: your token is not for logs: make one with 'tokens add --logs'"
        )
