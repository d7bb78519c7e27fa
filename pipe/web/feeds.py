"""How somebody's monitors are, for whoever has a secret address: a feed, a badge, a page.

    /feed/SECRET.atom     the newest changes (RFC 4287)
    /badge/SECRET.svg     one word for all, or with ``?topic=NAME`` for one
    /status/SECRET        all of them, with a bar for each of the last days

Each has a secret of its own, since a badge stands in public.  Nothing here needs a script, and a
page may run none.
"""

from __future__ import annotations

import asyncio
import html
import string
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from aiohttp import web

from pipe.errors import AccessDenied
from pipe.events.monitors.addresses import Kind, digest
from pipe.events.monitors.alerts import written
from pipe.events.monitors.monitor import State
from pipe.events.monitors.uptime import DAYS
from pipe.language.durations import SECONDS_PER_DAY
from pipe.language.names import parse_topic
from pipe.web.caller import refused
from pipe.web.calls import CALLS
from pipe.web.pages import ADDRESS_PATTERN, STATIC
from pipe.web.parts import PARTS
from pipe.web.statuses import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipe.events.monitors.hub import Watched
    from pipe.events.monitors.summaries import Summary
    from pipe.events.monitors.uptime import Share
    from pipe.store.monitors import Feeds, StoredChange

ENTRIES: Final = 50
"""Changes in a feed: more than a reader that looks once a day can miss."""

FRESH_SECONDS: Final = 60
"""How long an answer may be shown again."""

ATOM: Final = "http://www.w3.org/2005/Atom"
SVG: Final = "http://www.w3.org/2000/svg"

_HEADERS: Final = {
    "Cache-Control": f"max-age={FRESH_SECONDS}",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

_COLOURS: Final = {
    State.UP: "#0b6e63",
    State.LATE: "#855000",
    State.DOWN: "#b0261e",
}
_GREY: Final = "#67645d"

_LETTER_WIDTH, _MARGIN = 6.6, 9.0
"""Of a badge's text, in pixels: it has a fixed width, whatever fonts there are."""

_UP_FROM, _DOWN_BELOW = 0.9995, 0.5
"""Shares of a day that was up or down as a whole, as far as a bar shows it."""

_PILLS: Final = {State.UP: "pill-good", State.LATE: "pill-warn", State.DOWN: "pill-bad"}

_PAGE: Final = string.Template((STATIC / "status.html").read_text(encoding="utf-8"))


def add_routes(app: web.Application) -> None:
    """Serve them."""
    secret = f"{{secret:{ADDRESS_PATTERN}}}"
    app.router.add_get(f"/feed/{secret}.atom", feed)
    app.router.add_get(f"/badge/{secret}.svg", badge)
    app.router.add_get(f"/status/{secret}", page)


async def feed(request: web.Request) -> web.Response:
    """``GET /feed/SECRET.atom``."""
    parts, feeds = request.app[PARTS], await _find(request, Kind.FEED)
    changes = await parts.service.store.monitors.newest(feeds.user, ENTRIES)
    url = f"{parts.site.url}{request.path}"
    body = render_feed(feeds, changes, url)
    return web.Response(body=body, content_type="application/atom+xml", headers=_HEADERS)


async def badge(request: web.Request) -> web.Response:
    """``GET /badge/SECRET.svg``."""
    parts, feeds = request.app[PARTS], await _find(request, Kind.BADGE)
    found = parts.service.monitors.of(feeds.user)
    name = request.query.get("topic")
    if name is None:
        label = "monitors"
        text, colour = _in_a_word(found)
    else:
        topic = parse_topic(name, caller=feeds.user)
        one = next((one for one in found if one.topic == topic), None)
        if one is None:
            raise NotFound(f"there is no monitor of {topic}")
        label, text = str(topic), one.monitor.state.value
        colour = _COLOURS.get(one.monitor.state, _GREY)
    body = render_badge(label, text, colour)
    return web.Response(body=body, content_type="image/svg+xml", headers=_HEADERS)


async def page(request: web.Request) -> web.Response:
    """``GET /status/SECRET``."""
    service, feeds = request.app[PARTS].service, await _find(request, Kind.PAGE)
    summaries = await service.summaries.of(feeds.user)
    found = service.monitors.of(feeds.user)
    now = time.time()
    items = []
    for watched in found:
        items.append(render_monitor(watched, summaries.get(watched.number), now))
        await asyncio.sleep(0)  # each has some hundred elements
    text = _PAGE.substitute(
        user=html.escape(feeds.user),
        summary=html.escape(_in_words(found)),
        mood=_mood(found),
        monitors="".join(items),
        now=written(now),
        date=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=_HEADERS)


async def _find(request: web.Request, kind: Kind) -> Feeds:
    """Find whose address it is.

    Raises:
        NotFound: nobody's.
        QuotaExceeded: it is asked for too often.
    """
    parts, secret = request.app[PARTS], request.match_info["secret"]
    feeds = await parts.service.store.monitors.find_feeds(kind.value, digest(secret))
    if feeds is None:
        text = "no such address: was it copied in full, and not renewed since?"
        refused(request, AccessDenied(text))
        raise NotFound(text)
    request.app[CALLS].take(f"{kind.value} {feeds.user}", asyncio.get_running_loop().time())
    return feeds


# -- drawing --------------------------------------------------------------------------------------


def render_feed(feeds: Feeds, changes: Iterable[StoredChange], url: str) -> bytes:
    """Write a user's changes as Atom, the newest first.

    An entry's ID stays the same as long as the address does, whatever else changes.
    """
    space = uuid.UUID(feeds.salt)
    root = ET.Element("feed", xmlns=ATOM)
    entries = list(changes)
    updated = entries[0].made if entries else 0.0
    _add(root, "id", uuid.uuid5(space, "feed").urn)
    _add(root, "title", f"Monitors of {feeds.user}")
    _add(root, "updated", written(updated))
    ET.SubElement(root, "link", rel="self", type="application/atom+xml", href=url)
    _add(ET.SubElement(root, "author"), "name", feeds.user)
    _add(root, "generator", "pipe")
    for change in entries:
        entry = ET.SubElement(root, "entry")
        _add(entry, "id", uuid.uuid5(space, str(change.number)).urn)
        _add(entry, "title", f"{change.topic} is {change.state}")
        _add(entry, "updated", written(change.made))
        ET.SubElement(entry, "category", term=change.state)
        _add(entry, "content", f"{change.reason} (it was {change.was})", type="text")
    return _written(root)


def render_badge(label: str, text: str, colour: str) -> bytes:
    """Draw a label beside a word."""
    left, right = (round(len(one) * _LETTER_WIDTH + 2 * _MARGIN) for one in (label, text))
    root = ET.Element(
        "svg",
        {"xmlns": SVG, "width": str(left + right), "height": "20", "role": "img"},
    )
    _add(root, "title", f"{label}: {text}")
    for x, width, fill in ((0, left, "#3a3936"), (left, right, colour)):
        ET.SubElement(root, "rect", x=str(x), width=str(width), height="20", fill=fill)
    for one, x, width in ((label, 0, left), (text, left, right)):
        _add(
            root,
            "text",
            one,
            {
                "x": f"{x + width / 2:g}",
                "y": "14",
                "fill": "#ffffff",
                "font-family": "Verdana, DejaVu Sans, sans-serif",
                "font-size": "11",
                "text-anchor": "middle",
                "textLength": f"{width - 2 * _MARGIN:g}",
            },
        )
    return _written(root)


def _written(root: ET.Element) -> bytes:
    found: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def render_monitor(watched: Watched, summary: Summary | None, now: float) -> str:
    """Write one monitor's part of a page."""
    monitor = watched.monitor
    state = monitor.state
    spans = summary.spans if summary else {}
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{_percent(share)}</dd></div>" for name, share in spans.items()
    )
    since = datetime.fromtimestamp(monitor.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<li class="monitor">\n'
        f'<div class="monitor-head"><h2>{html.escape(str(watched.topic))}</h2>'
        f'<span class="pill {_PILLS.get(state, "")}">{state.value}</span></div>\n'
        f'<p>{html.escape(monitor.reason)} <span class="muted">({state.value} since {since})'
        "</span></p>\n"
        f"{_bars(summary.days, now) if summary else ''}"
        f'<dl class="spans">{figures}</dl>\n'
        "</li>\n"
    )


