"""Whoever comes with a token, a cookie, a link or a code: who that is, and for how long.

Fronts that know no keys ask here.  A caller is let in by `Tokens.admit`, `Tokens.admit_session` or
`Tokens.admit_link`, which each front ends with `Tokens.leave`, once, whatever comes between.  While
it is here, the removal of its token, of the key that made it or of its user, the end of its time,
and the end of the certificate or the line of a file that stands behind it, end its sessions within
a second, as `pipe.service.Service.expel` does with all logins: so a front has them among the
service's sessions, and asks `pipe.rights.access.Access.require` when it begins one.

A secret is made here, is shown once, and is known by its SHA-256 from then on.  What nobody made
and what somebody has misspelt gets the same answer.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipe.errors import AccessDenied, Refusal, TokenRefused
from pipe.rights.callers import NO_BACKING, Caller, next_login
from pipe.store import NewToken, TokenKind

if TYPE_CHECKING:
    from pipe.rights.access import Access
    from pipe.rights.scopes import Scope
    from pipe.store import Token, TokenStore
    from pipe.store.guard import Guard

API_PREFIX, SESSION_PREFIX = "ptk_", "pts_"
"""How a program's token and a browser's begin, so that one that is found where it does not belong
can be known as what it is."""

ID_LENGTH = 12
"""Characters of an ID: sixty bits.  It is no secret."""

TOKEN_LENGTH = 43
"""Characters of a token's secret: 256 bits."""

SHORT_LENGTH = 27
"""Characters of a link's or a code's secret: 135 bits in an alphabet that survives being read
aloud and printed in small letters."""

CODE_SECONDS = 300.0
"""How long a code may be exchanged for a session."""

TOUCH_SECONDS = 60.0
"""A token's time of last use is this exact, so that a flurry of uses is no flurry of writes."""

_TOKEN_ALPHABET = string.ascii_letters + string.digits
_SHORT_ALPHABET = string.ascii_lowercase + "234567"

_TOKEN = f"[{_SHORT_ALPHABET}]{{{ID_LENGTH}}}_[{_TOKEN_ALPHABET}]{{{TOKEN_LENGTH}}}"
_SHORT = f"[{_SHORT_ALPHABET}]{{{SHORT_LENGTH}}}"
_FORMS = {
    TokenKind.API: re.compile(API_PREFIX + _TOKEN),
    TokenKind.SESSION: re.compile(SESSION_PREFIX + _TOKEN),
    TokenKind.LINK: re.compile(_SHORT),
    TokenKind.CODE: re.compile(_SHORT),
}

_UNKNOWN = {
    TokenKind.API: "no such token: was it copied in full, and not removed since?",
    TokenKind.SESSION: "you are not logged in any more: log in again",
    TokenKind.LINK: "no such link: was it copied in full, and not removed since?",
    TokenKind.CODE: "no such login: was the address copied in full?",
}
_EXPIRED = {
    TokenKind.API: "the time of this token is over",
    TokenKind.SESSION: "the time of your login is over: log in again",
    TokenKind.LINK: "the time of this link is over: ask for another one",
    TokenKind.CODE: "the time to log in by this address is over: make another one",
}
_USED_UP = {
    TokenKind.LINK: "this link was used as often as it may be: ask for another one",
    TokenKind.CODE: "this address was used already: make another one",
}


class Voucher(Protocol):
    """Says whether a certificate or a file still stands behind somebody."""

    async def vouch(self, token: Token, address: str) -> Any:  # noqa: ANN401 - its own business
        """Look whether a token's maker could log in from an address now.

        Returns:
            What `begin` takes.

        Raises:
            AccessDenied: it could not.
        """

    def begin(self, caller: Caller, identity: Any, address: str) -> None:  # noqa: ANN401
        """Dismiss this caller once that is so no more."""

    def end(self, caller: Caller) -> None:
        """The caller has gone."""


