"""``keys``, ``keys add``, ``keys rm``: the caller's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.commands.layout import date, json_lines, table
from pipe.errors import AccessDenied, StoreError, UsageError
from pipe.language.names import escape, quoted
from pipe.store import is_last, read_public_key
from pipe.store.accounts import MIN_PREFIX
from pipe.store.keys import MAX_TEXT

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.store import Key

MAX_KEY_BYTES = MAX_TEXT
"""The most bytes to read from stdin."""

MAX_KEYS = 100
"""Keys of one user, not counting those that an operator adds: more than anybody has machines."""

_PREFIX = "SHA256:"


async def list_keys(service: Service, caller: Caller, *, as_json: bool) -> str:
    """Answer with a table, or with one JSON object per line."""
    keys = await _keys_of(service, caller)
    if as_json:
        return json_lines(
            {
                "fingerprint": key.fingerprint,
                "type": key.key_type,
                "created": key.created,
                "last_used": key.last_used,
                "comment": key.comment,
                "current": key.fingerprint == caller.fingerprint,
            }
            for key in keys
        )
    known = any(key.fingerprint == caller.fingerprint for key in keys)
    elsewhere = (
        "you logged in with a key that is not kept here, but in a certificate or in a\n"
        f"file of the operator's: {caller.fingerprint}\n"
    )
    listing = table(
        ("FINGERPRINT", "COMMENT", "ADDED", "LAST USED", "TYPE"),
        [
            (
                key.fingerprint,
                escape(key.comment),
                date(key.created, ""),
                "now" if key.fingerprint == caller.fingerprint else date(key.last_used, "never"),
                key.key_type,
            )
            for key in keys
        ],
        fold=2,
    )
    return listing if known else listing + elsewhere


async def add_key(service: Service, asker: Asker) -> str:
    """Let the key on stdin log the caller in too.

    Raises:
        AccessDenied: a certificate or a file let the caller in: a key added here would outlive it,
            and escape its restrictions.
        UsageError: there is no usable public key on stdin.
        StoreError: somebody already has the key, or the caller has too many.
    """
    _require_ssh(asker.caller)
    if asker.caller.lent:
        raise AccessDenied(
            "access denied: you logged in with a certificate, or with a key in the operator's "
            "files; ask the operator to add a key"
        )
    new = read_public_key(asker.stdin.decode("utf-8", "replace"))
    user = asker.caller.user
    if len(await _keys_of(service, asker.caller)) >= MAX_KEYS:
        raise StoreError(f"you have {MAX_KEYS} keys, which is as many as there can be; remove one")
    await service.guard.add_key(asker.caller, new)
    return (
        f"added key {new.fingerprint}\n"
        f"it is of type {new.key_type}, and logs in as {user} from now on\n"
    )


async def remove_key(service: Service, asker: Asker, prefix: str, *, force: bool) -> str:
    """Remove one of the caller's keys, and end the sessions that it logged in.

    Raises:
        AccessDenied: the caller came with a token.
        UsageError: none of the caller's keys starts so, or several do.
        StoreError: it is the last key known to be the caller's, and ``force`` is not set.
    """
    caller = asker.caller
    _require_ssh(caller)
    keys = await _keys_of(service, caller)
    found = _find(keys, prefix)
    if not force and is_last(found, keys):
        raise StoreError(
            f"this is your only key, and without it nobody can log in as {caller.user} any more: "
            "add another one first, or give --force"
            if len(keys) == 1
            else "no other key of yours has logged in yet: see that one does, or give --force"
        )
    key = await service.guard.remove_key(
        caller, found.fingerprint, keep_last=not force, spare=asker.session
    )
    return f"removed key {key.fingerprint}\nthe sessions that it logged in have ended\n"


def _require_ssh(caller: Caller) -> None:
    """Check that a key let the caller in, so that a browser left open cannot change keys."""
    if caller.token:
        raise AccessDenied("access denied: keys are added and removed over SSH only")


async def _keys_of(service: Service, caller: Caller) -> tuple[Key, ...]:
    return await service.store.list_keys(caller.user)


def _find(keys: tuple[Key, ...], prefix: str) -> Key:
    """Find the one key whose fingerprint starts so."""
    start = _PREFIX + prefix.removeprefix(_PREFIX)
    if len(start) < len(_PREFIX) + MIN_PREFIX:
        raise UsageError(f"give at least {MIN_PREFIX} characters of the key's fingerprint")
    found = [key for key in keys if key.fingerprint.startswith(start)]
    if len(found) != 1:
        how_many = f"{len(found)} of your keys start" if found else "no key of yours starts"
        raise UsageError(f"{how_many} with {quoted(start)}; 'keys' lists them")
    return found[0]