def _bars(days: list[float | None], now: float) -> str:
    """Draw a bar for each day, the oldest at the left."""
    today = now // SECONDS_PER_DAY * SECONDS_PER_DAY
    bars = []
    for number, ratio in enumerate(days):
        moment = today - (len(days) - 1 - number) * SECONDS_PER_DAY
        day = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
        if ratio is None:
            kind, text = "", "not known"
        elif ratio >= _UP_FROM:
            kind, text = " day-up", "up"
        else:
            kind = " day-down" if ratio < _DOWN_BELOW else " day-part"
            text = f"up for {ratio:.1%}"
        bars.append(
            f'<rect class="day{kind}" x="{number * 8}" width="6" height="32">'
            f"<title>{day}: {text}</title></rect>"
        )
    return (
        f'<div><svg class="days" viewBox="0 0 {len(days) * 8} 32" preserveAspectRatio="none"'
        f' role="img" aria-label="The last {len(days)} days, one bar each">{"".join(bars)}</svg>\n'
        f'<p class="days-ends"><span>{DAYS} days ago</span><span>today</span></p></div>\n'
    )


def _percent(share: Share) -> str:
    if share.ratio is None:
        return "not known"
    return f"{int(share.ratio * 10_000) / 100:.2f} %"


def _in_a_word(found: list[Watched]) -> tuple[str, str]:
    """What a badge says of all monitors, and its colour."""
    down = sum(one.monitor.state is State.DOWN for one in found)
    if down:
        return f"{down} down", _COLOURS[State.DOWN]
    up = sum(one.monitor.state in {State.UP, State.LATE} for one in found)
    if up:
        return "up", _COLOURS[State.UP]
    return "unknown" if found else "none", _GREY


def _in_words(found: list[Watched]) -> str:
    down = sum(one.monitor.state is State.DOWN for one in found)
    if down:
        return f"{down} of {len(found)} down"
    up = sum(one.monitor.state in {State.UP, State.LATE} for one in found)
    return f"{up} of {len(found)} up, none down" if found else "No monitors"


def _mood(found: list[Watched]) -> str:
    states = {one.monitor.state for one in found}
    if State.DOWN in states:
        return "down"
    return "up" if states & {State.UP, State.LATE} else "none"


def _add(
    parent: ET.Element,
    tag: str,
    text: str,
    attributes: dict[str, str] | None = None,
    **more: str,
) -> None:
    ET.SubElement(parent, tag, attributes or {}, **more).text = text
