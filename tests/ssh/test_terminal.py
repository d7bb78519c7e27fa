"""What keys mean at a terminal, and signals that clients send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncssh
import pytest

from pipe.errors import Outcome
from pipe.ssh.terminal import Terminal
from pipe.stream.chunks import Chunk
from tests.ssh.serving import connect, serving

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY = asyncssh.generate_private_key("ssh-ed25519")
CONTROL_C, CONTROL_X = b"\x03", b"\x18"


class FakeIntake:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def feed(self, chunk: Chunk) -> None:
        """Keep it."""
        self.data += chunk.data

    def feed_eof(self) -> None:
        """Note it."""
        self.ended = True


@pytest.mark.parametrize(
    ("modes", "key", "interrupts"),
    [
        ({}, CONTROL_C, True),
        ({asyncssh.PTY_ISIG: 1, asyncssh.PTY_VINTR: 3}, CONTROL_C, True),
        ({asyncssh.PTY_ISIG: 0, asyncssh.PTY_VINTR: 3}, CONTROL_C, False),
        ({asyncssh.PTY_VINTR: 24}, CONTROL_C, False),
        ({asyncssh.PTY_VINTR: 24}, CONTROL_X, True),
        ({asyncssh.PTY_VINTR: 255}, b"\xff", False),
        ({asyncssh.PTY_VINTR: 2**32 - 1}, CONTROL_C, False),
    ],
)
def test_key_that_interrupts(modes: Mapping[int, int], key: bytes, interrupts: bool) -> None:
    """It is the one that the client's terminal has, if it has one."""
    intake = FakeIntake()
    typed = Chunk(memoryview(b"abc" + key + b"def"))

    assert Terminal(modes).feed(typed, intake) is interrupts
    assert intake.data == (b"" if interrupts else typed.data)


@pytest.mark.parametrize(
    ("modes", "data", "ended"),
    [({}, b"abc", True), ({asyncssh.PTY_VEOF: 255}, b"abc\x04def", False)],
)
def test_key_that_ends_the_input(modes: Mapping[int, int], data: bytes, ended: bool) -> None:
    """What stands behind it is not read."""
    intake = FakeIntake()

    assert not Terminal(modes).feed(Chunk(b"abc\x04def"), intake)
    assert (intake.data, intake.ended) == (data, ended)


@pytest.mark.parametrize(
    "command", ["pub x", "pub -e x", "sub x", "sub 'x*'", "pipe x", "keys add"]
)
async def test_signal(tmp_path: Path, command: str) -> None:
    """A signal that ends programs ends a session; others do nothing."""
    async with (
        serving(tmp_path / "data") as service,
        await connect(service, "alice", KEY) as connection,
    ):
        process = await connection.create_process(command)
        for name in ("USR1", "WINCH", "INT"):
            assert process.exit_status is None
            process.send_signal(name)
        await process.wait_closed()
        assert process.exit_status == Outcome.INTERRUPTED.status


async def test_signal_breaks_a_stream(tmp_path: Path) -> None:
    """A writer that is interrupted has not come to its end, as its readers are told."""
    async with (
        serving(tmp_path / "data") as service,
        await connect(service, "alice", KEY) as connection,
    ):
        reader = await connection.create_process("sub x")
        writer = await connection.create_process("pub x")
        writer.stdin.write("half")
        assert await reader.stdout.readexactly(4) == "half"
        writer.send_signal("TERM")
        await reader.wait_closed()
        assert reader.exit_status == Outcome.BROKEN.status
