"""What a topic gets to hear of an event: one line of JSON.

    {"time":"2026-11-29T05:16:00.747Z","event":"push","repository":"alice/alpine","tag":"latest",
    "digest":"sha256:41ed…","by":"alice","source":"registry","id":"45e43b71-…"}

The line has always the same fields, and those of which nothing is known are empty, so that ``jq``
finds what it asks for.  It is ASCII: what strangers wrote into it moves no cursor.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass

from pipe.errors import BadName
from pipe.language.names import TopicName, parse_topic

PUSH = "push"
"""The name of the event that an image has a new version under a tag."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to an image.

    Args:
        time: when, in seconds since 1970.
        repository: its full name, with the user whose it is here: ``alice/alpine``.
        tag: what it is called, as ``latest``.
        digest: which it is, as ``sha256:…``.
        by: who did it.
        source: what tells of it: ``registry`` for our proxy, else the kind of a hook.
        id: the sender's own name for this event.
        event: what happened.
    """

    time: float
    repository: str
    tag: str = ""
    digest: str = ""
    by: str = ""
    source: str = ""
    id: str = ""
    event: str = PUSH

    @property
    def topic(self) -> TopicName | None:
        """``OWNER/NAME:TAG``; None without a tag, an owner, or with what no topic can be called.

        A tag may have 128 characters, and a topic's last segment has 64.
        """
        if not self.tag or "/" not in self.repository:
            return None
        try:
            return parse_topic(f"{self.repository}:{self.tag}", caller="")
        except BadName:
            return None

    def line(self) -> bytes:
        """One line of JSON, with its end."""
        time = datetime.datetime.fromtimestamp(self.time, datetime.UTC)
        fields = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": self.event,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "by": self.by,
            "source": self.source,
            "id": self.id,
        }
        text = json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f")
        return text.encode() + b"\n"
