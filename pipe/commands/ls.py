"""``ls``: the topics that the caller may see, and what happens on them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pipe.commands.layout import count, json_lines, short_name, size, span, table
from pipe.language.names import TopicName, parse_pattern, parse_topic, quoted
from pipe.language.requests import List
from pipe.rights.access import Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from pipe.commands.asker import Asker
    from pipe.language.names import Pattern
    from pipe.rights.callers import Caller
    from pipe.service import Service
    from pipe.stream.statistics import TopicStatistics
    from pipe.stream.topics import Member

Item = TypeVar("Item")

RATE_INTERVAL_SECONDS = 0.25
"""Rates are measured over this time: long enough to see a chat, too short to annoy."""

TURN_TOPICS = 64
"""Topics to examine or list per turn of the event loop: a millisecond's work.  A list of 2,000 in
one go would hold up every stream for 50 ms, and each list asked for at the same time for as long
again."""


class Sight(NamedTuple):
    """One topic as it was at a time of the monotonic clock."""

    topic: TopicStatistics
    moment: float


class Row(NamedTuple):
    """One topic: its state now, and its rates per second."""

    topic: TopicStatistics
    in_rate: int
    out_rate: int
    clogged_seconds: float | None


class Found(NamedTuple):
    """One topic as it is listed, wherever it is at home: what JSON says, and its state in words."""

    name: TopicName
    facts: dict[str, Any]
    state: str


class Listed(NamedTuple):
    """A list, and the workers that have not answered in time, whose topics are not in it."""

    text: str
    missing: list[str]


async def show_topics(service: Service, asker: Asker, request: List) -> str:
    """Answer once, and tell the user beside the list who has not answered.

    Raises:
        BadName: the pattern is not valid.
    """
    as_json = request.json
    found = await list_topics(service, asker.caller, request.pattern, as_json=as_json)
    if found.missing:
        asker.session.announce(who_is_missing(found.missing))
    return found.text


async def list_topics(
    service: Service, caller: Caller, pattern: str | None, *, as_json: bool
) -> Listed:
    """Make a table, or one JSON object per line, of the topics in all workers.

    Without a pattern: the caller's own topics, public ones, and those shared with the caller.
    Topics that appear or go meanwhile are left out.  JSON ends with an object that has only
    ``missing``, if a worker has not answered.

    Raises:
        BadName: the pattern is not valid.
    """
    if pattern:
        parse_pattern(pattern, caller=caller.user)
    (rows, missing), own = await asyncio.gather(
        find_elsewhere(service, caller, pattern), find_topics(service, caller, pattern)
    )
    rows.update((one.name, one) for one in own)
    found = [rows[name] for name in sorted(rows, key=lambda one: (one.owner != caller.user, one))]
    if as_json:
        lines = [json_lines([row.facts]) async for row in in_turns(found)]
        return Listed(
            "".join(lines + [json_lines([{"missing": missing}])] * bool(missing)), missing
        )
    if found:
        return Listed(await _table(found, caller), missing)
    which = f" match {quoted(pattern)}" if pattern else ""
    text = f"no topics{which}; make one: {service.ssh_command(caller.user)} pub NAME\n"
    return Listed(text, missing)


def who_is_missing(missing: Iterable[str]) -> str:
    """Say which workers have not answered."""
    names = ", ".join(missing)
    return f"not all topics are listed: no answer from worker {names}; try again"


async def find_topics(service: Service, caller: Caller, pattern: str | None) -> list[Found]:
    """Look at the topics that are at home in this worker.

    Raises:
        BadName: the pattern is not valid.
    """
    wanted = parse_pattern(pattern, caller=caller.user) if pattern else None
    async with service.turnstile.turn(caller.user), service.listing:
        before = await _look(service, caller, wanted, service.router.names())
    if not before:
        return []
    await asyncio.sleep(RATE_INTERVAL_SECONDS)
    async with service.turnstile.turn(caller.user), service.listing:
        after = await _look(service, caller, wanted, before)
        users = {session.member: session.caller.user for session in service.sessions}
        rows = [(name, _row(before[name], sight)) for name, sight in after.items()]
        return [
            Found(name, _as_json(row), _state(service, row, users if _is_own(row, caller) else {}))
            async for name, row in in_turns(rows)
        ]


async def tell_others(service: Service, caller: Caller, pattern: str | None) -> str:
    """Answer another worker: the topics that are at home here, one in a line.

    Raises:
        PipeError: the caller is gone.
    """
    service.access.require(caller)
    found = await find_topics(service, caller, pattern)
    return "".join([json_lines([{"facts": facts, "state": state}]) for _, facts, state in found])


async def find_elsewhere(
    service: Service, caller: Caller, pattern: str | None
) -> tuple[dict[TopicName, Found], list[str]]:
    """Ask the other workers, if there are any; also return who has not answered."""
    if service.elsewhere is None:
        return {}, []
    answers = await service.elsewhere.ask(List(pattern), caller)
    rows = {}
    async for line in in_turns(line for text in answers.found for line in text.splitlines()):
        fields = json.loads(line)
        name = parse_topic(fields["facts"]["topic"], caller="")
        rows[name] = Found(name, fields["facts"], fields["state"])
    return rows, answers.missing


async def in_turns(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Go through items, `TURN_TOPICS` per turn of the event loop."""
    for number, item in enumerate(items):
        if number % TURN_TOPICS == 0:
            await asyncio.sleep(0)
        yield item


