"""``ls``: the topics that the caller may see, and what happens on them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pipe.names import TopicName, parse_pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.access import Caller
    from pipe.members import TopicStatistics
    from pipe.service import Service

RATE_INTERVAL_SECONDS = 0.25
"""Rates are measured over this time: long enough to see a chat, too short to annoy."""


async def ls(service: Service, caller: Caller, pattern: str | None, *, as_json: bool) -> str:
    """Answer with a table, or with one JSON object per line.

    Without a pattern: the caller's own topics, public ones, and those that are shared with the
    caller.

    Raises:
        BadName: the pattern is outside the grammar.
    """
    wanted = parse_pattern(pattern, caller=caller.user) if pattern else None
    before = {topic.name: topic for topic in service.router.topics()}
    if before:
        await asyncio.sleep(RATE_INTERVAL_SECONDS)
    topics = [
        topic
        for topic in service.router.topics()
        if service.access.decide(caller, topic.name).allowed
        and (
            wanted is None
            or (
                topic.name == wanted
                if isinstance(wanted, TopicName)
                else wanted.matches(topic.name)
            )
        )
    ]
    rows = [_row(topic, before.get(topic.name, topic)) for topic in topics]
    if as_json:
        return "".join(json.dumps(row) + "\n" for row in rows)
    if not rows:
        which = f" match {pattern}" if pattern else ""
        return f"no topics{which}; make one: {service.ssh_command} pub NAME\n"
    return _table(rows, caller)


def _row(now: TopicStatistics, before: TopicStatistics) -> dict[str, Any]:
    return {
        "topic": str(now.name),
        "publishers": now.publishers,
        "subscribers": now.subscribers,
        "pipes": now.pipes,
        "waiting": now.waiting,
        "clogged": now.clogged,
        "in_bytes_per_second": _rate(now.received_bytes, before.received_bytes),
        "out_bytes_per_second": _rate(now.delivered_bytes, before.delivered_bytes),
        "in_bytes": now.received_bytes,
        "out_bytes": now.delivered_bytes,
    }


def _rate(now: int, before: int) -> int:
    return max(0, round((now - before) / RATE_INTERVAL_SECONDS))


def _table(rows: Iterable[dict[str, Any]], caller: Caller) -> str:
    lines = [("TOPIC", "PUB", "SUB", "PIPE", "IN", "OUT", "STATE")]
    for row in rows:
        state = [f"{row[key]} {key}" for key in ("waiting", "clogged") if row[key]]
        lines.append(
            (
                _short(row["topic"], caller),
                str(row["publishers"]),
                str(row["subscribers"]),
                str(row["pipes"]),
                _human(row["in_bytes_per_second"]) + "/s",
                _human(row["out_bytes_per_second"]) + "/s",
                ", ".join(state) or "-",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def _short(topic: str, caller: Caller) -> str:
    """Own topics as their owner types them."""
    own = caller.user + "/"
    return topic.removeprefix(own) if "/" not in topic.removeprefix(own) else topic


def _human(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