class Secret(NamedTuple):
    """A secret that was just made."""

    id: str
    text: str
    """What is shown, once."""
    digest: str
    """What is kept."""


def make_secret(kind: TokenKind) -> Secret:
    """Make what a bearer will show."""
    number = _random(_SHORT_ALPHABET, ID_LENGTH)
    if kind in {TokenKind.LINK, TokenKind.CODE}:
        text = _random(_SHORT_ALPHABET, SHORT_LENGTH)
    else:
        prefix = API_PREFIX if kind is TokenKind.API else SESSION_PREFIX
        text = f"{prefix}{number}_{_random(_TOKEN_ALPHABET, TOKEN_LENGTH)}"
    return Secret(number, text, digest(text))


def digest(text: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_token(
    caller: Caller,
    secret: Secret,
    kind: TokenKind,
    lifetime: float,
    *,
    scope: Scope | None = None,
    name: str = "",
    admin: bool = False,
    uses: int | None = None,
) -> NewToken:
    """Describe a token that a caller makes, to be given to `pipe.store.guard.Guard.add_token`.

    It lasts no longer than what let the caller in.  ``lifetime`` is in seconds; that of a code is
    the one of its session.

    Raises:
        AccessDenied: the caller may make none, or is no admin and wants one's.
    """
    if caller.backing == NO_BACKING:
        raise AccessDenied(
            "access denied: your certificate holds you to an address or a command, and nothing "
            "would hold a token to it"
        )
    if admin and not caller.admin:
        raise AccessDenied("access denied: you are no admin; leave out --admin")
    now = time.time()
    until = now + lifetime if caller.until is None else min(now + lifetime, caller.until)
    is_code = kind is TokenKind.CODE
    return NewToken(
        id=secret.id,
        secret=secret.digest,
        user=caller.user,
        kind=kind,
        name=name,
        scope=scope,
        admin=admin,
        made_by=caller.fingerprint,
        backing=caller.backing,
        created=now,
        until=min(until, now + CODE_SECONDS) if is_code else until,
        session_until=until if is_code else None,
        uses_left=1 if is_code else uses,
    )


class Tokens:
    """Lets callers in by what they show.

    Args:
        access: the judge, which is told who is here.
        guard: follows what others take away.
        store: the tokens.

    Attributes:
        voucher: for tokens that a certificate or a file stands behind; without one they are
            refused.
    """

    def __init__(self, access: Access, guard: Guard, store: TokenStore) -> None:
        self._access = access
        self._guard = guard
        self._store = store
        self.voucher: Voucher | None = None

    async def admit(self, text: str, address: str, user: str | None = None) -> Caller:
        """Let in whoever shows a program's token.

        Args:
            text: As it came.
            address: The client's IP address.
            user: Whom the client says that it is, where it says so; another one's token is unknown.

        Returns:
            Who it is, until `leave`.

        Raises:
            TokenRefused: The token is unknown, or over.
            AccessDenied: What stood behind it does so no more.
            StoreUnavailable: The database cannot be asked.
        """
        return await self._admit(TokenKind.API, text, address, user)

    async def admit_session(self, text: str, address: str) -> Caller:
        """Let in whoever shows a browser's cookie; all else as with `admit`."""
        return await self._admit(TokenKind.SESSION, text, address)

    async def admit_link(self, text: str, address: str) -> Caller:
        """Let in whoever shows a link's secret, and count that; all else as with `admit`."""
        return await self._admit(TokenKind.LINK, text, address)

    async def log_out(self, text: str, address: str) -> None:
        """End a browser's session, and whatever goes on by it; raises as `admit_session` does."""
        caller = await self.admit_session(text, address)
        try:
            await self._guard.remove_token(caller, caller.token)
        finally:
            self.leave(caller)

    def leave(self, caller: Caller) -> None:
        """A caller has gone."""
        if self.voucher:
            self.voucher.end(caller)
        self._access.logged_out(caller)

    async def look_at_link(self, text: str) -> Token:
        """What a link is for; it is not used by that.

        Raises:
            TokenRefused: It is unknown, over, or used up.
        """
        return await self._look(TokenKind.LINK, text)

    async def look_at_code(self, text: str) -> Token:
        """Whom a code would log in; it is not used by that.

        Raises:
            TokenRefused: It is unknown, over, or used up.
        """
        return await self._look(TokenKind.CODE, text)

    async def redeem(self, text: str, address: str) -> tuple[str, Token]:
        """Exchange a code for a browser's session.

        Args:
            text: The code as it came.
            address: The client's IP address.

        Returns:
            What the cookie holds, and the code that it was made by: its ``session_until`` is the
            cookie's end.

        Raises:
            TokenRefused: The code is unknown, over, or used already.
            AccessDenied: What stood behind it does so no more.
        """
        token = await self.look_at_code(text)
        await self._vouch(token, address)
        secret = make_secret(TokenKind.SESSION)
        now = time.time()
        session = NewToken(
            id=secret.id,
            secret=secret.digest,
            user=token.user,
            kind=TokenKind.SESSION,
            name=token.name,
            scope=token.scope,
            admin=token.admin,
            made_by=token.made_by,
            backing=token.backing,
            created=now,
            until=token.session_until or now,
        )
        found, made = await self._store.redeem(digest(text), session, address, now)
        if not made:
            _check(TokenKind.CODE, found)
            raise TokenRefused(_USED_UP[TokenKind.CODE], Refusal.USED_UP)
        return secret.text, token

    async def _admit(
        self, kind: TokenKind, text: str, address: str, user: str | None = None
    ) -> Caller:
        await self._guard.catch_up()
        # Before it is judged: a removal after that judgement is one of this login.
        number = next_login()
        token = await self._look(kind, text)
        if user is not None and user != token.user:
            raise TokenRefused(_UNKNOWN[kind], Refusal.UNKNOWN)
        identity = await self._vouch(token, address)
        # Looked at last of all, so that no removal falls between that and what follows.
        now = time.time()
        if kind is TokenKind.LINK:
            found, used = await self._store.use(digest(text), kind, address, now)
            token = _check(kind, found, used=used)
        elif token.backing:
            token = await self._look(kind, text)
        caller = Caller(
            token.user,
            token.made_by,
            token.admin,
            number,
            lent=True,
            scope=token.scope,
            until=token.until,
            backing=token.backing,
            token=token.id,
            token_name=token.name,
        )
        self._access.require(caller)
        self._access.logged_in(caller)
        if self.voucher and token.backing:
            self.voucher.begin(caller, identity, address)
        if now - (token.used or 0.0) >= TOUCH_SECONDS and kind is not TokenKind.LINK:
            self._store.note_use(token.id, address, now)
        return caller

    async def _look(self, kind: TokenKind, text: str) -> Token:
        if not _FORMS[kind].fullmatch(text):
            raise TokenRefused(_UNKNOWN[kind], Refusal.UNKNOWN)
        return _check(kind, await self._store.find(digest(text)))

    async def _vouch(self, token: Token, address: str) -> object:
        if not token.backing:
            return None
        if self.voucher is None:
            raise AccessDenied("access denied: nobody vouches for whoever made this token")
        return await self.voucher.vouch(token, address)


def _check(kind: TokenKind, token: Token | None, *, used: bool = False) -> Token:
    """Check that a token is one of a kind, and good for something; ``used``: it just was.

    Raises:
        TokenRefused: It is not.
    """
    if token is None or token.kind is not kind:
        raise TokenRefused(_UNKNOWN[kind], Refusal.UNKNOWN)
    if used:
        return token
    if token.until <= time.time():
        raise TokenRefused(_EXPIRED[kind], Refusal.EXPIRED)
    if token.uses_left == 0:
        raise TokenRefused(_USED_UP[kind], Refusal.USED_UP)
    return token


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
