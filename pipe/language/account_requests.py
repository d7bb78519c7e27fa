"""The requests and commands about keys and grants; `requests` includes them."""

from __future__ import annotations

from dataclasses import dataclass

from pipe.errors import UsageError
from pipe.language.durations import parse_duration
from pipe.language.flags import Argument, Command, Flag, boolean
from pipe.language.names import parse_grantee


@dataclass(frozen=True, slots=True)
class ListKeys:
    """``keys``: the caller's keys."""

    json: bool = False


@dataclass(frozen=True, slots=True)
class AddKey:
    """``keys add``: add a key for the caller, read from stdin."""


@dataclass(frozen=True, slots=True)
class RemoveKey:
    """``keys rm``: remove a key; ``force`` allows removing the last one."""

    fingerprint: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class GrantAccess:
    """``grant``: give others lasting access; with neither ``read`` nor ``write`` it covers both.

    ``duration`` is in seconds; without one the grant lasts until it is revoked.
    """

    topic: str
    grantees: tuple[str, ...]
    read: bool = False
    write: bool = False
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class RevokeAccess:
    """``revoke``: withdraw grants."""

    topic: str
    grantees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListGrants:
    """``grants``: the lasting access that the caller has given and been given."""

    json: bool = False


AboutKeys = ListKeys | AddKey | RemoveKey
AboutGrants = GrantAccess | RevokeAccess | ListGrants


def _lifetime(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise UsageError("a grant has to last; revoke takes one back")
    return seconds


_JSON = Flag("json", "--json", boolean, "print JSON")
_TOPIC = Argument("topic", "TOPIC", required=True)
_WHO = Argument("grantees", "WHO", required=True, convert=parse_grantee, many=True)

ACCOUNT_COMMANDS = (
    Command(
        "keys",
        ListKeys,
        "list your keys",
        "Each of them logs you in. A key belongs to one user only.",
        flags=(_JSON,),
    ),
    Command(
        "keys add",
        AddKey,
        "add the public key that comes on stdin",
        "Takes one key in OpenSSH's format: ssh HOST keys add < ~/.ssh/id_ed25519.pub",
    ),
    Command(
        "keys rm",
        RemoveKey,
        "remove a key, and end the sessions that it logged in",
        "The start of its fingerprint is enough if no other key of yours starts so.",
        (Argument("fingerprint", "FINGERPRINT", required=True),),
        (Flag("force", "--force", boolean, "even if no other key is known to log you in"),),
    ),
    Command(
        "grant",
        GrantAccess,
        "let others read and write a topic of yours",
        "WHO is a user, a key (SHA256:...) or @users for everyone with an account. A new grant to"
        " the same one takes the place of the old one.",
        (_TOPIC, _WHO),
        (
            Flag("read", "--read", boolean, "only to read, unless --write is there too"),
            Flag("write", "--write", boolean, "only to write, unless --read is there too"),
            Flag("duration", "--for", _lifetime, "for so long; without it until revoked", "DUR"),
        ),
    ),
    Command(
        "revoke",
        RevokeAccess,
        "take grants back, and end sessions that need them",
        "A list that a session of yours shares with (-a) holds until that session ends.",
        (_TOPIC, _WHO),
    ),
    Command(
        "grants",
        ListGrants,
        "list the grants that you have given, and those you have",
        flags=(_JSON,),
    ),
)
"""The commands, in the order that help lists them."""
