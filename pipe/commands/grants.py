"""``grant``, ``revoke``, ``grants``: lasting access to topics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipe.commands.layout import date, json_lines, listed, table
from pipe.errors import AccessDenied, UsageError
from pipe.language.durations import format_duration
from pipe.language.names import EVERYONE, PUBLIC, parse_topic, quoted
from pipe.rights.grants import Grant, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipe.language.account_requests import GrantAccess, RevokeAccess
    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller
    from pipe.service import Service


async def grant(service: Service, caller: Caller, request: GrantAccess) -> str:
    """Give lasting access to one of the caller's topics.

    Raises:
        AccessDenied: the topic belongs to another user.
        UsageError: the topic is public, or the grantee is the owner.
        StoreError: a grantee is not a user, or there are too many grants.
    """
    topic = _own_topic(caller, request.topic)
    if topic.owner in request.grantees:
        raise UsageError(f"{topic.owner} owns {topic} and needs no grant")
    operation = _operation(read=request.read, write=request.write)
    now = time.time()
    until = None if request.duration is None else now + request.duration
    await service.guard.grant(
        caller,
        [Grant(topic, who, operation, until, caller.user, now) for who in request.grantees],
    )
    lasting = "" if request.duration is None else f", for {format_duration(request.duration)}"
    return f"{_names(request.grantees)} may {operation} {topic}{lasting}\n"


async def revoke(service: Service, caller: Caller, request: RevokeAccess) -> str:
    """Withdraw lasting access, and end the sessions that depend on it.

    Raises:
        AccessDenied: the topic belongs to another user.
        UsageError: one of the grantees had none; all others have still lost theirs.
    """
    topic = _own_topic(caller, request.topic)
    had = await service.guard.revoke(caller, topic, request.grantees)
    lost = [who for who in request.grantees if who in had]
    missing = [who for who in request.grantees if who not in had]
    text = f"{_names(lost)} may no longer use {topic}" if lost else ""
    if missing:
        complaint = f"{listed([quoted(who) for who in missing])} had no grant on {topic}"
        raise UsageError(f"{text}; but {complaint}" if text else f"{complaint}; see 'grants'")
    return f"{text}\n{_what_is_left(service, topic, lost)}"


def list_grants(service: Service, caller: Caller, *, as_json: bool) -> str:
    """Answer with a table of grants given and received, or with one JSON object per line."""
    given = service.access.granted_by(caller.user)
    received = service.access.granted_to(caller)
    if as_json:
        return json_lines(
            {
                "topic": str(one.topic),
                "grantee": one.grantee,
                "read": Operation.READ in one.operation,
                "write": Operation.WRITE in one.operation,
                "until": one.until,
                "granted_by": one.granted_by,
                "created": one.created,
                "given": one.topic.owner == caller.user,
            }
            for one in (*given, *received)
        )
    if not (given or received):
        return f"no grants; give one: {service.ssh_command(caller.user)} grant TOPIC WHO\n"
    return table(
        ("TOPIC", "WHO", "MAY", "UNTIL", "GRANTED"),
        [
            (
                str(one.topic),
                "you" if one.grantee == caller.user else _who(one.grantee, caller),
                str(one.operation),
                date(one.until, "revoked"),
                date(one.created, "") + _by_whom(one),
            )
            for one in (*given, *received)
        ],
        fold=3,
    )


def _own_topic(caller: Caller, raw: str) -> TopicName:
    topic = parse_topic(raw, caller=caller.user)
    if topic.owner == PUBLIC:
        raise UsageError(
            f"{topic} is open to every user already; who creates it can restrict it with --access"
        )
    if topic.owner != caller.user and not caller.admin:
        raise AccessDenied(f"access denied: only {topic.owner} can share {topic}")
    return topic


def _operation(*, read: bool, write: bool) -> Operation:
    if read == write:
        return Operation.BOTH
    return Operation.READ if read else Operation.WRITE


def _what_is_left(service: Service, topic: TopicName, lost: Sequence[str]) -> str:
    """Warn about what still lets the grantees in."""
    grants, shared = service.access.grants_on(topic), service.access.shared_by_sessions(topic)
    lines = []
    if EVERYONE in grants and EVERYONE not in lost:
        lines.append(
            f"everyone with an account may still {grants[EVERYONE].operation} it ({EVERYONE})\n"
        )
    still = sorted(shared.intersection((*lost, EVERYONE)))
    if still:
        lines.append(f"a session that shares it with {_names(still)} goes on (--access)\n")
    return "".join(lines)


def _names(grantees: Sequence[str]) -> str:
    return listed(["everyone with an account" if who == EVERYONE else who for who in grantees])


def _by_whom(grant: Grant) -> str:
    """Name the admin who gave it, if it was not the topic's owner."""
    return "" if grant.granted_by == grant.topic.owner else f" by {grant.granted_by}"


def _who(grantee: str, caller: Caller) -> str:
    return "your key" if grantee == caller.fingerprint else grantee
