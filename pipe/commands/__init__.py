"""The commands that only answer, each a small module with one function that returns text.

They know the shared service and who calls; how the text travels is the front's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe import __version__
from pipe.commands.ls import ls
from pipe.commands.whoami import whoami
from pipe.requests import Help, List, Version, WhoAmI, help_text

if TYPE_CHECKING:
    from pipe.access import Caller
    from pipe.service import Service

Answerable = Help | List | Version | WhoAmI


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants an answer, and from where."""

    caller: Caller
    address: str


async def answer(request: Answerable, service: Service, asker: Asker) -> str:
    """Return what a command prints.

    Raises:
        PipeError: the command cannot be carried out; the message says why.
    """
    match request:
        case List():
            return await ls(service, asker.caller, request.pattern, as_json=request.json)
        case WhoAmI():
            return whoami(asker.caller, asker.address, service.settings, as_json=request.json)
        case Version():
            return f"pipe {__version__}\n"
        case Help():
            host = service.settings.resolved_public_host
            return help_text(request.command, host, service.port)
