"""Messages of a wire that are not as they should be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from pipe.mesh.certificates import contexts
from pipe.mesh.greeting import BadGreeting, Greeting, decode_answer, encode_answer
from pipe.mesh.peer import ZenohPeer
from pipe.mesh.zenoh import ZenohWires

from .kinds import FAR, HOST, IDENTITY, NEAR, Ear, free_port, node_files, tls_node

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.wire import Wire


def message(number: int, *frames: bytes) -> bytes:
    """A message of Zenoh's wire."""
    parts = [len(frame).to_bytes(4) + frame for frame in frames]
    return number.to_bytes(8) + b"".join(parts)


@pytest.mark.parametrize(
    ("messages", "reason", "frames"),
    [
        ([message(1, b"a"), message(3, b"c")], "a frame is missing", [b"a"]),
        ([message(1, b"a"), message(1, b"a")], "a frame is missing", [b"a"]),
        ([message(1, b"a"), message(2), message(4)], "a frame is missing", [b"a"]),
        ([message(1, b"whole", b"half")[:-2]], "a frame is not whole", [b"whole"]),
        ([message(1)[:5]], "a frame is missing", []),
    ],
)
async def test_what_is_wrong_ends_the_wire(
    tmp_path: Path, messages: list[bytes], reason: str, frames: list[bytes]
) -> None:
    """A gap, a repetition or half a message is the end; what came before it counts."""
    places = [f"{HOST}:{free_port()}" for _ in range(2)]
    far_ear = Ear()
    far = await ZenohPeer.open(FAR, IDENTITY, node_files(tmp_path, "n2"), places[1])
    far_wires = await ZenohWires.open(far, lambda _worker, _wire: far_ear)
    near = await ZenohPeer.open(NEAR, IDENTITY, node_files(tmp_path, "n1"), places[0], places[1:])
    near_wires = await ZenohWires.open(near, lambda _worker, _wire: Ear())
    ear = Ear()
    wire = await near_wires.connect(FAR, ear)
    for one in messages:
        wire.take(one)
    assert (ear.reason, ear.frames) == (reason, frames)
    await far_ear.wait_until(lambda: far_ear.reason)
    for wires, peer in ((near_wires, near), (far_wires, far)):
        await wires.close()
        await peer.close()


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\x00\x00\x00\x05whole\x00\x00\x00\x04ha", [b"whole"]),
        (b"\x00\x00", []),
        (b"\xff\xff\xff\xff", []),
    ],
)
async def test_half_a_frame_on_tls(tmp_path: Path, data: bytes, frames: list[bytes]) -> None:
    """What ends within a frame, or says that one is too large, is lost; the part is not seen."""
    ear = Ear()
    place = HOST, free_port()

    def accept(_worker: WorkerId, _wire: Wire) -> Ear:
        return ear

    node = await tls_node(FAR, node_files(tmp_path, "n2"), accept, place, place)
    _, opening = contexts(node_files(tmp_path, "n1"))
    _, writer = await asyncio.open_connection(*place, ssl=opening)
    greeting = Greeting(NEAR, FAR, IDENTITY).encode()
    writer.write(len(greeting).to_bytes(4) + greeting + data)
    await writer.drain()
    writer.close()
    await ear.wait_until(lambda: ear.reason)
    assert ear.frames == frames
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    await node.close()


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no json",
        b"[]",
        b"[1, 2, 3]",
        b'[["n1", 1, 1], ["n2", 1, 1], [1, "d"]]',
        b'[["n1", "1", 1], ["n2", 1, 1], [1, "d", "k"]]',
        b"[" * 4000,
        b"[" * 5000,
    ],
)
def test_what_is_no_greeting(frame: bytes) -> None:
    """Anything but a greeting is refused as such."""
    with pytest.raises(BadGreeting):
        Greeting.decode(frame)


def test_greetings() -> None:
    """A greeting and its answer are read as they were written; a reason is safe to print."""
    greeting = Greeting(NEAR, FAR, IDENTITY)
    assert Greeting.decode(greeting.encode()) == greeting
    assert decode_answer(encode_answer(None)) is None
    assert decode_answer(encode_answer("no\x1b")) == r"no\x1b"
