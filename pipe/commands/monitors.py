"""``monitor …``, ``monitors``, ``status``, ``uptime``: what comes on topics, and what does not."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from pipe.commands.asker import Answer
from pipe.commands.layout import count, date, json_lines, short_name, span, table
from pipe.commands.login import web_url
from pipe.errors import AccessDenied, StoreError, UsageError
from pipe.events.monitors.addresses import Kind, derive, make_feeds
from pipe.events.monitors.monitor import State, about
from pipe.language.monitor_requests import (
    AddMonitor,
    ListMonitors,
    PauseMonitor,
    RemoveMonitor,
    ResumeMonitor,
    ShowFeeds,
    ShowStatus,
    ShowUptime,
)
from pipe.language.names import TopicName, parse_topic
from pipe.rights.access import Rule
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from pipe.commands.asker import Asker
    from pipe.events.monitors.hub import Watched
    from pipe.events.monitors.summaries import Summary
    from pipe.events.monitors.uptime import Share
    from pipe.language.monitor_requests import MonitorRequest
    from pipe.rights.callers import Caller
    from pipe.service import Service

DEFAULT_SPAN = 30 * 86_400.0
"""Seconds that `uptime` looks back if only the end was said."""

ALERTS = "alerts"
"""The topic of a user where alerts go by default."""

DOWN_STATUS = 1
"""What `status` exits with if a monitor is down: it is no error of the command's."""


async def answer_about_monitors(service: Service, asker: Asker, request: MonitorRequest) -> str:
    """Answer with what a command prints.

    Raises:
        PipeError: it cannot be carried out; the message says why.
    """
    caller = asker.caller
    match request:
        case AddMonitor():
            return await _add(service, asker, request)
        case RemoveMonitor():
            return await _remove(service, caller, request.topic)
        case PauseMonitor():
            return await _pause(service, caller, request.topic)
        case ResumeMonitor():
            return await _resume(service, caller, request.topic)
        case ListMonitors():
            return await _list(service, caller, as_json=request.json)
        case ShowStatus():
            return _status(service, caller, as_json=request.json)
        case ShowUptime():
            return await _uptime(service, caller, request)
        case ShowFeeds():
            return await _feeds(service, caller, request)


async def _add(service: Service, asker: Asker, request: AddMonitor) -> str:
    caller, terms = asker.caller, request.terms
    topic = parse_topic(request.topic, caller=caller.user)
    alert = parse_topic(request.alert or ALERTS, caller=caller.user)
    if alert == topic:
        raise UsageError(f"alerts about {topic} cannot go there: they would be signs of life")
    _require(service, caller, topic, Operation.READ)
    _require(service, caller, alert, Operation.WRITE)
    await service.guard.catch_up()  # so that nobody sets one up for the next holder of a name
    service.access.require(caller)
    watched, new = await service.monitors.add(caller, topic, terms, alert)
    if watched.monitor.state is State.NEW:
        asker.session.announce(
            f"no alert comes before something has come: echo | {service.ssh_command(caller.user)}"
            f" pub -b=false {short_name(topic, caller)}"
        )
    verb = "watching" if new else "changed: watching"
    return (
        f"{verb} {topic}, every {about(terms.every)} with {about(terms.grace)} of grace;"
        f" alerts go to {alert}\n"
    )


def _require(service: Service, caller: Caller, topic: TopicName, operation: Operation) -> None:
    """Check that a caller has a right that does not depend on a key, nor on somebody's session.

    Raises:
        AccessDenied: it has not.
    """
    mine = service.monitors.caller_like(caller)
    decision = service.access.decide(mine, topic, operation)
    if decision.allowed and decision.rule is not Rule.OWNER_LIST:
        return
    text = f"access denied: {topic} is not shared with you to {operation}"
    if service.access.decide(caller, topic, operation).allowed:
        text += " by a lasting grant to your name, which a monitor needs"
    raise AccessDenied(text)


async def _remove(service: Service, caller: Caller, name: str) -> str:
    topic = parse_topic(name, caller=caller.user)
    if not await service.monitors.remove(caller.user, topic):
        raise _no_such(topic)
    return f"no longer watching {topic}\n"


async def _pause(service: Service, caller: Caller, name: str) -> str:
    watched = _find(service, caller, name)
    await service.monitors.pause(watched)
    return f"paused {watched.topic}\n"


async def _resume(service: Service, caller: Caller, name: str) -> str:
    watched = _find(service, caller, name)
    _require(service, caller, watched.topic, Operation.READ)
    await service.monitors.resume(watched)
    return f"watching {watched.topic} again, with a window that begins now\n"


def _find(service: Service, caller: Caller, name: str) -> Watched:
    topic = parse_topic(name, caller=caller.user)
    for watched in service.monitors.of(caller.user):
        if watched.topic == topic:
            return watched
    raise _no_such(topic)


def _no_such(topic: TopicName) -> StoreError:
    return StoreError(f"you have no monitor of {topic}; 'monitors' lists them")


def _none(service: Service, caller: Caller) -> str:
    ssh = service.ssh_command(caller.user)
    return f"no monitors; make one: {ssh} monitor add TOPIC --every 1h\n"


