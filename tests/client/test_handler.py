"""What a record of `logging` and an event of structlog say in a line."""

from __future__ import annotations

import datetime
import json
import logging
import logging.config
from typing import TYPE_CHECKING, Any

import pipe_log
import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .log_server import LogServer

URL = "http://127.0.0.1:9"


class Hostile:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Written:
    """The lines that a handler queued."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    @property
    def said(self) -> list[dict[str, Any]]:
        """What they say."""
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """All lines, which go nowhere else."""
    written = Written()
    monkeypatch.setattr("pipe_log._sender.Sender.put", lambda _, line: written.lines.append(line))
    return written


@pytest.fixture
def log(written: Written) -> Iterator[logging.Logger]:  # noqa: ARG001
    """A logger with a handler, and no other."""
    logger = logging.Logger("shop.cart")  # noqa: LOG001 - which nobody else has
    handler = pipe_log.Handler(URL, service="web")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_record_becomes_a_line(log: logging.Logger, written: Written) -> None:
    """A line has time, level, message, logger and service, and what was given as `extra`."""
    before = datetime.datetime.now(datetime.UTC)
    log.warning("%d left", 3, extra={"user": "alice", "order": {"id": 7}})
    [said] = written.said

    assert before <= datetime.datetime.fromisoformat(said.pop("time"))
    assert said == {
        "level": "WARN",
        "msg": "3 left",
        "logger": "shop.cart",
        "service": "web",
        "user": "alice",
        "order": {"id": 7},
    }


@pytest.mark.parametrize(
    ("level", "name"),
    [(5, "DEBUG"), (10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARN"), (50, "ERROR")],
)
def test_levels_are_four(log: logging.Logger, written: Written, level: int, name: str) -> None:
    """Each level of `logging` is one of the four that everybody knows."""
    log.log(level, "hello")

    assert [said["level"] for said in written.said] == [name]


def test_error_has_the_traceback(log: logging.Logger, written: Written) -> None:
    """`exception` adds the traceback, chained errors included."""
    try:
        raise ValueError("bad") from KeyError("worse")
    except ValueError:
        log.exception("failed")

    [said] = written.said
    assert said["error"].startswith("KeyError: 'worse'\n\nThe above exception")
    assert said["error"].endswith("ValueError: bad")


def test_trace_of_opentelemetry(log: logging.Logger, written: Written) -> None:
    """What OpenTelemetry adds to records becomes `trace_id` and `span_id`; no trace is none."""
    log.info("in", extra={"otelTraceID": "4bf92f", "otelSpanID": "00f067"})
    log.info("out", extra={"otelTraceID": "0", "otelSpanID": "0"})

    inside, outside = written.said
    assert (inside["trace_id"], inside["span_id"]) == ("4bf92f", "00f067")
    assert not {"trace_id", "span_id"} & outside.keys()


def test_extra_replaces_nothing_of_ours(log: logging.Logger, written: Written) -> None:
    """A field that is called as one of ours gets another name; the service may be replaced."""
    log.info("hello", extra={"time": 1, "level": 2, "dropped": 3, "service": "worker", "_x": 4})

    [said] = written.said
    assert (said["time_"], said["level_"], said["dropped_"], said["service"]) == (1, 2, 3, "worker")
    assert said["level"] == "INFO"
    assert "_x" not in said


@pytest.mark.parametrize(
    ("message", "arguments"),
    [("%d", ("x",)), ("%s", (Hostile(),)), (Hostile(), ()), (None, ()), ("\ud800\n", ())],
)
def test_record_that_cannot_be_formatted_is_sent(
    log: logging.Logger, written: Written, message: object, arguments: tuple[Any, ...]
) -> None:
    """A mistake in a call of `logging` costs the line nothing but its form."""
    log.info(message, *arguments, extra={"user": "alice"})

    assert [said["user"] for said in written.said] == ["alice"]


def test_record_of_which_nothing_can_be_made_is_counted(written: Written) -> None:
    """`emit` raises nothing, whatever it is given."""
    handler = pipe_log.Handler(URL)
    handler.emit(logging.makeLogRecord({"created": "yesterday"}))

    assert written.lines == []
    assert handler.dropped == 1
    handler.close()


def test_own_records_are_skipped(log: logging.Logger, written: Written) -> None:
    """What this package itself might log is not sent, or it could go round in circles."""
    for name in ("pipe_log", "pipe_log.http"):
        log.handle(logging.makeLogRecord({"name": name, "levelno": logging.ERROR}))
    log.handle(logging.makeLogRecord({"name": "pipe_logic", "levelno": logging.ERROR}))

    assert [said["logger"] for said in written.said] == ["pipe_logic"]


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("pipe.example.org", None),
        ("ftp://pipe.example.org", None),
        ("https://", None),
        ("https://pipe.example.org:port", None),
        ("https://alice:secret@pipe.example.org", None),
        ("https://pipe.example.org", "two\nlines"),
        ("ssh:pipe", None),
        ("ssh: log", None),
        ("ssh:-oProxyCommand=id log", None),
        ("ssh:pipe log;id", None),
        ("ssh:pipe -e", None),
        ("ssh:pipe log", "secret"),
    ],
)
def test_mistakes_are_told_when_it_is_made(url: str, token: str | None) -> None:
    """A server that cannot be one is refused at once, not when lines get lost."""
    with pytest.raises(ValueError, match=r"."):
        pipe_log.Handler(url, token=token)


def test_logging_can_be_configured_with_it(written: Written) -> None:
    """`logging.config` makes a handler from a dictionary."""
    settings = {"class": "pipe_log.Handler", "url": URL, "service": "web", "level": "WARNING"}
    handler = logging.config.DictConfigurator({}).configure_handler(settings)
    log = logging.Logger("configured")  # noqa: LOG001
    log.addHandler(handler)
    log.warning("hello")
    log.info("not sent")
    handler.close()

    assert [said["msg"] for said in written.said] == ["hello"]


@pytest.fixture
def events(written: Written) -> Iterator[structlog.typing.FilteringBoundLogger]:  # noqa: ARG001
    """A logger of structlog that renders to nowhere."""
    handler = pipe_log.Handler(URL, service="web", level=logging.INFO)
    yield structlog.wrap_logger(
        structlog.testing.CapturingLogger(),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            pipe_log.Processor(handler),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler.close()


def test_event_of_structlog_becomes_a_line(
    events: structlog.typing.FilteringBoundLogger, written: Written
) -> None:
    """An event is sent with its level and all that is bound, and rendered as ever."""
    with structlog.contextvars.bound_contextvars(user="alice"):
        events.bind(order=7).warning("paid", amount=3)

    [said] = written.said
    assert datetime.datetime.fromisoformat(said.pop("time")).utcoffset() == datetime.timedelta()
    assert said == {
        "level": "WARN",
        "msg": "paid",
        "service": "web",
        "user": "alice",
        "order": 7,
        "amount": 3,
    }


def test_event_has_the_traceback(
    events: structlog.typing.FilteringBoundLogger, written: Written
) -> None:
    """`exception` of structlog adds the traceback too."""
    try:
        raise ValueError("bad")
    except ValueError:
        events.exception("failed")

    [said] = written.said
    assert said["level"] == "ERROR"
    assert said["error"].endswith("ValueError: bad")


def test_event_below_the_level_is_not_sent(
    events: structlog.typing.FilteringBoundLogger, written: Written
) -> None:
    """The handler's level counts for events."""
    events.debug("hello")

    assert written.lines == []


def test_event_on_its_way_through_logging(log: logging.Logger, written: Written) -> None:
    """Where structlog hands its events to `logging`, a line comes of what they say."""
    structlog.wrap_logger(
        log, processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    ).info("paid", user="alice")

    [said] = written.said
    assert (said["msg"], said["user"], said["level"]) == ("paid", "alice", "INFO")


def test_lines_arrive(handler: pipe_log.Handler, log_server: LogServer) -> None:
    """What is logged arrives, in order, in few requests with the token."""
    logger = logging.Logger("shop")  # noqa: LOG001
    logger.addHandler(handler)
    for number in range(1000):
        logger.info("line %d", number)

    assert [line["msg"] for line in log_server.wait(1000)] == [f"line {n}" for n in range(1000)]
    assert len(log_server.requests) < 50
    assert log_server.connections == 1
    request = log_server.requests[0]
    assert request.path == "/api/logs"
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/x-ndjson"
