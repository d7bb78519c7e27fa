"""Alerts of monitors: a line of JSON on a topic, and one in the user's log."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from pipe.events.monitors.monitor import State
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.events.monitors.monitor import Change
    from pipe.events.telling import Tell
    from pipe.language.names import TopicName
    from pipe.rights.access import Access
    from pipe.rights.callers import Caller

    Announce: TypeAlias = Callable[[TopicName, bytes, float], bool]

HOLD_SECONDS = 10.0
"""How long an alert waits for a reader that just comes back."""

RESULTS = ("sent", "dropped", "denied")
"""sent: published, whether or not somebody reads; dropped: too many wait; denied: the user may not
write there."""


class Alerts:
    """Sends them.

    Args:
        access: Says who may write where.
        announce: Publishes a short stream.
        tell: Tells a user's log.
    """

    def __init__(self, access: Access, announce: Announce, tell: Tell) -> None:
        self._access = access
        self._announce = announce
        self._tell = tell
        self.sent: Counter[str] = Counter(dict.fromkeys(RESULTS, 0))
        """By `RESULTS`."""

    def send(self, caller: Caller, topic: TopicName, to: TopicName, change: Change) -> None:
        """Tell of a change.

        Args:
            caller: As whom the monitor acts.
            topic: What is watched.
            to: Where the alert goes, if the caller may write there now.
            change: What happened.
        """
        line = json.dumps(describe(topic, change)) + "\n"
        if not self._access.decide(caller, to, Operation.WRITE).allowed:
            result = "denied"
        elif self._announce(to, line.encode(), HOLD_SECONDS):
            result = "sent"
        else:
            result = "dropped"
        self.sent[result] += 1
        level = "INFO" if change.state is State.UP else "ERROR"
        text = f"monitor {topic} is {change.state.value}: {change.reason}"
        self._tell(caller.user, level, text, topic=str(topic), alert=result)


def describe(topic: TopicName, change: Change) -> dict[str, object]:
    """What an alert says, as JSON takes it."""
    return {
        "time": written(change.at),
        "monitor": str(topic),
        "state": change.state.value,
        "was": change.was.value,
        "since": written(change.since),
        "last_seen": None if change.seen is None else written(change.seen),
        "reason": change.reason,
    }


def written(seconds: float) -> str:
    """Write a time as RFC 3339 has it, in UTC."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
