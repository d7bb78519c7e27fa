"""``tokens``, ``tokens add``, ``tokens rm``: other ways than keys to log in as the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import date, json_lines, listed, table
from pipe.errors import UsageError
from pipe.language.names import escape
from pipe.rights.scopes import Reach, Right, Scope
from pipe.store import TokenKind
from pipe.store.admission import make_secret, make_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.commands.asker import Asker
    from pipe.language.token_requests import AddToken
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.store import Token

_NOUNS = {TokenKind.API: "token", TokenKind.SESSION: "login", TokenKind.LINK: "link"}


async def list_tokens(service: Service, caller: Caller, *, as_json: bool) -> str:
    """Answer with a table, or with one JSON object per line."""
    tokens = await service.store.tokens.list_tokens(caller.user)
    if as_json:
        return json_lines(
            {
                "id": one.id,
                "kind": _NOUNS[one.kind],
                "name": one.name,
                "read": one.scope.reads.shown if one.scope else None,
                "write": one.scope.writes.shown if one.scope else None,
                "registry": one.scope is None or Right.REGISTRY in one.scope.rights,
                "logs": one.scope is None or Right.LOGS in one.scope.rights,
                "admin": one.admin,
                "created": one.created,
                "until": one.until,
                "used": one.used,
                "used_from": one.used_from or None,
                "uses_left": one.uses_left,
                "key": one.made_by,
                "current": one.id == caller.token,
            }
            for one in tokens
        )
    if not tokens:
        ssh = service.ssh_command(caller.user)
        return f"no tokens; make one: {ssh} tokens add --read TOPIC\n"
    return table(
        ("ID", "KIND", "UNTIL", "LAST USED", "FROM", "NAME", "MAY"),
        [
            (
                one.id,
                _NOUNS[one.kind],
                date(one.until, ""),
                "now" if one.id == caller.token else date(one.used, "never"),
                escape(one.used_from) or "-",
                escape(one.name) or "-",
                _may(one),
            )
            for one in tokens
        ],
        fold=5,
    )


async def add_token(service: Service, asker: Asker, request: AddToken) -> str:
    """Make a token, and answer with it: it is shown only this once.

    Raises:
        UsageError: it would have no rights, or a name or pattern is not valid.
        AccessDenied: the caller may not make tokens, or not one like this.
        StoreError: the caller has too many.
    """
    caller = asker.caller
    scope = Scope(
        _reach("--read", request.read, caller.user),
        _reach("--write", request.write, caller.user),
        _rights(request),
    )
    if request.registry and not (scope.reads or scope.writes):
        raise UsageError("say which images: --read those to pull, --write those to push")
    if not scope:
        raise UsageError("the token could do nothing: say what with --read, --write and --logs")
    secret = make_secret(TokenKind.API)
    token = make_token(
        caller,
        secret,
        TokenKind.API,
        request.duration,
        scope=scope,
        name=request.name,
        admin=request.admin,
    )
    await service.guard.add_token(caller, token)
    asker.session.announce(
        f"this is the only time that it is shown; it lasts until {date(token.until, '')}, "
        f"and 'tokens rm {token.id}' ends it sooner"
    )
    return f"{secret.text}\n"


async def remove_token(service: Service, asker: Asker, start: str) -> str:
    """Remove a token, a link or a browser login, and end the sessions that it let in.

    Raises:
        StoreError: none of the caller's begins so, or several do.
    """
    token = await service.guard.remove_token(asker.caller, start, spare=asker.session)
    noun = _NOUNS.get(token.kind, "login")
    return f"removed {noun} {token.id}\nthe sessions that it let in have ended\n"


def _rights(request: AddToken) -> frozenset[Right]:
    wanted = {Right.REGISTRY: request.registry, Right.LOGS: request.logs}
    return frozenset(right for right, given in wanted.items() if given)


def describe_scope(scope: Scope | None) -> str:
    """Write what a token reaches, as a predicate: ``read a and b, write c``."""
    if scope is None:
        return "do all that you may, but change keys"
    parts = [
        f"{verb} {listed(reach.shown)}"
        for verb, reach in (("read", scope.reads), ("write", scope.writes))
        if reach
    ]
    if Right.REGISTRY in scope.rights:
        parts.append("images too")
    if Right.LOGS in scope.rights:
        parts.append("use logs")
    return ", ".join(parts)


def _may(token: Token) -> str:
    uses = "" if token.uses_left is None else f", {token.uses_left} more times"
    return describe_scope(token.scope) + uses + (", as an admin" if token.admin else "")


def _reach(flag: str, words: Iterable[str], owner: str) -> Reach:
    try:
        return Reach.parse(words, owner=owner)
    except UsageError as error:
        raise UsageError(f"flag {flag}: {error.message}") from None
