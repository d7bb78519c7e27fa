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


def show_logs(service: Service, caller: Caller, request: Logs) -> str:
    """Answer with past lines.

    Raises:
        AccessDenied: the caller may not see them.
    """
    return b"".join(_look(service, caller, request)[2]).decode()


def follow_logs(service: Service, caller: Caller, request: Logs) -> Follower:
    """Answer with past lines, and go on.

    Raises:
        AccessDenied: the caller may not see them.
    """
    whose, wanted, past = _look(service, caller, request)
    follower = service.logs.follow(whose, wanted, sees_hidden=caller.admin)
    for line in past:
        follower.offer(line)
    return follower


def _look(service: Service, caller: Caller, request: Logs) -> tuple[str, Filter, list[bytes]]:
    require_logs(caller)
    user = request.user or caller.user
    if (request.everybody or user != caller.user) and not caller.admin:
        raise AccessDenied("access denied: only admins see what is logged about others")
    whose = "" if request.everybody else user
    wanted = Filter(request.level, request.service, request.grep.encode("utf-8", "surrogateescape"))
    return whose, wanted, service.logs.past(whose, wanted, request.past, request.since)


def require_logs(caller: Caller) -> None:
    """Refuse a token that is not for logs.

    Raises:
        AccessDenied: it is not.
    """
    if caller.scope is not None and Right.LOGS not in caller.scope.rights:
        raise AccessDenied(
            "access denied: your token is not for logs: make one with 'tokens add --logs'"
        )
