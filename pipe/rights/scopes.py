"""What a token may do: topics to read, topics to write, and a few other rights.

A scope only takes away: the owner's rights still decide about what it lets through
(`pipe.rights.access`).  Its patterns are those of `pipe.language.names`, resolved once, when the
token is made.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.errors import UsageError
from pipe.language.names import Pattern, TopicName, parse_pattern
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATTERN_BYTES = 2048
"""Bytes of all names and patterns in one direction, each with its owner: enough for dozens."""

MAX_NAMES = 64
"""Names and patterns in one direction, so that checking a token is quick."""

MAX_PATTERNS = 16
"""Patterns with a ``*`` in one direction.  ``ls`` and readers on patterns try each of them on every
topic, while names without a ``*`` are looked up."""


class Right(enum.Enum):
    """What a token may do besides reading and writing topics; the value is how it is stored."""

    LOGS = "logs"
    REGISTRY = "registry"


@dataclass(frozen=True, slots=True)
class Reach:
    """The topics that a token reaches in one direction."""

    names: frozenset[TopicName] = frozenset()
    patterns: frozenset[Pattern] = frozenset()

    @classmethod
    def parse(cls, words: Iterable[str], *, owner: str) -> Reach:
        """Resolve names and patterns; those without a ``/`` are in the owner's space.

        Raises:
            UsageError: one of them is not valid, or there are too many.
        """
        found = {_parse_one(word, owner) for word in words}
        reach = cls(
            frozenset(one for one in found if isinstance(one, TopicName)),
            frozenset(one for one in found if isinstance(one, Pattern)),
        )
        size = len("\n".join(reach.shown).encode())
        if size > MAX_PATTERN_BYTES:
            raise UsageError(
                f"names and patterns have {size} bytes in full: at most {MAX_PATTERN_BYTES} are "
                "allowed; a pattern such as 'ci-*' stands for many names"
            )
        if len(found) > MAX_NAMES:
            raise UsageError(f"there are {len(found)} names: at most {MAX_NAMES} are allowed")
        if len(reach.patterns) > MAX_PATTERNS:
            raise UsageError(
                f"there are {len(reach.patterns)} patterns with a '*': at most {MAX_PATTERNS} are "
                "allowed"
            )
        return reach

    def __bool__(self) -> bool:
        return bool(self.names or self.patterns)

    def covers(self, topic: TopicName) -> bool:
        """Whether it includes a topic."""
        return topic in self.names or any(one.matches(topic) for one in self.patterns)

    @property
    def shown(self) -> list[str]:
        """All names and patterns in full, sorted; `parse` reads them back."""
        return sorted(map(str, (*self.names, *self.patterns)))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token may do."""

    reads: Reach = Reach()
    writes: Reach = Reach()
    rights: frozenset[Right] = frozenset()

    def __bool__(self) -> bool:
        """Whether it allows anything at all."""
        return bool(self.reads or self.writes or self.rights)

    def allows(self, operation: Operation, topic: TopicName) -> bool:
        """Whether the token reaches a topic for this operation, and for all parts of it."""
        if Operation.READ in operation and not self.reads.covers(topic):
            return False
        return Operation.WRITE not in operation or self.writes.covers(topic)


def _parse_one(word: str, owner: str) -> TopicName | Pattern:
    if not word:
        raise UsageError("the list has an empty entry: write it like build,'ci-*'")
    return parse_pattern(word, caller=owner)
