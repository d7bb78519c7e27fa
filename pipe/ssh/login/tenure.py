"""Ends logins by key file or certificate, and by their tokens, when their time is over.

Rules:

- A login ends when what let it in ends: its sessions end, and it opens no others.  That is when its
  line leaves the key file or changes its terms, when the certificate or the line expires, and when
  the certificate's CA leaves the file of trusted CAs.
- A change in a file counts once two looks in a row, `LOOK_SECONDS` apart, find the same: an editor
  that empties a file before it writes it again throws nobody out.
- A file that cannot be read or trusted ends nobody's session: the operator did not remove a disk's
  files just because the disk is gone.  Nobody logs in with it meanwhile.
- Each look compares ends with the wall clock, as that may be set; no timer runs for years.  Nothing
  looks while there are no such logins.

`pipe.store.guard` handles keys in the database.
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
"""Two looks and the work between them fit into the second within which a change must count."""

KEY_EXPIRED_TEXT = "access denied: this key has expired"
CERTIFICATE_EXPIRED_TEXT = "access denied: the certificate that you logged in with has expired"
CHANGED_TEXT = "access denied: your key may be used on other terms now: log in again"


_Evidence: TypeAlias = "tuple[Entry, ...] | frozenset[str]"
"""What a look finds: the lines of a key file, or the fingerprints of CAs."""


class _Tenure:
    """One login, and what the last look found against it."""

    __slots__ = ("address", "caller", "doubt", "expires", "identity")

    def __init__(self, caller: Caller, identity: Identity, address: str) -> None:
        self.caller = caller
        self.identity = identity
        self.address = address
        self.expires = identity.expires
        self.doubt: _Evidence | None = None

    def find_fault(self, evidence: _Evidence) -> str:
        """Return what speaks against it now; empty if nothing does.

        This also updates its end to that of its line.
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
    """All logins that last only as long as a line in a file or a certificate.

    Args:
        logins: decides logins, and has the files.
        access: decides everything after the login.
        expel: ends the sessions of callers that are no longer allowed.
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
        """Return what stands behind a token; see `pipe.ssh.login.logins.Logins.vouch`."""
        return await self._logins.vouch(token, address)

    def begin(self, caller: Caller, identity: Identity, address: str) -> None:
        """Add a login from this IP address, with a key or with one of its tokens."""
        if not identity.ends_with_another:
            return
        self._tenures[caller.login] = _Tenure(caller, identity, address)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._tick)

    def end(self, caller: Caller) -> None:
        """Remove a login that is gone."""
        self._tenures.pop(caller.login, None)
        self._access.logged_out(caller)

    def close(self) -> None:
        """Stop looking."""
        self._tenures.clear()
        if self._timer:
            self._timer.cancel()
        if self._look:
            self._look.cancel()

    def _tick(self) -> None:
        """End what has expired, and look at the files unless the last look is still going on."""
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
        """Let a login go on, doubt it, or end it if the last look found the same against it."""
        text = one.find_fault(evidence)
        if not text:
            one.doubt = None
        elif one.doubt != evidence:
            one.doubt = evidence
        else:
            self._dismiss(one, text)

    def _dismiss(self, one: _Tenure, text: str) -> None:
        if self._tenures.pop(one.caller.login, None) is None:
            return  # gone in the meantime
        log.info("login over", user=one.caller.user, key=one.caller.fingerprint, told=text)
        self._access.dismiss(one.caller, text)
        self._expel()
