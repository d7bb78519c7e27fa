"""Prepares user names as asyncssh does, but plain ones without looking at each character's tables.

asyncssh applies SASLprep (RFC 4013) to the name in each of a login's three requests, 20 us each.
It leaves names of printable ASCII as they are, and hardly anybody has another.
"""

from __future__ import annotations

from asyncssh import connection
from asyncssh.saslprep import saslprep


def prepare(name: str) -> str:
    """Prepare a name.

    Raises:
        SASLPrepError: it has characters that no name may have.
    """
    return name if name.isascii() and name.isprintable() else saslprep(name)


def prepare_quickly() -> None:
    """Let asyncssh's connections prepare names by `prepare`, from now on."""
    connection.saslprep = prepare  # type: ignore[attr-defined, assignment]  # imported there
