"""What all requests share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from pipe.web.pages import Tickets

if TYPE_CHECKING:
    from pipe.limits.sources import TrustedSources
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.stream.topics import Member
    from pipe.web.door import Door
    from pipe.web.hangup import Hangups
    from pipe.web.offers import Offer
    from pipe.web.origin import Site


class Authenticator(Tickets, Protocol):
    """Says whom a secret lets in: `pipe.store.admission.Tokens`."""

    async def admit(self, text: str, address: str, user: str | None = None) -> Caller:
        """Let in whoever shows a program's token, until `leave`.

        Raises:
            AccessDenied: nobody made it, or its time is over.
            StoreUnavailable: nobody can be asked.
        """

    async def admit_link(self, text: str, address: str) -> Caller:
        """Let in whoever shows a link's secret, and count that; all else as with `admit`."""

    async def admit_session(self, text: str, address: str) -> Caller:
        """Let in whoever shows a browser's cookie; all else as with `admit`."""

    async def log_out(self, text: str, address: str) -> None:
        """Remove the session whose cookie this is; raises as `admit` does."""

    def leave(self, caller: Caller) -> None:
        """A caller has gone."""


@dataclass(slots=True)
class Web:
    """The HTTP front of one server."""

    service: Service
    authenticator: Authenticator
    hangups: Hangups
    proxies: TrustedSources
    site: Site
    door: Door = field(init=False)
    offers: dict[Member, Offer] = field(default_factory=dict)  # of those who publish
    warned: bool = False  # that a proxy is not trusted


PARTS = web.AppKey("parts", Web)
"""Where a request finds them."""
