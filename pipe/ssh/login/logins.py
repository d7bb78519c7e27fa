"""Decides who may log in, from a name and a key or certificate.

There are three sources: keys in the accounts database, keys in files (``--authorized-keys``), and
certificates (``--trusted-ca``).  Everyone who gets in has an account from then on:

- For a key in a file, the operator vouches; the account is made at the first login.
- For a certificate, the CA vouches for whose key it is.  Accounts work as for keys: with
  ``--signup open`` one is made at the first login, with ``closed`` the operator adds it
  (``pipe user add``), and removing it ends all certificates with that name.
- A key that a user has only named (``keys add``) becomes the user's if this is its first login.
- Any other key may claim a free name, if sign-up is open.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from pipe.errors import AccessDenied, BadName, StartError, UsageError
from pipe.language.names import escape, parse_user, quoted
from pipe.rights.access import REMOVED_TEXT
from pipe.rights.callers import FILED, NO_BACKING
from pipe.settings import Signup
from pipe.ssh.login.certificates import judge, read_authorities, read_certificate
from pipe.ssh.login.files import WatchedFile
from pipe.ssh.login.key_files import KeyFiles
from pipe.ssh.login.restrictions import NO_RESTRICTIONS, Restrictions
from pipe.ssh.login.signatures import (
    SIGNATURE_ALGORITHMS,
    check_key,
    fingerprint_of,
    is_certificate,
    name_of,
    public_line,
)
from pipe.store import read_public_key

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.limits.sources import Claims
    from pipe.service import Service
    from pipe.ssh.login.certificates import Certificate
    from pipe.store import Token

log = structlog.get_logger()

UNTRUSTED_TEXT = "access denied: the CA of the certificate that you logged in with is not trusted"

UNKNOWN_TEXT = (
    "no name can be claimed now, as the server cannot read whose they are: tell its operator"
)
"""Those who have keys in the database get in all the same."""

OTHERS_KEY_TEXT = "this key belongs to another user: log in by that name, as in ssh NAME@HOST"
"""Most users who see this left out the name, so `ssh` took their name on their own machine."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user who may log in, and on what terms."""

    user: str
    fingerprint: str
    """That of the key itself, even if a certificate vouches for it."""
    admin: bool = False
    registered: bool = True
    """Whether the account already exists."""
    restrictions: Restrictions = NO_RESTRICTIONS
    expires: float | None = None
    """When the line or certificate that let it in expires, in seconds since 1970."""
    filed: bool = False
    """Whether a line of a key file let it in."""
    authority: str = ""
    """The fingerprint of the CA that vouches for it, if one does."""
    stored: bool = False
    """Whether the key is one of the database's, which remembers when it was last used."""
    proved: bool = True
    """Whether the key is known to be this user's; otherwise this login proves it."""
    last_used: float | None = None
    claimed: bool = False
    """Whether this login claimed the name."""

    @property
    def ends_with_another(self) -> bool:
        """Whether the login lasts only as long as a line in a file or a certificate."""
        return self.filed or bool(self.authority)

    @property
    def backing(self) -> str:
        """What stands behind the key, as in `pipe.rights.callers.Caller`."""
        if self.filed:
            return FILED
        held = self.restrictions
        if self.authority and held and (held.command is not None or held.certified_addresses):
            return NO_BACKING
        return self.authority


