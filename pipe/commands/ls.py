"""``ls``: the topics that the caller may see, and what happens on them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from pipe.access import Rule
from pipe.commands.layout import count, json_lines, size, span, table
from pipe.names import TopicName, parse_pattern, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.access import Caller
    from pipe.members import TopicStatistics
    from pipe.names import Pattern
    from pipe.service import Service

RATE_INTERVAL_SECONDS = 0.25
"""Rates are measured over this time: long enough to see a chat, too short to annoy."""


class Row(NamedTuple):
    """One topic: what it is now, and what flows per second."""

    topic: TopicStatistics
    in_rate: int
    out_rate: int
    clogged_seconds: float | None


async def list_topics(
    service: Service, caller: Caller, pattern: str | None, *, as_json: bool
) -> str:
    """Answer with a table, or with one JSON object per line.

    Without a pattern: the caller's own topics, public ones, and those that are shared with the
    caller.

    Raises:
        BadName: the pattern is outside the grammar.
    """
    wanted = parse_pattern(pattern, caller=caller.user) if pattern else None
    before = {topic.name: topic for topic in _visible(service, caller, wanted)}
    started = time.monotonic()
    if before:
        await asyncio.sleep(RATE_INTERVAL_SECONDS)
    now = time.monotonic()
    rows = [
        _row(topic, before.get(topic.name, topic), now, now - started)
        for topic in _visible(service, caller, wanted)
    ]
    if as_json:
        return json_lines(map(_as_json, rows))
    if not rows:
        which = f" match {quoted(pattern)}" if pattern else ""
        return f"no topics{which}; make one: {service.ssh_command} pub NAME\n"
    return _table(service, rows, caller)


def _visible(
    service: Service, caller: Caller, wanted: TopicName | Pattern | None
) -> list[TopicStatistics]:
    """What the caller may see and wants to, own topics first."""
    topics = [
        topic
        for topic in service.router.topics()
        if _matches(wanted, topic.name) and _sees(service, caller, topic.name, wanted)
    ]
    return sorted(topics, key=lambda topic: (topic.name.owner != caller.user, topic.name))


def _matches(wanted: TopicName | Pattern | None, name: TopicName) -> bool:
    if wanted is None:
        return True
    return name == wanted if isinstance(wanted, TopicName) else wanted.matches(name)


def _sees(
    service: Service, caller: Caller, name: TopicName, wanted: TopicName | Pattern | None
) -> bool:
    """An admin who asks for nothing special does not want to see everybody's topics."""
    if not service.access.sees(caller, name):
        return False
    return wanted is not None or service.access.decide(caller, name).rule is not Rule.ADMIN


def _row(topic: TopicStatistics, before: TopicStatistics, now: float, seconds: float) -> Row:
    return Row(
        topic,
        _rate(topic.received_bytes - before.received_bytes, seconds),
        _rate(topic.delivered_bytes - before.delivered_bytes, seconds),
        None if topic.clogged_since is None else max(0.0, now - topic.clogged_since),
    )


def _rate(difference: int, seconds: float) -> int:
    """Per second; a member that leaves takes its bytes along, so it may seem to run backwards."""
    return max(0, round(difference / seconds)) if seconds else 0


def _as_json(row: Row) -> dict[str, object]:
    topic = row.topic
    return {
        "topic": str(topic.name),
        "publishers": topic.publishers,
        "subscribers": topic.subscribers,
        "pipes": topic.pipes,
        "waiting": topic.waiting,
        "clogged": topic.clogged,
        "clogged_seconds": row.clogged_seconds and round(row.clogged_seconds, 3),
        "in_bytes_per_second": row.in_rate,
        "out_bytes_per_second": row.out_rate,
        "in_bytes": topic.received_bytes,
        "out_bytes": topic.delivered_bytes,
    }


def _table(service: Service, rows: Iterable[Row], caller: Caller) -> str:
    return table(
        ("TOPIC", "PUB", "SUB", "PIPE", "IN", "OUT", "TOTAL IN", "TOTAL OUT", "STATE"),
        [
            (
                _short(row.topic.name, caller),
                str(row.topic.publishers),
                str(row.topic.subscribers),
                str(row.topic.pipes),
                f"{size(row.in_rate)}/s",
                f"{size(row.out_rate)}/s",
                size(row.topic.received_bytes),
                size(row.topic.delivered_bytes),
                _state(service, row, own=row.topic.name.owner == caller.user or caller.admin),
            )
            for row in rows
        ],
    )


def _state(service: Service, row: Row, *, own: bool) -> str:
    """Who waits and who is clogged: by name for the owner, in numbers for others."""
    topic = row.topic
    parts = []
    if topic.waiting:
        names = _names(service, topic.name, waiting=True) if own else ""
        parts.append(f"{names or count(topic.waiting, 'publisher')} waiting")
    if row.clogged_seconds is not None:
        names = _names(service, topic.name, waiting=False) if own else ""
        who = names or count(topic.clogged, "reader")
        parts.append(f"{who} clogged for {span(row.clogged_seconds)}")
    return ", ".join(parts) or "-"


def _names(service: Service, topic: TopicName, *, waiting: bool) -> str:
    users = {
        session.caller.user
        for session, member in service.sessions_on(topic)
        if (member.waiting if waiting else member.clogged)
    }
    return ", ".join(sorted(users))


def _short(topic: TopicName, caller: Caller) -> str:
    """Own topics as their owner types them."""
    own = topic.owner == caller.user and len(topic.path) == 1
    return topic.path[0] if own else str(topic)