async def _list(service: Service, caller: Caller, *, as_json: bool) -> str:
    found = service.monitors.of(caller.user)
    if as_json:
        summaries = await service.summaries.of(caller.user)
        return json_lines(_facts(one, summaries.get(one.number)) for one in found)
    if not found:
        return _none(service, caller)
    now = time.time()
    return table(
        ("TOPIC", "STATE", "FOR", "LAST SEEN", "EVERY", "GRACE", "ALERTS", "WHY"),
        [
            (
                short_name(one.topic, caller),
                one.monitor.state.value,
                span(max(0.0, now - one.monitor.since)),
                _ago(one, now),
                about(one.monitor.terms.every),
                about(one.monitor.terms.grace),
                short_name(one.alert, caller),
                one.monitor.reason,
            )
            for one in found
        ],
        fold=7,
    )


def _status(service: Service, caller: Caller, *, as_json: bool) -> str:
    found = service.monitors.of(caller.user)
    down = [one for one in found if one.monitor.state is State.DOWN]
    status = DOWN_STATUS if down else 0
    if as_json:
        return Answer(json_lines(_facts(one, None) for one in found), status)
    if not found:
        return _none(service, caller)
    now = time.time()
    rows = [
        (one.monitor.state.value, short_name(one.topic, caller), _ago(one, now), one.monitor.reason)
        for one in sorted(found, key=lambda one: (one not in down, one.topic))
    ]
    total = f"{len(down)} of {count(len(found), 'monitor')} down\n"
    return Answer(table(("STATE", "TOPIC", "LAST SEEN", "WHY"), rows, fold=3) + total, status)


def _ago(watched: Watched, now: float) -> str:
    seen = watched.monitor.seen
    return "never" if seen is None else f"{span(max(0.0, now - seen))} ago"


def _facts(watched: Watched, summary: Summary | None) -> dict[str, object]:
    """What programs are told of a monitor."""
    monitor, terms = watched.monitor, watched.monitor.terms
    facts: dict[str, object] = {
        "topic": str(watched.topic),
        "state": monitor.state.value,
        "since": monitor.since,
        "last_seen": monitor.seen,
        "reason": monitor.reason,
        "every": terms.every,
        "grace": terms.grace,
        "on": terms.on.value,
        "min_bytes": terms.min_bytes or None,
        "min_rate": terms.min_rate or None,
        "remind": terms.remind or None,
        "alert": str(watched.alert),
        "created": watched.created,
    }
    if summary:
        facts["uptime"] = {name: share.ratio for name, share in summary.spans.items()}
        facts["days"] = summary.days
    return facts


async def _uptime(service: Service, caller: Caller, request: ShowUptime) -> str:
    found = service.monitors.of(caller.user)
    if request.topic:
        found = [_find(service, caller, request.topic)]
    if not found:
        return "" if request.json else _none(service, caller)
    if request.start is None and request.end is None:
        return await _uptime_by_default(service, caller, found, as_json=request.json)
    now = time.time()
    end = now if request.end is None else min(request.end, now)
    start = end - DEFAULT_SPAN if request.start is None else request.start
    if start >= end:
        raise UsageError("--from is in the future: there is nothing to tell yet")
    shares = [(one, (await service.summaries.history(one)).share(start, end)) for one in found]
    if request.json:
        return json_lines(
            {
                "topic": str(one.topic),
                "from": start,
                "to": end,
                "uptime": share.ratio,
                "up": share.up,
                "down": share.down,
                "unknown": share.unknown,
            }
            for one, share in shares
        )
    rows = [
        (short_name(one.topic, caller), percent(share), *map(span, share.seconds))
        for one, share in shares
    ]
    head = f"from {date(start, '')} to {date(end, '')}\n"
    return head + table(("TOPIC", "UPTIME", "UP", "DOWN", "UNKNOWN"), rows)


async def _uptime_by_default(
    service: Service, caller: Caller, found: list[Watched], *, as_json: bool
) -> str:
    summaries = await service.summaries.of(caller.user, latest=True)
    known = [(one, summaries[one.number].spans) for one in found if one.number in summaries]
    if as_json:
        return json_lines(
            {
                "topic": str(one.topic),
                "uptime": {name: share.ratio for name, share in spans.items()},
            }
            for one, spans in known
        )
    names = list(known[0][1]) if known else []
    rows = [
        (
            short_name(one.topic, caller),
            one.monitor.state.value,
            *(percent(spans[name]) for name in names),
        )
        for one, spans in known
    ]
    return table(("TOPIC", "STATE", *names), rows)


def percent(share: Share) -> str:
    """Write a share of the time; never 100 % unless it was all of it."""
    if share.ratio is None:
        return "-"
    hundredths = int(share.ratio * 10_000)
    return f"{hundredths / 100:.2f}%"


async def _feeds(service: Service, caller: Caller, request: ShowFeeds) -> str:
    url = web_url(service)
    await service.guard.catch_up()
    service.access.require(caller)
    store = service.store.monitors
    feeds = await store.feeds_of(caller.user)
    if feeds is None or request.renew:
        feeds = make_feeds(service.web_key, caller.user)
        await store.put_feeds(feeds)
    feed, badge, page = (derive(service.web_key, feeds.salt, kind) for kind in Kind)
    addresses = {
        "feed": f"{url}/feed/{feed}.atom",
        "badge": f"{url}/badge/{badge}.svg",
        "page": f"{url}/status/{page}",
    }
    if request.json:
        return json.dumps(addresses) + "\n"
    return "".join(f"{address}\n" for address in addresses.values())
