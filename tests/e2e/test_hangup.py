"""A client that sends its whole stream and hangs up at once has sent its whole stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .payloads import KIB, MIB, noise, sha256
from .server import Status
from .test_clients import paramiko_session

if TYPE_CHECKING:
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.data_path]

SENT = noise(3 * MIB + 512 * KIB)
"""More than a reader's ssh and the server's buffer for it take (2 MiB and 1 MiB), so that the rest
waits at the publisher's end; less than these and the publisher's window, so that it can be sent."""


@pytest.mark.parametrize("hang_up", ["channel", "connection"])
def test_stream_survives_the_hangup(server: Server, hang_up: str) -> None:
    """End of file, then close at once: a reader that reads late gets every byte and status 0."""
    reader = server.ssh("alice", "sub hangup", reading=False)
    server.wait_sessions(subscribe=1)
    with paramiko_session(server, "pub hangup") as channel:
        channel.sendall(SENT)
        channel.shutdown_write()
        channel.close()
        if hang_up == "channel":
            server.wait_metric("pipe_clogged_subscribers", 1)
            reader.stdout.start_reading()
            assert reader.wait() == Status.OK
    reader.stdout.start_reading()

    assert reader.wait() == Status.OK
    assert reader.stdout.sha256 == sha256(SENT)
