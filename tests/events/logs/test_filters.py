"""Which lines a filter lets through, by whatever names loggers use."""

from __future__ import annotations

import pytest

from pipe.events.logs.filters import Filter, level_of, service_of
from pipe.language.log_requests import Level

JOURNAL = {
    "__REALTIME_TIMESTAMP": "1423944916375353",
    "PRIORITY": "4",
    "_SYSTEMD_UNIT": "ssh.service",
    "SYSLOG_IDENTIFIER": "sshd",
    "_PID": "12572",
    "MESSAGE": "Connection closed",
}
"""As ``journalctl -o json`` writes it, every value a text (systemd.journal-fields(7))."""


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, Level.INFO),
        ({"level": "DEBUG"}, Level.DEBUG),
        ({"level": "DEBUG-4"}, Level.DEBUG),
        ({"level": "INFO+2"}, Level.INFO),
        ({"level": "warning"}, Level.WARN),
        ({"level": "Error"}, Level.ERROR),
        ({"level": "panic"}, Level.ERROR),
        ({"level": 30}, Level.INFO),
        ({"level": 50}, Level.ERROR),
        ({"level": 3}, Level.ERROR),
        ({"level": 99}, Level.INFO),
        ({"level": -1}, Level.INFO),
        ({"level": True}, Level.INFO),
        ({"level": "x" * 1000}, Level.INFO),
        ({"level": "9" * 1000}, Level.INFO),
        ({"level": "²"}, Level.INFO),
        ({"level": ["ERROR"]}, Level.INFO),
        ({"severity": "CRITICAL"}, Level.ERROR),
        ({"severity_text": "Warn"}, Level.WARN),
        ({"log.level": "error"}, Level.ERROR),
        ({"log": {"level": "error"}}, Level.ERROR),
        ({"log": "error"}, Level.INFO),
        ({"PRIORITY": "0"}, Level.ERROR),
        ({"PRIORITY": "7"}, Level.DEBUG),
        (JOURNAL, Level.WARN),
        ({"level": "info", "severity": "error"}, Level.INFO),
    ],
)
def test_level(fields: dict[str, object], level: Level) -> None:
    """The levels of slog, syslog, journald, pino, ECS and OpenTelemetry are known."""
    assert level_of(fields) is level


@pytest.mark.parametrize(
    ("fields", "service"),
    [
        ({}, ""),
        ({"service": "web"}, "web"),
        ({"service": {"name": "web"}}, "web"),
        ({"service": ["web"]}, ""),
        ({"service.name": "web"}, "web"),
        ({"container_name": "web-1"}, "web-1"),
        (JOURNAL, "sshd"),
    ],
)
def test_service(fields: dict[str, object], service: str) -> None:
    """A service is known by the names of slog, ECS, journald and Docker."""
    assert service_of(fields) == service


@pytest.mark.parametrize(
    ("wanted", "admitted"),
    [
        (Filter(), True),
        (Filter(level=Level.WARN), True),
        (Filter(level=Level.ERROR), False),
        (Filter(service="sshd"), True),
        (Filter(service="ssh"), False),
        (Filter(text=b"closed"), True),
        (Filter(text=b"Closed"), False),
        (Filter(Level.WARN, "sshd", b"Conn"), True),
        (Filter(Level.WARN, "sshd", b"nothing"), False),
    ],
)
def test_filter(wanted: Filter, admitted: bool) -> None:
    """A line has to be all that is asked for."""
    assert wanted.admits(b'{"MESSAGE":"Connection closed"}', JOURNAL) is admitted
    assert bool(wanted) is (wanted != Filter())
