"""Messages of a wire that are not as they should be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from pipe.mesh.certificates import contexts
from pipe.mesh.greeting import BadGreeting, Greeting, decode_answer, encode_answer

from .kinds import FAR, HOST, IDENTITY, NEAR, Ear, free_port, make_node, node_files

if TYPE_CHECKING:
    from pathlib import Path

    from pipe.mesh.directory import WorkerId
    from pipe.mesh.wire import Wire


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"\x00\x00\x00\x05whole\x00\x00\x00\x04ha", [b"whole"]),
        (b"\x00\x00", []),
        (b"\xff\xff\xff\xff", []),
    ],
)
async def test_half_a_frame(tmp_path: Path, data: bytes, frames: list[bytes]) -> None:
    """What ends within a frame, or says that one is too large, is lost; the part is not seen."""
    ear = Ear()
    place = HOST, free_port()

    def accept(_worker: WorkerId, _wire: Wire) -> Ear:
        return ear

    node = await make_node(FAR, node_files(tmp_path, "n2"), accept, place, place)
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
