"""The port of a far session: what its client's worker may say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from pipe.mesh.edge import Relay
from pipe.mesh.frames import Kind, unpack_mark
from pipe.mesh.link import PIECE_BYTES, Link
from pipe.mesh.port import FarPort
from pipe.stream.chunks import Chunk

if TYPE_CHECKING:
    from collections.abc import Sequence


class Reader:
    """A client that has written all it was given."""

    pending = 0
    clogged = False

    def __init__(self) -> None:
        self.size = 0

    def write(self, chunk: Chunk) -> None:
        """Take it."""
        self.size += chunk.size


@pytest.mark.parametrize("size", [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_chunk_in_pieces_is_marked(size: int) -> None:
    """However long a chunk is, what the client's worker says of it is what was sent."""
    there: Any = Mock(spec=Link)
    here: Any = Mock(spec=Link, blocked=False)
    owner: Any = Mock()
    client: Any = Reader()
    relay = Relay(there, 1, client, lambda _: None)
    port = FarPort(owner, here, 1, Mock(), buffer=1 << 30)
    port.write(Chunk(bytes(size)))
    for start in range(0, size, PIECE_BYTES):
        relay.write(Chunk(bytes(min(PIECE_BYTES, size - start))))
    marks: Sequence[Any] = there.send.call_args_list
    for kind, _, body in (call.args for call in marks):
        assert kind is Kind.MARK
        port.mark(*unpack_mark(memoryview(body)))
    assert (client.size, port.pending) == (size, 0)
