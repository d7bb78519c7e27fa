"""Lets in callers with a token, a cookie, a link or a code, and says for how long.

Fronts without keys use this.  `Tokens.admit`, `Tokens.admit_session` or `Tokens.admit_link` lets a
caller in, and the front calls `Tokens.leave` once for each, whatever happens in between.  Meanwhile
the caller's sessions end within a second when its token, the key that made it or its user is
removed, when its time is over, or when the certificate or line of a file behind it ends.
`pipe.service.Service.expel` does that as for all logins, so a front lists its sessions with the
service, and calls `pipe.rights.access.Access.require` when it begins one.

Secrets are made here, shown once, and known only by their SHA-256 from then on.  An unknown secret
and a mistyped one get the same answer.
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
"""How tokens for programs and browsers begin, so that one found in the wrong place can be
recognised."""

ID_LENGTH = 12
"""Characters of an ID: sixty bits.  It is not secret."""

TOKEN_LENGTH = 43
"""Characters of a token's secret: 256 bits."""

SHORT_LENGTH = 27
"""Characters of a link's or a code's secret: 135 bits in an alphabet that is safe to read aloud and
to print in small letters."""

CODE_SECONDS = 300.0
"""How long a code is good for."""

TOUCH_SECONDS = 60.0
"""How exact a token's time of last use is, so that many uses do not mean many writes."""

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
    """Tells whether a certificate or a file still stands behind a token."""

    async def vouch(self, token: Token, address: str) -> Any:  # noqa: ANN401 - its own business
        """Check whether a token's maker could log in from an address now.

        Returns:
            The identity for `begin`.

        Raises:
            AccessDenied: it could not.
        """

    def begin(self, caller: Caller, identity: Any, address: str) -> None:  # noqa: ANN401
        """Dismiss this caller once that no longer holds."""

    def end(self, caller: Caller) -> None:
        """The caller has gone."""


class Secret(NamedTuple):
    """A secret that was just made."""

    id: str
    text: str
    """What is shown, once."""
    digest: str
    """What is stored."""


def make_secret(kind: TokenKind) -> Secret:
    """Make a new secret."""
    number = _random(_SHORT_ALPHABET, ID_LENGTH)
    if kind in {TokenKind.LINK, TokenKind.CODE}:
        text = _random(_SHORT_ALPHABET, SHORT_LENGTH)
    else:
        prefix = API_PREFIX if kind is TokenKind.API else SESSION_PREFIX
        text = f"{prefix}{number}_{_random(_TOKEN_ALPHABET, TOKEN_LENGTH)}"
    return Secret(number, text, digest(text))


def digest(text: str) -> str:
    """What is stored of a secret."""
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
    """Describe a token that a caller makes, for `pipe.store.guard.Guard.add_token`.

    It lasts no longer than what let the caller in.  ``lifetime`` is in seconds; for a code it is
    the lifetime of its session.

    Raises:
        AccessDenied: the caller may not make tokens, or wants an admin's without being one.
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
    """Lets callers in by the secret that they show.

    Args:
        access: decides rights, and is told who is here.
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
        """Let in a client with a program's token.

        Args:
            text: The token as it came.
            address: The client's IP address.
            user: The user that the client claims to be, if it does; others' tokens are unknown.

        Returns:
            The caller, until `leave`.

        Raises:
            TokenRefused: The token is unknown, or over.
            AccessDenied: What stood behind it no longer does.
            StoreUnavailable: The database cannot be asked.
        """
        return await self._admit(TokenKind.API, text, address, user)

    async def admit_session(self, text: str, address: str) -> Caller:
        """Let in a client with a browser's cookie; otherwise like `admit`."""
        return await self._admit(TokenKind.SESSION, text, address)

    async def admit_link(self, text: str, address: str) -> Caller:
        """Let in a client with a link's secret, and count the use; otherwise like `admit`."""
        return await self._admit(TokenKind.LINK, text, address)

    async def log_out(self, text: str, address: str) -> None:
        """End a browser's session, and whatever goes on by it; raises as `admit_session` does."""
        caller = await self.admit_session(text, address)
        try:
            await self._guard.remove_token(caller, caller.token)
        finally:
            self.leave(caller)

    def leave(self, caller: Caller) -> None:
        """Note that a caller has gone."""
        if self.voucher:
            self.voucher.end(caller)
        self._access.logged_out(caller)

    async def look_at_link(self, text: str) -> Token:
        """Return what a link is for, without using it.

        Raises:
            TokenRefused: It is unknown, over, or used up.
        """
        return await self._look(TokenKind.LINK, text)

    async def look_at_code(self, text: str) -> Token:
        """Return whom a code would log in, without using it.

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
            The cookie's content, and the code that made it: its ``session_until`` is the cookie's
            end.

        Raises:
            TokenRefused: The code is unknown, over, or already used.
            AccessDenied: What stood behind it no longer does.
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
        # Taken before the decision, so that a later removal applies to this login.
        number = next_login()
        token = await self._look(kind, text)
        if user is not None and user != token.user:
            raise TokenRefused(_UNKNOWN[kind], Refusal.UNKNOWN)
        identity = await self._vouch(token, address)
        # Checked last, so that no removal can come between this and what follows.
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
    """Check that a token is of a kind and still good; ``used`` means that it was just used.

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
