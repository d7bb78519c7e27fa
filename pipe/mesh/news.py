"""What hubs tell each other of themselves, once they know each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from pipe.mesh.frames import BadFrame

Number: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 16)]
Epoch: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True, slots=True)
class News:
    """Who can be reached on a machine, and how its hub may be followed to others.

    ``number`` grows with each change.  ``workers`` are all that are there: number, epoch, and the
    place where it takes links; the hub is among them once it has all that it needs.  ``hubs`` are
    the places of those that it has wires with.
    """

    number: int
    workers: tuple[tuple[Number, Epoch, str], ...] = ()
    hubs: tuple[str, ...] = ()


_NEWS = TypeAdapter(News)


def encode(news: News) -> bytes:
    """Write it."""
    return _NEWS.dump_json(news)


def decode(data: bytes) -> News:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        return _NEWS.validate_json(data)
    except ValidationError:
        raise BadFrame("news that cannot be read") from None
