"""Readers that stand by for topics which may not exist: by a pattern, or by one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.language.names import TopicName

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from pipe.language.names import Pattern
    from pipe.stream.topics import Member

    Admits: TypeAlias = Callable[[TopicName], bool]


class Standing:
    """All of them.  Finding those of a topic costs a look at each pattern, but not at each name."""

    def __init__(self) -> None:
        self._by_pattern: dict[Member, tuple[Pattern, Admits]] = {}
        self._by_name: dict[TopicName, dict[Member, Admits]] = {}
        self._names: dict[Member, TopicName] = {}

    def add(self, member: Member, wanted: Pattern | TopicName, admits: Admits) -> None:
        """Note that a member reads what it wants, as far as ``admits`` allows each topic."""
        if isinstance(wanted, TopicName):
            self._by_name.setdefault(wanted, {})[member] = admits
            self._names[member] = wanted
        else:
            self._by_pattern[member] = wanted, admits

    def remove(self, member: Member) -> None:
        """Forget a member; do nothing if it is none of these."""
        self._by_pattern.pop(member, None)
        name = self._names.pop(member, None)
        if name:
            del self._by_name[name][member]
            if not self._by_name[name]:
                del self._by_name[name]

    def readers_of(self, name: TopicName) -> list[tuple[Member, Admits]]:
        """The members that want a topic, each with what says whether it may read it."""
        found = [
            (member, admits)
            for member, (pattern, admits) in self._by_pattern.items()
            if pattern.matches(name)
        ]
        found += self._by_name.get(name, {}).items()
        return found

    def __bool__(self) -> bool:
        return bool(self._by_pattern or self._by_name)
