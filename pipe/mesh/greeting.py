"""What is said first on a wire to another machine, and what that is answered.

A wire is for one pair of processes: a worker that was started anew has another epoch, and refuses
what is meant for the one before it.  Only hubs do not know yet whom they will find: each says who
it is, and judges by itself.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Self

from pipe.errors import BadName
from pipe.language.names import escape
from pipe.language.places import Place, parse_node
from pipe.mesh.directory import WorkerId
from pipe.mesh.identity import Identity, disagreement

MAX_GREETING = 4096
"""Bytes: far more than names and a reason take."""


class BadGreeting(ValueError):
    """What has come is no greeting."""


class Greeting(NamedTuple):
    """Who speaks, whom to, and what they must have in common."""

    sender: WorkerId
    receiver: WorkerId
    identity: Identity

    def encode(self) -> bytes:
        """The first frame of who opens a wire."""
        return json.dumps([self.sender, self.receiver, self.identity]).encode()

    @classmethod
    def decode(cls, frame: bytes) -> Self:
        """Read it.

        Raises:
            BadGreeting: it is none.
        """
        sender, receiver, identity = _fields(frame, 3)
        return cls(read_worker(sender), read_worker(receiver), read_identity(identity))

    def refusal(self, me: WorkerId, identity: Identity) -> str | None:
        """Say why this worker does not want the wire; None if it does."""
        if self.receiver != me:
            return f"this is {me} of epoch {me.epoch}, and not of {self.receiver.epoch}"
        return disagreement(identity, self.identity, self.sender.node)


class Introduction(NamedTuple):
    """What hubs say to each other.

    Attributes:
        hub: who speaks.
        place: where others reach it.
        identity: what both must have in common.
        refusal: why who has accepted a wire does not want it, if so; it is safe to print.
    """

    hub: WorkerId
    place: Place
    identity: Identity
    refusal: str | None = None

    def encode(self) -> bytes:
        """The first frame of both."""
        return json.dumps([self.hub, str(self.place), self.identity, self.refusal]).encode()

    @classmethod
    def decode(cls, frame: bytes) -> Self:
        """Read it.

        Raises:
            BadGreeting: it is none.
        """
        hub, place, identity, refusal = _fields(frame, 4)
        found = read_worker(hub)
        if found.number or not isinstance(place, str):
            raise BadGreeting
        try:
            parse_node(found.node)
            at = Place.parse(place)
        except BadName:
            raise BadGreeting from None
        return cls(found, at, read_identity(identity), _read_refusal(refusal))


def encode_answer(refusal: str | None) -> bytes:
    """The first frame of who accepts a wire: a reason if it does not."""
    return json.dumps([refusal]).encode()


def decode_answer(frame: bytes) -> str | None:
    """Read the answer to a greeting: None, or a reason that is safe to print.

    Raises:
        BadGreeting: it is none.
    """
    (refusal,) = _fields(frame, 1)
    return _read_refusal(refusal)


def read_worker(value: object) -> WorkerId:
    """Check one worker's name.

    Raises:
        BadGreeting: it is none.
    """
    match value:
        case [str(node), int(number), int(epoch)] if len(node) <= 64:
            return WorkerId(node, number, epoch)
    raise BadGreeting


def read_identity(value: object) -> Identity:
    """Check what a node says of itself.

    Raises:
        BadGreeting: it says something else.
    """
    match value:
        case [int(protocol), str(database), str(host_key)]:
            return Identity(protocol, database, host_key)
    raise BadGreeting


def _read_refusal(refusal: object) -> str | None:
    if refusal is None:
        return None
    if not isinstance(refusal, str):
        raise BadGreeting
    return escape(refusal)


def _fields(frame: bytes, count: int) -> list[object]:
    if len(frame) > MAX_GREETING:
        raise BadGreeting
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise BadGreeting from error
    if not isinstance(value, list) or len(value) != count:
        raise BadGreeting
    return value
