"""``explain``: what a name means, what the caller may do there and why, and who is there."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING

from pipe.commands.layout import amount, count, date, labelled, size, span, table
from pipe.language.names import escape, parse_topic
from pipe.rights.grants import Operation
from pipe.stream.history import describe
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.rights.access import Decision
    from pipe.rights.callers import Caller
    from pipe.rights.live import LiveSession
    from pipe.service import Service
    from pipe.stream.topics import Begun, Member


def explain(service: Service, caller: Caller, raw: str, *, as_json: bool) -> str:
    """Answer in lines, or as one JSON object.

    A caller that may neither read nor write learns nothing else, not even whether the topic exists;
    nor does an owner whose token does not reach it.  Only the owner (and admins) see users,
    addresses and who holds up the stream.

    Raises:
        BadName: the name is not valid.
    """
    topic = parse_topic(raw, caller=caller.user)
    access = service.access
    decisions = {one: access.decide(caller, topic, one) for one in Operation.BOTH}
    may_see = any(decision.allowed for decision in decisions.values())
    owner = (topic.owner == caller.user or caller.admin) and may_see
    members = service.sessions_on(topic) if may_see else []
    if as_json:
        begun = service.router.begun(topic) if may_see else None
        history = service.router.history(topic) if may_see else None
        kept = history.kept._asdict() if history else None
        return _as_json(topic, decisions, members, begun, kept, owner=owner)
    rows = [("topic", str(topic))]
    rows += [(str(one), _verdict(decision)) for one, decision in decisions.items()]
    if owner:
        rows += _shared(service, topic)
    if may_see:
        rows.append(("members", counts_of(members)))
        begun = service.router.begun(topic)
        if begun.stream_bytes:
            rows.append(("stream", _how_far(begun)))
        if history := service.router.history(topic):
            rows.append(("kept", describe(history.kept)))
    text = labelled(rows)
    if owner and members:
        text += _who_is_there(members) + _who_stalls(members)
    return text


def _verdict(decision: Decision) -> str:
    until = "" if decision.until is None else f", until {date(decision.until, '')}"
    return f"{'yes' if decision.allowed else 'no'}: {decision.rule.value}{until}"


def _shared(service: Service, topic: TopicName) -> list[tuple[str, str]]:
    """Whom the topic is shared with, for its owner."""
    texts = [
        f"{who} may {grant.operation}" + (f" until {date(grant.until, '')}" if grant.until else "")
        for who, grant in sorted(service.access.grants_on(topic).items())
    ]
    texts += [
        f"{who} may read and write while a session shares it (--access)"
        for who in sorted(service.access.shared_by_sessions(topic))
    ]
    return list(zip(("shared", *[""] * len(texts)), texts, strict=False))


def counts_of(members: list[tuple[LiveSession, Member]]) -> str:
    """Count members by what they do."""
    nouns = {Mode.PUBLISH: "publisher", Mode.SUBSCRIBE: "subscriber", Mode.PIPE: "pipe"}
    numbers = Counter(member.mode for _, member in members)
    counts = [count(numbers[mode], noun) for mode, noun in nouns.items() if numbers[mode]]
    return ", ".join(counts) or "none"


def _how_far(begun: Begun) -> str:
    late = "nobody may join any more (--whole)" if begun.shut else "who joins now gets the rest"
    return f"{amount(begun.stream_bytes)} so far; {late}"


def _who_is_there(members: list[tuple[LiveSession, Member]]) -> str:
    return "\n" + table(
        ("USER", "DOES", "ADDRESS", "SENT", "READ", "STATE", "KEY"),
        [
            (
                session.caller.user,
                member.mode.value,
                escape(session.address),
                size(member.received_bytes) if member.source else "-",
                size(member.written_bytes) if member.sink else "-",
                state_of(member),
                session.caller.fingerprint,
            )
            for session, member in members
        ],
        fold=6,
    )


def state_of(member: Member) -> str:
    """Say what a member waits for, or how long others have waited for it."""
    if member.waiting:
        return f"waits for {count(member.waiting, 'subscriber')}"
    if member.clogged:
        return f"clogged for {_clogged(member)}"
    if member.source and member.paused and not member.ended:
        return "held up"
    return "-"


def _clogged(member: Member) -> str:
    since = member.clogged_since
    return span(0.0 if since is None else time.monotonic() - since)


def _who_stalls(members: list[tuple[LiveSession, Member]]) -> str:
    """Name the readers that the writers wait for."""
    held = [member for _, member in members if member.source and member.paused]
    lines = [
        f"{session.caller.user} ({escape(session.address)}) holds the stream up: "
        f"clogged for {_clogged(member)}\n"
        for session, member in members
        if member.clogged and any(other is not member or other.replay for other in held)
    ]
    return "\n" + "".join(lines) if lines else ""


def _as_json(
    topic: TopicName,
    decisions: dict[Operation, Decision],
    members: list[tuple[LiveSession, Member]],
    begun: Begun | None,
    kept: dict[str, object] | None,
    *,
    owner: bool,
) -> str:
    facts: dict[str, object] = {
        "topic": str(topic),
        **{
            str(one): {
                "allowed": decision.allowed,
                "rule": decision.rule.name.lower(),
                "until": decision.until,
            }
            for one, decision in decisions.items()
        },
    }
    if begun:
        facts["members"] = len(members)
        facts["stream_bytes"] = begun.stream_bytes
        facts["shut"] = begun.shut
        facts["kept"] = kept
    if owner:
        facts["sessions"] = [
            {
                "user": session.caller.user,
                "mode": member.mode.value,
                "address": session.address,
                "key": session.caller.fingerprint,
                "in_bytes": member.received_bytes,
                "out_bytes": member.written_bytes,
                "waiting_for": member.waiting,
                "clogged": member.clogged,
            }
            for session, member in members
        ]
    return json.dumps(facts) + "\n"
