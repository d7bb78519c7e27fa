"""What travels of a connection: it comes back as it was, and is refused where it is not whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import NotMoved
from pipe.ssh.handover import MAX_CARRIED_BYTES, Cargo, Who, decode
from pipe.ssh.login.logins import Identity
from pipe.ssh.login.restrictions import Restrictions
from tests.e2e.server import Status
from tests.ssh.house import House, ended

if TYPE_CHECKING:
    from collections.abc import Callable


async def make_cargo(house: House) -> Cargo:
    """Take a connection out, let it go, and return what would have travelled."""
    house.hold = True
    client = await house.ssh("alice", "sub there")
    await house.until_held()
    parcel = house.take_out(house.held[0])
    parcel.socket.close()
    assert (await ended(client)).status == Status.NO_CONNECTION
    return parcel.cargo


async def test_state(house: House) -> None:
    """It comes back as it was, is small, shows no secret, and is refused if it is damaged."""
    cargo = await make_cargo(house)
    encoded = cargo.encode()
    assert len(encoded) < 2048
    assert decode(encoded) == cargo
    lane = cargo.state.lane
    for secret in (lane.to_server.key, lane.to_client.key, lane.session_id):
        assert repr(secret)[2:-1] not in repr(cargo) + repr(cargo.state)

    @given(st.integers(0, len(encoded) - 1), st.integers(1, 255))
    def flipped(position: int, mask: int) -> None:
        damaged = bytearray(encoded)
        damaged[position] ^= mask
        with pytest.raises(NotMoved):
            decode(bytes(damaged))

    @given(st.integers(0, len(encoded) - 1))
    def cut(size: int) -> None:
        with pytest.raises(NotMoved):
            decode(encoded[:size])

    flipped()
    cut()
    with pytest.raises(NotMoved, match="same build"):
        decode(bytes(32) + encoded[32:])
    with pytest.raises(NotMoved, match="too large"):
        decode(bytes(2 * MAX_CARRIED_BYTES))


def test_identity() -> None:
    """On which terms somebody has logged in is the same afterwards."""
    terms = Restrictions("sub log", False, False, frozenset({("localhost", "80")}), "10.0.0.0/8")
    identity = Identity("alice", "SHA256:a", True, True, terms, 1.5, True, "SHA256:ca", stored=True)
    assert Who.of(identity).identity == identity
    plain = Identity("bob", "SHA256:b")
    assert Who.of(plain).identity == plain


async def test_faults_in_a_state(house: House) -> None:
    """A field that is missing, unknown, or out of its bounds is named, and no value is shown."""
    cargo = await make_cargo(house)
    whole = json.loads(cargo.state.model_dump_json())

    def refuse(change: Callable[[dict[str, Any]], object], name: str) -> None:
        fields = json.loads(json.dumps(whole))
        change(fields)
        spoilt = cargo._replace(state=_Raw(json.dumps(fields)))  # type: ignore[arg-type]
        with pytest.raises(NotMoved, match=name) as caught:
            decode(spoilt.encode())
        assert whole["lane"]["to_server"]["key"] not in caught.value.message
        assert caught.value.__cause__ is None

    refuse(lambda one: one.pop("who"), "who")
    refuse(lambda one: one.update(more=1), "more")
    refuse(lambda one: one["who"].update(admin="yes"), "who.admin")
    refuse(lambda one: one["lane"]["to_client"].update(cipher="none"), "lane.to_client.cipher")
    refuse(lambda one: one["lane"]["to_server"].update(key="AAAA"), "lane.to_server")
    refuse(lambda one: one["lane"]["to_client"].update(sequence=1 << 32), "sequence")
    refuse(lambda one: one["lane"]["channel"].update(recv_window=1 << 31), "lane.channel")
    refuse(lambda one: one["lane"].update(server_version="SSH-2.0-a\nb"), "server_version")
    refuse(lambda one: one.update(sessions=0), "sessions")


class _Raw:
    """A state that is already written."""

    def __init__(self, text: str) -> None:
        self._text = text

    def model_dump_json(self) -> str:
        """Return it."""
        return self._text
