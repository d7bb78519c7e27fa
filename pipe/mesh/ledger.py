"""What the hubs of several machines tell each other of what they count: no loop, and no clock.

Nobody has all sums: each node tells its own counts to all others and adds up what it hears, so none
of them is needed by the others.  The network may lose what is told, and these rules make up for it:

- Messages that tell a change are numbered.  Who misses one counts on with what it knows, asks for
  everything, and goes on from there.
- Beats repeat the last number, so that a message is missed which none has followed.
- What a node that is gone had is not counted any more.  Who hears of a node for the first time, or
  again, knows nothing of it and asks.
- Offences are told once each.  Who has asked for everything gets penalties as they are by then, and
  the longer one counts: one that is known already is not added again.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Generic, NamedTuple, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from pipe.mesh.frames import BadFrame

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

MAX_BYTES = 64 << 20
"""Of a message: far more than all counts of a node take."""


Count: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Key: TypeAlias = Annotated[str, Field(max_length=256)]
"""Of a count, a source or an offence: a name, an address, and a word before it."""


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a node says of itself: for people.

    ``until`` is when its certificate ends, in seconds since 1970, ``workers`` how many serve.
    """

    version: Key
    until: float
    workers: Count


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What a node tells all others.

    ``number`` counts the changes that it has told, with this message; one with neither counts nor
    charges is a beat.  ``whole`` says that the counts are all that it has.  ``asks`` are those who
    shall tell everything.  ``leaves`` is said once, at the end.
    """

    number: Count
    counts: dict[Key, Count] = dataclasses.field(default_factory=dict)
    charges: tuple[tuple[Key, Key, Count], ...] = ()
    penalties: tuple[tuple[Key, Seconds, bool], ...] = ()
    whole: bool = False
    asks: tuple[Key, ...] = ()
    leaves: bool = False
    about: About | None = None


class Heard(NamedTuple):
    """What of a message is new.

    Attributes:
        counts: those of a message that is whole are all that the node has, others are changes.
        charges: and its penalties in any case, if it has some.
    """

    counts: bool
    charges: bool


_MESSAGE = TypeAdapter(Message)


def encode(message: Message) -> bytes:
    """Write a message."""
    return _MESSAGE.dump_json(message, exclude_defaults=True)


def decode(data: bytes) -> Message:
    """Read a message.

    Raises:
        BadFrame: it is none.
    """
    try:
        return _MESSAGE.validate_json(data[:MAX_BYTES])
    except ValidationError:
        raise BadFrame("a message that cannot be read") from None


Node = TypeVar("Node", bound="Hashable")


class Ledger(Generic[Node]):
    """One node's part.

    Args:
        name: by which the others know this start of this node; no other has it, ever.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._counts: dict[str, int] = {}  # of this node, as they are now
        self._changed: dict[str, None] = {}
        self._charges: Counter[tuple[str, str]] = Counter()
        self._heard: dict[Node, int] = {}  # the last number of each
        self._asks: dict[str, None] = {}
        self._asked = False

    # -- this node --------------------------------------------------------------------------------

    def count(self, counts: Mapping[str, int]) -> None:
        """This node has so many of these now."""
        for key, count in counts.items():
            if count:
                self._counts[key] = count
            else:
                self._counts.pop(key, None)
            self._changed[key] = None

    def charge(self, source: str, offence: str) -> None:
        """A source has offended here."""
        self._charges[source, offence] += 1

    @property
    def pending(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._changed or self._charges or self._asks or self._asked)

    @property
    def asked(self) -> bool:
        """Whether the next message has to tell everything."""
        return self._asked

    def next(
        self,
        penalties: Sequence[tuple[str, float, bool]] = (),
        about: About | None = None,
    ) -> Message:
        """Make what is to be told now; a beat if that is nothing.

        Args:
            penalties: as they are now; only needed when `asked`.
            about: what this node says of itself.
        """
        self._number += bool(self._changed or self._charges)
        message = Message(
            self._number,
            dict(self._counts) if self._asked else self._list_changed(),
            tuple((*key, times) for key, times in self._charges.items()),
            tuple(penalties) if self._asked else (),
            self._asked,
            tuple(self._asks),
            about=about,
        )
        self._changed, self._asks, self._asked = {}, {}, False
        self._charges.clear()
        return message

    def leave(self) -> Message:
        """Make the last message."""
        return Message(self._number, leaves=True)

    def _list_changed(self) -> dict[str, int]:
        return {key: self._counts.get(key, 0) for key in self._changed}

    # -- the others -------------------------------------------------------------------------------

    def hear(self, node: Node, name: str, message: Message) -> Heard:
        """Take what another node tells, and say what of it is to be believed.

        Args:
            node: who tells.
            name: as it calls itself in its `Ledger`.
            message: what it tells.
        """
        self._asked |= self._name in message.asks
        last = self._heard.get(node, 0)
        changes = bool(message.counts or message.charges)
        follows = changes and message.number == last + 1
        whole = message.whole and message.number >= last
        if follows or whole:
            self._heard[node] = message.number
        elif message.number > last:
            self._asks[name] = None
        return Heard(follows or whole, follows)

    def greet(self, node: Node, name: str) -> None:
        """Another node is there: ask it for everything, as it may have counted for long."""
        self._heard[node] = 0
        self._asks[name] = None

    def forget(self, node: Node) -> None:
        """A node is gone."""
        self._heard.pop(node, None)
