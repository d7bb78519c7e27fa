"""The commands that only answer: small modules with functions that return text.

They know the shared service and the caller; the front delivers the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from pipe import __version__
from pipe.commands.asker import Answer, Asker
from pipe.commands.explain import explain
from pipe.commands.grants import grant, list_grants, revoke
from pipe.commands.hooks import answer_about_hooks
from pipe.commands.invitations import invitations
from pipe.commands.keys import MAX_KEY_BYTES, add_key, list_keys, remove_key
from pipe.commands.link import make_link
from pipe.commands.login import log_in
from pipe.commands.logs import show_logs
from pipe.commands.ls import show_topics
from pipe.commands.monitors import answer_about_monitors
from pipe.commands.offset import offset
from pipe.commands.stat import show_members
from pipe.commands.tokens import add_token, list_tokens, remove_token
from pipe.commands.webhooks import answer_about_webhooks
from pipe.commands.whoami import whoami
from pipe.errors import AccessDenied, StoreUnavailable
from pipe.language.account_requests import (
    AboutGrants,
    AboutKeys,
    AddKey,
    GrantAccess,
    ListGrants,
    ListKeys,
    RemoveKey,
    RevokeAccess,
)
from pipe.language.hook_requests import AboutHooks
from pipe.language.log_requests import Logs
from pipe.language.monitor_requests import MonitorRequest
from pipe.language.past import Offset
from pipe.language.progress_requests import Stat
from pipe.language.requests import Explain, Help, List, Version, WhoAmI, help_text
from pipe.language.token_requests import (
    AboutTokens,
    AddToken,
    ListTokens,
    LogIn,
    MakeLink,
    RemoveToken,
)
from pipe.language.webhook_requests import AboutWebhooks, TestWebhook

if TYPE_CHECKING:
    from pipe.language.requests import Answerable
    from pipe.service import Service

__all__ = ["Answer", "Asker", "answer", "input_limit", "invitations"]

log = structlog.get_logger()

InTurn = (
    Explain | AboutKeys | AboutGrants | AboutTokens | AboutHooks | AboutWebhooks | MonitorRequest
)
"""Commands that take long, or use something that all users share: each user runs one at a time."""

UNAVAILABLE_TEXT = "the accounts database does not answer: try again later"
"""All that users are told; the log says where the database is and what is wrong with it."""


def input_limit(request: Answerable) -> int:
    """How many bytes of stdin a command takes; 0 if it reads none."""
    return MAX_KEY_BYTES if isinstance(request, AddKey) else 0


async def answer(request: Answerable, service: Service, asker: Asker) -> str:
    """Return what a command prints: an `Answer` if it wants an exit status too.

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
        case Offset():
            return offset(service, asker.caller, request.topic)
        case List():  # it pauses in between, and lets the user's other commands through
            return await show_topics(service, asker, request)
        case Logs():
            return show_logs(service, asker.caller, request)
        case Stat():  # the same
            return await show_members(service, asker.caller, request)
        case TestWebhook():  # it takes as long as the receiver likes
            return await answer_about_webhooks(request, service, asker)
        case _:
            async with service.turnstile.turn(asker.caller.user):
                return await _answer_in_turn(request, service, asker)


async def _answer_in_turn(request: InTurn, service: Service, asker: Asker) -> str:
    if isinstance(request, Explain):
        return explain(service, asker.caller, request.topic, as_json=request.json)
    if asker.caller.scope is not None:
        raise AccessDenied(
            "access denied: a token is for topics, and neither shows nor changes"
            " its user's keys, grants, tokens, hooks, webhooks and monitors"
        )
    if isinstance(request, AboutHooks):
        return await answer_about_hooks(request, service, asker)
    if isinstance(request, AboutWebhooks):
        return await answer_about_webhooks(request, service, asker)
    match request:
        case ListKeys() | AddKey() | RemoveKey():
            return await _answer_about_keys(request, service, asker)
        case GrantAccess() | RevokeAccess() | ListGrants():
            return await _answer_about_grants(request, service, asker)
        case ListTokens() | AddToken() | RemoveToken() | LogIn() | MakeLink():
            return await _answer_about_tokens(request, service, asker)
        case _:
            return await answer_about_monitors(service, asker, request)


async def _answer_about_keys(request: AboutKeys, service: Service, asker: Asker) -> str:
    match request:
        case ListKeys():
            return await list_keys(service, asker.caller, as_json=request.json)
        case AddKey():
            return await add_key(service, asker)
        case RemoveKey():
            return await remove_key(service, asker, request.fingerprint, force=request.force)


async def _answer_about_grants(request: AboutGrants, service: Service, asker: Asker) -> str:
    match request:
        case GrantAccess():
            return await grant(service, asker.caller, request)
        case RevokeAccess():
            return await revoke(service, asker.caller, request)
        case ListGrants():
            return list_grants(service, asker.caller, as_json=request.json)


async def _answer_about_tokens(request: AboutTokens, service: Service, asker: Asker) -> str:
    match request:
        case ListTokens():
            return await list_tokens(service, asker.caller, as_json=request.json)
        case AddToken():
            return await add_token(service, asker, request)
        case RemoveToken():
            return await remove_token(service, asker, request.token)
        case LogIn():
            return await log_in(service, asker, request)
        case MakeLink():
            return await make_link(service, asker, request)
