"""``login``: an address that logs the caller's browser in, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import date
from pipe.errors import WebOff
from pipe.store import TokenKind
from pipe.store.admission import make_secret, make_token

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.language.token_requests import LogIn
    from pipe.service import Service


async def log_in(service: Service, asker: Asker, request: LogIn) -> str:
    """Make a code, and answer only with the address that takes it.

    Raises:
        WebOff: there are no web pages.
        AccessDenied: the caller may not make one, or not as an admin.
    """
    caller = asker.caller
    url = web_url(service)
    secret = make_secret(TokenKind.CODE)
    code = make_token(caller, secret, TokenKind.CODE, request.duration, admin=request.admin)
    await service.guard.add_token(caller, code)
    asker.session.announce(
        "open it within 5 minutes; it works once, and keeps you logged in until "
        f"{date(code.session_until, '')}"
    )
    return f"{url}/login/{secret.text}\n"


def web_url(service: Service) -> str:
    """Where the web pages are.

    Raises:
        WebOff: there are none.
    """
    if not service.web_url:
        raise WebOff("this server has no web pages: its operator has switched them off")
    return service.web_url