async def _look(
    service: Service,
    caller: Caller,
    wanted: TopicName | Pattern | None,
    names: Iterable[TopicName],
) -> dict[TopicName, Sight]:
    """Take the figures of those topics that the caller may see and wants to see."""
    seen = {}
    async for name in in_turns(names):
        if _matches(wanted, name) and _sees(service, caller, name, wanted):
            topic = service.router.topic(name)
            if topic:
                seen[name] = Sight(topic, time.monotonic())
    return seen


def _matches(wanted: TopicName | Pattern | None, name: TopicName) -> bool:
    if wanted is None:
        return True
    return name == wanted if isinstance(wanted, TopicName) else wanted.matches(name)


def _sees(
    service: Service, caller: Caller, name: TopicName, wanted: TopicName | Pattern | None
) -> bool:
    """Whether to show a topic; an admin without a pattern does not want everybody's topics."""
    if not service.access.sees(caller, name):
        return False
    return wanted is not None or service.access.decide(caller, name).rule is not Rule.ADMIN


def _row(before: Sight, after: Sight) -> Row:
    topic, now = after
    seconds = now - before.moment
    return Row(
        topic,
        rate(topic.received_bytes - before.topic.received_bytes, seconds),
        rate(topic.delivered_bytes - before.topic.delivered_bytes, seconds),
        None if topic.clogged_since is None else max(0.0, now - topic.clogged_since),
    )


def rate(difference: int, seconds: float) -> int:
    """A rate per second; it is not negative, although a leaving member takes its bytes along."""
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
        "stream_bytes": topic.begun.stream_bytes,
        "kept": topic.kept and topic.kept._asdict(),
    }


async def _table(rows: Iterable[Found], caller: Caller) -> str:
    return table(
        ("TOPIC", "PUB", "SUB", "PIPE", "IN", "OUT", "TOTAL IN", "TOTAL OUT", "STATE"),
        [
            (
                short_name(row.name, caller),
                str(row.facts["publishers"]),
                str(row.facts["subscribers"]),
                str(row.facts["pipes"]),
                f"{size(row.facts['in_bytes_per_second'])}/s",
                f"{size(row.facts['out_bytes_per_second'])}/s",
                size(row.facts["in_bytes"]),
                size(row.facts["out_bytes"]),
                row.state,
            )
            async for row in in_turns(rows)
        ],
    )


def _is_own(row: Row, caller: Caller) -> bool:
    return caller.admin or row.topic.name.owner == caller.user


def _state(service: Service, row: Row, users: Mapping[Member | None, str]) -> str:
    """How far its streams are, who waits, who is clogged.

    The last two are names if ``users`` has them, otherwise numbers.
    """
    topic = row.topic
    members = service.router.members(topic.name) if users else ()
    parts = []
    if topic.begun.stream_bytes:
        parts.append(f"{size(topic.begun.stream_bytes)} so far")
    if topic.kept:
        parts.append(f"{size(topic.kept.end - topic.kept.first)} kept")
    if topic.waiting:
        names = _names(users, (member for member in members if member.waiting))
        parts.append(f"{names or count(topic.waiting, 'publisher')} waiting")
    if row.clogged_seconds is not None:
        names = _names(users, (member for member in members if member.clogged))
        who = names or count(topic.clogged, "reader")
        parts.append(f"{who} clogged for {span(row.clogged_seconds)}")
    return ", ".join(parts) or "-"


def _names(users: Mapping[Member | None, str], members: Iterable[Member]) -> str:
    return ", ".join(sorted({users[member] for member in members if member in users}))
