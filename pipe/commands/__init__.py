"""The commands that only answer, each a small module with functions that return text.

They know the shared service and who calls; how the text travels is the front's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from pipe import __version__
from pipe.commands.asker import Asker
from pipe.commands.explain import explain
from pipe.commands.grants import grant, list_grants, revoke
from pipe.commands.invitations import invitations
from pipe.commands.keys import MAX_KEY_BYTES, add_key, list_keys, remove_key
from pipe.commands.ls import list_topics
from pipe.commands.whoami import whoami
from pipe.errors import StoreUnavailable
from pipe.language.requests import (
    AddKey,
    Explain,
    GrantAccess,
    Help,
    List,
    ListGrants,
    ListKeys,
    RemoveKey,
    RevokeAccess,
    Version,
    WhoAmI,
    help_text,
)

if TYPE_CHECKING:
    from pipe.language.requests import Answerable
    from pipe.service import Service

__all__ = ["Asker", "answer", "input_limit", "invitations"]

log = structlog.get_logger()

InTurn = Explain | ListKeys | AddKey | RemoveKey | GrantAccess | RevokeAccess | ListGrants
"""What takes long, or something that all share: of these a user has one at work at a time."""

UNAVAILABLE_TEXT = "the accounts database does not answer: try again later"
"""All that users are told: where it is, and what is wrong with it, is for the log."""


def input_limit(request: Answerable) -> int:
    """How many bytes of stdin a command takes; 0: it reads none."""
    return MAX_KEY_BYTES if isinstance(request, AddKey) else 0


async def answer(request: Answerable, service: Service, asker: Asker) -> str:
    """Return what a command prints.

    Raises:
        PipeError: the command cannot be carried out; the message says why.
    """
    try:
        return await _answer(request, service, asker)
    except StoreUnavailable as error:
        log.warning("command not carried out", user=asker.caller.user, error=error.message)
        raise StoreUnavailable(UNAVAILABLE_TEXT) from error


async def _answer(request: Answerable, service: Service, asker: Asker) -> str:
    match request:
        case WhoAmI():
            return whoami(service, asker, as_json=request.json)
        case Version():
            return f"pipe {__version__}\n"
        case Help():
            return help_text(request.command, service.ssh_command(asker.caller.user))
        case List():  # it pauses in between, and lets others of the user's through
            return await list_topics(service, asker.caller, request.pattern, as_json=request.json)
        case _:
            async with service.turnstile.turn(asker.caller.user):
                return await _answer_in_turn(request, service, asker)


async def _answer_in_turn(request: InTurn, service: Service, asker: Asker) -> str:
    match request:
        case Explain():
            return explain(service, asker.caller, request.topic, as_json=request.json)
        case ListKeys() | AddKey() | RemoveKey():
            return await _answer_about_keys(request, service, asker)
        case GrantAccess():
            return await grant(service, asker.caller, request)
        case RevokeAccess():
            return await revoke(service, asker.caller, request)
        case ListGrants():
            return list_grants(service, asker.caller, as_json=request.json)


async def _answer_about_keys(
    request: ListKeys | AddKey | RemoveKey, service: Service, asker: Asker
) -> str:
    match request:
        case ListKeys():
            return await list_keys(service, asker.caller, as_json=request.json)
        case AddKey():
            return await add_key(service, asker)
        case RemoveKey():
            return await remove_key(service, asker, request.fingerprint, force=request.force)