class Logins:
    """Decides logins for all connections.

    Args:
        service: what all connections share.
        claims: the limit on new names per address.

    Raises:
        StartError: the key files or the trusted CAs cannot be used.
    """

    def __init__(self, service: Service, claims: Claims) -> None:
        settings = service.settings
        self._service = service
        self._store = service.store
        self._open = settings.resolved_signup is Signup.OPEN
        self._claims = claims
        self._claiming = asyncio.Lock()
        self.key_files = KeyFiles(settings.authorized_keys) if settings.authorized_keys else None
        self._authorities = open_authorities(settings.trusted_ca) if settings.trusted_ca else None
        self._complaint = ""

    # -- what may be shown at all -----------------------------------------------------------------

    async def screen(self, user: str, blob: bytes, signature: bytes, address: str) -> None:
        """Check what a client shows before any work is spent on it.

        Args:
            user: the name that the client logs in under.
            blob: a public key or a certificate, in the protocol's form.
            signature: empty if the client only asks.
            address: the client's IP address.

        Raises:
            PipeError: it is refused; if the message is empty, tell the client nothing.
        """
        try:
            parse_user(user)
        except BadName as error:
            raise BadName(f"{error.message}, as in ssh NAME@HOST") from None
        if is_certificate(name_of(blob)):
            await self._judge(user, read_certificate(blob), address)
        else:
            check_key(blob)
        if signature and name_of(signature) not in SIGNATURE_ALGORITHMS:
            raise AccessDenied(
                f"signatures of type {quoted(name_of(signature))} are not accepted: use a newer "
                "client, or a key made with: ssh-keygen -t ed25519"
            )

    async def trusts(self, authority: str) -> bool:
        """Return whether to trust certificates by the CA with this fingerprint."""
        return authority in (await self.look_at_authorities() or ())

    async def _judge(self, user: str, certificate: Certificate, address: str) -> Restrictions:
        restrictions = judge(
            certificate,
            user=user,
            address=address,
            now=time.time(),
            authorities=await self.look_at_authorities() or (),
        )
        check_key(certificate.key)
        return restrictions

    async def look_at_authorities(self) -> frozenset[str] | None:
        """Return the fingerprints of the trusted CAs; None if no file can be read."""
        if self._authorities is None:
            return None
        try:
            authorities = await asyncio.to_thread(self._authorities.read)
        except (FileNotFoundError, UsageError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.warning("trusted CAs not used", reason=escape(self._complaint))
            return None
        self._complaint = ""
        return authorities

    # -- who it is --------------------------------------------------------------------------------

    async def welcome(self, user: str, blob: bytes, address: str) -> None:
        """Check whether a key, if it signs, would log in under a name.

        Raises:
            PipeError: it would not; if the message is empty, tell the client nothing.
        """
        if not await self._find(user, fingerprint_of(blob), address):
            self._check_claim(allowed=await self._claims.allows(address))

    async def admit(self, user: str, blob: bytes, address: str) -> Identity:
        """Return who has signed, and make the account if needed.

        Args:
            user: the name that the client logs in under.
            blob: the key or certificate whose signature was verified.
            address: the client's IP address.

        Raises:
            PipeError: the signer may not log in.
        """
        if is_certificate(name_of(blob)):
            identity = await self._find_certified(user, read_certificate(blob), address)
        else:
            found = await self._find(user, fingerprint_of(blob), address)
            identity = found or await self._claim(user, blob, address)
        if not identity.proved and not await self._store.prove(user, identity.fingerprint):
            raise AccessDenied(OTHERS_KEY_TEXT)
        if not identity.registered:
            claimed = await self._store.ensure_user(user)
            identity = replace(identity, registered=True, claimed=claimed)
        if identity.claimed:
            log.info("name claimed", user=user, address=address, key=identity.fingerprint)
        return identity

    async def _find(self, user: str, fingerprint: str, address: str) -> Identity | None:
        """Look the key up in the files, then in the database.

        Returns:
            Whose it is, or None if it is not this user's and the name is free to claim.

        Raises:
            AccessDenied: The key is not this user's, and the name cannot be claimed.
        """
        files = self.key_files
        if files:
            place = ipaddress.ip_address(address)
            entry = await asyncio.to_thread(files.find, user, fingerprint, place, time.time())
            if entry:
                return await self._registered(
                    Identity(
                        user,
                        fingerprint,
                        restrictions=entry.restrictions,
                        expires=entry.expires,
                        filed=True,
                    )
                )
        login = await self._store.find_login(user, fingerprint)
        if login and login.key:
            return Identity(
                user,
                fingerprint,
                admin=login.user.admin,
                stored=True,
                proved=login.key.proved,
                last_used=login.key.last_used,
            )
        if not self._open:
            raise AccessDenied("")
        if login or (files and await self._has_file(files, user)):
            raise AccessDenied(
                f"the name {quoted(user)} is taken, and this key is not one of its keys"
            )
        return None

    @staticmethod
    async def _has_file(files: KeyFiles, user: str) -> bool:
        try:
            return await asyncio.to_thread(files.knows, user)
        except UsageError as error:
            raise AccessDenied(UNKNOWN_TEXT) from error

    async def _find_certified(self, user: str, certificate: Certificate, address: str) -> Identity:
        restrictions = await self._judge(user, certificate, address)
        identity = await self._registered(
            Identity(
                user,
                fingerprint_of(certificate.key),
                restrictions=restrictions,
                expires=float(certificate.valid_before),
                authority=fingerprint_of(certificate.authority),
            )
        )
        if not identity.registered and not self._open:
            raise AccessDenied(
                f"the certificate is good, but there is no user {quoted(user)}: "
                "the operator adds users with 'pipe user add'"
            )
        return identity

    async def _registered(self, identity: Identity) -> Identity:
        """Add what the account says about the user."""
        login = await self._store.find_login(identity.user)
        if login is None:
            return replace(identity, registered=False)
        return replace(identity, admin=login.user.admin)

    async def vouch(self, token: Token, address: str) -> Identity:
        """Return what stands behind a token made by a login with a file or a certificate.

        Raises:
            AccessDenied: Nothing does any longer, or not for clients from this address.
        """
        found = Identity(token.user, token.made_by)
        if token.backing != FILED:
            if not await self.trusts(token.backing):
                raise AccessDenied(UNTRUSTED_TEXT)
            return replace(found, authority=token.backing)  # the token ends earlier
        place = ipaddress.ip_address(address)
        files = self.key_files
        if files is None:
            raise AccessDenied(REMOVED_TEXT)
        entry = await asyncio.to_thread(files.find, token.user, token.made_by, place, time.time())
        if entry is None:
            raise AccessDenied(REMOVED_TEXT)
        if entry.restrictions.command is not None:
            raise AccessDenied("access denied: your key is held to one command by now")
        return replace(found, filed=True, restrictions=entry.restrictions, expires=entry.expires)

    # -- claims -----------------------------------------------------------------------------------

    def _check_claim(self, *, allowed: bool) -> None:
        """Refuse an address that has claimed too many names."""
        if not allowed:
            self._service.metrics.refused.labels("claims").inc()
            raise AccessDenied("too many new names from your address today; try again tomorrow")

    async def _claim(self, user: str, blob: bytes, address: str) -> Identity:
        """Claim a name, one at a time, so that many at once cannot exceed the limit."""
        async with self._claiming:
            found = await self._find(user, fingerprint_of(blob), address)
            if found:  # two first logins of the same person at once
                return found
            self._check_claim(allowed=await self._claims.take(address))
            claimed = False
            try:
                claimed = await self._store.claim(user, read_public_key(public_line(blob)))
            finally:
                if not claimed:
                    self._claims.give_back(address)
            if claimed:
                return Identity(user, fingerprint_of(blob), stored=True, claimed=True)
        # Somebody has the key, or another server on the same database was faster.
        found = await self._find(user, fingerprint_of(blob), address)
        if not found:
            raise AccessDenied(OTHERS_KEY_TEXT)
        return found


def open_authorities(path: Path) -> WatchedFile[frozenset[str]]:
    """Open the file of trusted CAs.

    Raises:
        StartError: The file cannot be used.
    """
    file = WatchedFile(path, read_authorities)
    try:
        file.read()
    except (FileNotFoundError, UsageError) as error:
        reason = error.message if isinstance(error, UsageError) else error.strerror
        raise StartError(
            f"cannot use the trusted CAs {escape(str(path))}: {reason}; "
            "it takes public keys of CAs, one in a line"
        ) from error
    return file
