"""A handler and a server of HTTP that answers, hangs, breaks off, goes away and comes back."""

from __future__ import annotations

import email.utils
import logging
import time
from typing import TYPE_CHECKING

import pipe_log
import pytest
from pipe_log._http import _seconds

from tests.e2e.processes import wait_until

from .log_server import CUT, HANG, Answer, LogServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log(handler: pipe_log.Handler) -> Iterator[logging.Logger]:
    """A logger whose records go to the server."""
    logger = logging.Logger("shop")  # noqa: LOG001 - which nobody else has
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def messages(server: LogServer) -> list[str]:
    """The messages that were taken, in order."""
    return [line["msg"] for line in server.lines]


def test_busy_server_is_asked_again_when_it_says(
    log: logging.Logger, log_server: LogServer, handler: pipe_log.Handler
) -> None:
    """A 503 costs no line, and `Retry-After` is heeded."""
    log_server.then(Answer(503, {"Retry-After": "1"}), Answer(500), Answer(429))
    log.info("hello")
    log_server.wait(1)

    assert messages(log_server) == ["hello"]
    assert log_server.requests[1].moment - log_server.requests[0].moment >= 1
    assert len(log_server.requests) == 4
    assert handler.dropped == 0


def test_refused_batch_is_dropped(
    log: logging.Logger,
    log_server: LogServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A 401 drops the batch, is told once, and the next line that is taken tells how many."""
    log_server.then(*[Answer(401, text="no such token\x1b[1m\nat all")] * 2)
    for count in (1, 2):
        log.info("lost")
        log_server.wait_requests(count)
    log.info("hello")

    [line] = log_server.wait(1)
    assert (line["msg"], line["dropped"]) == ("hello", 2)
    said = capsys.readouterr().err
    assert said.count("refuses lines") == 1
    assert "401 Unauthorized: no such token?[1m\n" in said


def test_redirect_is_a_refusal(
    log: logging.Logger, log_server: LogServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token goes nowhere else; who reads stderr learns where the server is."""
    log_server.then(Answer(308, {"Location": "https://pipe.example.org/api/logs"}))
    log.info("lost")
    log_server.wait_requests(1)
    log.info("hello")
    log_server.wait(1)

    assert "to https://pipe.example.org/api/logs" in capsys.readouterr().err


def test_connection_that_breaks_costs_nothing(
    log: logging.Logger, log_server: LogServer, handler: pipe_log.Handler
) -> None:
    """A batch without an answer is sent again."""
    log_server.then(CUT, CUT)
    log.info("hello")
    log_server.wait(1)

    assert messages(log_server) == ["hello"]
    assert handler.dropped == 0


def test_idle_connection_that_was_closed_costs_no_wait(
    log: logging.Logger, log_server: LogServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server may close a connection that is not used; nobody is told of that."""
    log.info("one")
    log_server.wait(1)
    log_server.stop()
    log_server.start()
    log.info("two")
    log_server.wait(2)

    assert messages(log_server) == ["one", "two"]
    assert capsys.readouterr().err == ""


def test_server_that_is_away_comes_back(
    log: logging.Logger,
    log_server: LogServer,
    handler: pipe_log.Handler,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is logged while there is no server arrives when there is one; stderr says so once."""
    log.info("before")
    log_server.wait(1)
    log_server.stop()
    for number in range(100):
        log.info("%d", number)
    wait_until(lambda: handler._sender._failures >= 3, "tries")  # noqa: SLF001
    log_server.start()
    log_server.wait(101)

    assert messages(log_server) == ["before", *map(str, range(100))]
    assert handler.dropped == 0
    assert capsys.readouterr().err.count("cannot send") == 1


def test_server_that_hangs_is_given_up(
    log: logging.Logger, log_server: LogServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer the batch is sent again, by another connection."""
    monkeypatch.setattr("pipe_log._http.TIMEOUT", 0.1)
    log_server.then(HANG)
    log.info("hello")
    log_server.wait(1)

    assert messages(log_server) == ["hello"]
    assert log_server.connections == 2


def test_close_does_not_wait_for_a_server_that_hangs(
    log: logging.Logger, log_server: LogServer, handler: pipe_log.Handler
) -> None:
    """A service ends in time, whatever the server does."""
    log_server.then(HANG)
    log.info("hello")
    log_server.wait_requests(1)
    handler.close(0.05)

    assert handler.dropped == 1


@pytest.mark.parametrize(
    ("path", "expected"), [("", "/api/logs"), ("/", "/api/logs"), ("/pipe/logs?x=1",) * 2]
)
def test_path_may_be_given(
    log_server: LogServer,
    short_waits: None,  # noqa: ARG001
    path: str,
    expected: str,
) -> None:
    """Behind a proxy the logs may have another place."""
    handler = pipe_log.Handler(log_server.url + path)
    handler.emit(logging.makeLogRecord({"levelno": logging.INFO}))
    handler.close()

    assert [request.path for request in log_server.requests] == [expected]
    assert "Authorization" not in log_server.requests[0].headers


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    """A date counts from now; what cannot be read, or is too long, holds nobody up."""
    assert 50 < _seconds(email.utils.formatdate(time.time() + 60)) <= 60
    assert _seconds(email.utils.formatdate(0)) == 0
    assert _seconds("soon") == _seconds("-1") == _seconds(None) == 0
    assert _seconds("9" * 400) == _seconds("86400") == 600
