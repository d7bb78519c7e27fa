"""How two workers greet each other, and when one of them refuses."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from pipe.mesh.directory import WorkerId  # noqa: TC001 - pydantic looks at it
from pipe.mesh.frames import BadFrame

PROTOCOL = 2
"""Goes up with each change of the frames."""

_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks: the protocol's number, the program's version, the worker, what else it can."""

    protocol: int
    version: str
    worker: WorkerId
    features: tuple[str, ...] = ()


_HELLO = TypeAdapter(Hello)


def write_hello(hello: Hello) -> bytes:
    """Write it."""
    return _HELLO.dump_json(hello)


def read_hello(body: memoryview) -> Hello:
    """Read it.

    Raises:
        BadFrame: it is none.
    """
    try:
        return _HELLO.validate_json(bytes(body[:_MAX_BYTES]))
    except ValidationError:
        raise BadFrame("a greeting that cannot be read") from None


def why_not(ours: Hello, theirs: Hello) -> str:
    """Why two workers cannot speak with each other; empty if they can."""
    if ours.protocol != theirs.protocol:
        return (
            f"worker {ours.worker} (pipe {ours.version}) speaks protocol {ours.protocol},"
            f" worker {theirs.worker} (pipe {theirs.version}) speaks {theirs.protocol}:"
            " run the same version on both"
        )
    return ""
