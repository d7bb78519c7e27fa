"""The metrics' own HTTP server, where it has no figures to give."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from typing import TYPE_CHECKING, cast

from pipe import metrics as metrics_module
from pipe.metrics import Metrics

if TYPE_CHECKING:
    import pytest

    from pipe.metrics import Snapshot

HOST = "127.0.0.1"


def test_scrape_of_a_busy_event_loop(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever scrapes is told that the loop had no time, and the log is spared a traceback."""
    monkeypatch.setattr(metrics_module, "SCRAPE_TIMEOUT_SECONDS", 0.01)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        server = Metrics().serve(HOST, 0, loop, lambda: cast("Snapshot", None))
        try:
            connection = http.client.HTTPConnection(HOST, server.port)
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            assert answer.status == http.client.SERVICE_UNAVAILABLE
            assert answer.read() == b"the event loop has not answered within 0.01 seconds\n"
            connection.close()
        finally:
            server.close()
    assert capfd.readouterr().err == ""
