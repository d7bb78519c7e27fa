"""What all nodes of a mesh must have in common, and what they are told if they have not."""

from __future__ import annotations

from typing import NamedTuple

from pipe.language.names import escape

PROTOCOL = 1
"""The number of the frames' protocol.  It goes up with each change of what they mean."""


class Identity(NamedTuple):
    """What one node says of itself.

    Attributes:
        protocol: `PROTOCOL` of its version.
        database: the identifier of its accounts database.
        host_key: the fingerprint of its host key, as clients see it.
    """

    protocol: int
    database: str
    host_key: str


def disagreement(ours: Identity, theirs: Identity, node: str) -> str | None:
    """Say in one sentence why two nodes cannot be one service; None if they can.

    Args:
        ours: of this node.
        theirs: of the other one.
        node: the other one's name.
    """
    name = escape(node)
    if ours.protocol != theirs.protocol:
        return (
            f"{name} speaks protocol {theirs.protocol} and this node {ours.protocol}:"
            " run the same version of pipe on both"
        )
    if ours.database != theirs.database:
        return f"{name} has another accounts database: give both nodes the same --database-url"
    if ours.host_key != theirs.host_key:
        return (
            f"{name} has the host key {escape(theirs.host_key)} and this node {ours.host_key}:"
            " copy the file host_key of one data folder to the other"
        )
    return None
