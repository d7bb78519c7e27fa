"""How long a login lasts that a file or a certificate has let in, and what its tokens let in.

Rules that it keeps:

- When what let a login in has ended, the login is over: its sessions end, and it opens no others.
  That is when its line is taken out of the key file, or has other terms; when the certificate, or
  the line, expires; and when the certificate's CA is not in the file of trusted ones any more.
- A change of a file counts once two looks in a row have found the same, `LOOK_SECONDS` apart: an
  editor that empties a file before it writes it anew throws nobody out.
- A file that cannot be read or believed ends nobody's session: a disk that has gone away is no
  word of the operator's.  Nobody logs in by it meanwhile.
- Ends are compared with the clock on the wall at each look, as it may be set; no timer runs for
  years.  Nothing looks while nobody is there for whom it matters.

Keys of the database are `pipe.store.guard`'s business.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING, TypeAlias

import structlog

from pipe.errors import AccessDenied
from pipe.rights.access import REMOVED_TEXT
from pipe.ssh.login.key_files import choose
from pipe.ssh.login.logins import UNTRUSTED_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.rights.access import Access
    from pipe.rights.callers import Caller
    from pipe.ssh.login.key_files import Entry
    from pipe.ssh.login.logins import Identity, Logins
    from pipe.store import Token

log = structlog.get_logger()

LOOK_SECONDS = 0.4
"""Two looks, and the work between them, fit into the second within which a change is to count."""

KEY_EXPIRED_TEXT = "access denied: this key has expired"
CERTIFICATE_EXPIRED_TEXT = "access denied: the certificate that you logged in with has expired"
CHANGED_TEXT = "access denied: your key may be used on other terms now: log in again"


_Evidence: TypeAlias = "tuple[Entry, ...] | frozenset[str]"
"""What a look has found: the lines of a key file, or the fingerprints of CAs."""


class _Tenure:
    """One login, and what it was doubted for at the last look."""

    __slots__ = ("address", "caller", "doubt", "expires", "identity")

    def __init__(self, caller: Caller, identity: Identity, address: str) -> None:
        self.caller = caller
        self.identity = identity
        self.address = address
        self.expires = identity.expires
        self.doubt: _Evidence | None = None

    def find_fault(self, evidence: _Evidence) -> str:
        """What speaks against it by now; empty if nothing does.

        Its end is the one that its line has now.
        """
        if isinstance(evidence, frozenset):
            return "" if self.identity.authority in evidence else UNTRUSTED_TEXT
        place = ipaddress.ip_address(self.address)
        try:
            entry = choose(evidence, self.identity.fingerprint, place, time.time())
        except AccessDenied as error:
            return f"access denied: {error.message}"
        if entry is None:
            return REMOVED_TEXT
        self.expires = entry.expires
        return "" if entry.restrictions == self.identity.restrictions else CHANGED_TEXT


class Tenures:
    """All logins that last no longer than something else does.

    Args:
        logins: the judge of logins, who has the files.
        access: the judge of everything after the login.
        expel: ends the sessions of those who may do no more.
    """

    def __init__(self, logins: Logins, access: Access, expel: Callable[[], None]) -> None:
        self._logins = logins
        self._access = access
        self._expel = expel
        self._loop = asyncio.get_running_loop()
        self._tenures: dict[int, _Tenure] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    async def vouch(self, token: Token, address: str) -> Identity:
        """Say what stands behind a token, as `pipe.ssh.login.logins.Logins.vouch` does."""
        return await self._logins.vouch(token, address)

    def begin(self, caller: Caller, identity: Identity, address: str) -> None:
        """Somebody has logged in, from this IP address: with a key, or with a token of its."""
        if not identity.ends_with_another:
            return
        self._tenures[caller.login] = _Tenure(caller, identity, address)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._tick)

    def end(self, caller: Caller) -> None:
        """Somebody has gone."""
        self._tenures.pop(caller.login, None)
        self._access.logged_out(caller)

    def close(self) -> None:
        """Look no more."""
        self._tenures.clear()
        if self._timer:
            self._timer.cancel()
        if self._look:
            self._look.cancel()

    def _tick(self) -> None:
        """End what has expired, and look at the files unless a slow disk has us look still."""
        self._timer = None
        now = time.time()
        for one in list(self._tenures.values()):
            if one.expires is not None and one.expires <= now:
                self._dismiss(
                    one, KEY_EXPIRED_TEXT if one.identity.filed else CERTIFICATE_EXPIRED_TEXT
                )
        if not self._tenures:
            return
        if self._look is None or self._look.done():
            self._look = self._loop.create_task(self._look_at_files())
        self._timer = self._loop.call_later(LOOK_SECONDS, self._tick)

    async def _look_at_files(self) -> None:
        try:
            tenures = list(self._tenures.values())
            users = {one.identity.user for one in tenures if one.identity.filed}
            files = self._logins.key_files
            found = await asyncio.to_thread(files.look, users) if files and users else {}
            certified = any(one.identity.authority for one in tenures)
            authorities = await self._logins.look_at_authorities() if certified else None
        except Exception:
            log.exception("cannot see whether logins still hold")
            return
        for one in tenures:
            evidence = found.get(one.identity.user) if one.identity.filed else authorities
            if evidence is not None:
                self._judge(one, evidence)

    def _judge(self, one: _Tenure, evidence: _Evidence) -> None:
        """Let a login go on, or doubt it, or end it if the same was found against it before."""
        text = one.find_fault(evidence)
        if not text:
            one.doubt = None
        elif one.doubt != evidence:
            one.doubt = evidence
        else:
            self._dismiss(one, text)

    def _dismiss(self, one: _Tenure, text: str) -> None:
        if self._tenures.pop(one.caller.login, None) is None:
            return  # it has gone meanwhile
        log.info("login over", user=one.caller.user, key=one.caller.fingerprint, told=text)
        self._access.dismiss(one.caller, text)
        self._expel()
