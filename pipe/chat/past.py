"""What was said in a room before somebody came, as far as the topic's ring has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.chat.wire import Lines, read_line

if TYPE_CHECKING:
    from pipe.chat.events import Event
    from pipe.stream.history import History

MAX_PAST_BYTES = 256 * 1024
"""How far back lines are looked for: `pipe.language.chat_requests.MAX_LINES` long ones, or a
millisecond's work."""


def past_events(history: History, count: int) -> list[Event]:
    """Return the last ``count`` lines; whoever published before anybody asked is not known."""
    ring, speakers = history.ring, history.attribute()
    position = max(ring.find_lines(count), ring.end - MAX_PAST_BYTES)
    lines, events = Lines(), []
    for user, start, stop in speakers.between(position, ring.end):
        at = start
        while at < stop:
            piece = ring.read(at)[: stop - at]
            at += len(piece)
            whole, _ = lines.feed(user, bytes(piece))
            events += [read_line(user, line) for line in whole]
    return events[-count:] if count else []
