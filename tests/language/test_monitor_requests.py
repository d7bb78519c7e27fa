"""``monitor``, ``monitors``, ``status``, ``uptime``: how they are read, in two dialects."""

from __future__ import annotations

import pytest

from pipe.errors import UsageError
from pipe.language.monitor_requests import (
    AddMonitor,
    ListMonitors,
    On,
    PauseMonitor,
    RemoveMonitor,
    ResumeMonitor,
    ShowFeeds,
    ShowStatus,
    ShowUptime,
    Terms,
)
from pipe.language.requests import Help, Request, help_text, parse


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("monitor add x --every 1h", AddMonitor("x", 3600.0)),
        ("monitor add --on end x --every 1d --grace 0", AddMonitor("x", 86400.0, 0.0, On.END)),
        ("monitor rm bob/x", RemoveMonitor("bob/x")),
        ("monitor pause x", PauseMonitor("x")),
        ("monitor resume x", ResumeMonitor("x")),
        ("monitors --json", ListMonitors(json=True)),
        ("status", ShowStatus()),
        ("uptime", ShowUptime()),
        ("monitors feed --renew", ShowFeeds(renew=True)),
        ("monitor x 24h", AddMonitor("x", 86400.0)),
        ("monitor x 24h --grace 1h", AddMonitor("x", 86400.0, 3600.0)),
        ("monitor x -d", RemoveMonitor("x")),
        ("monitor -d x", RemoveMonitor("x")),
        ("rss", ShowFeeds()),
        ("monitor", ListMonitors()),
        ("monitor -h", Help("monitors")),
        ("help monitor", Help("monitors")),
        ("help rss", Help("monitors feed")),
    ],
)
def test_read(command: str, request_: Request) -> None:
    """What users write, and what users of pico's ``pipe`` are used to."""
    assert parse(command) == request_


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("monitor add x --every 1s", "it takes 30s to 366d"),
        ("monitor add x --every 367d", "it takes 30s to 366d"),
        ("monitor x 1s", "it takes 30s to 366d"),
        ("monitor add x --every 60", "needs a unit"),
        ("monitor add x --every 1h --remind 1s", "it takes 30s to 366d"),
        ("monitor add x --every 1h --on never", "it takes bytes or end"),
        ("monitor add x --every 1h --min-bytes 0", "it takes 1 byte to 1 PiB"),
        ("monitor add x --every 1h --min-bytes 2000000GiB", "it takes 1 byte to 1 PiB"),
        ("monitor add x --every 1h --min-rate fast", "not a size"),
        ("monitor add --every 1h", "needs a TOPIC"),
        ("monitor ad x", "there are monitor, monitor add, monitor rm"),
        ("monitor x", "there are monitor, monitor add, monitor rm"),
        ("monitor -d", "monitor rm needs a TOPIC"),
        ("uptime --from 2026-02-30", "it takes a date or a time in UTC"),
        ("uptime --to 1960-01-01", "it takes a date or a time in UTC"),
        ("uptime --from 2026-02-01 --to 2026-01-01", "--from comes before --to"),
        ("uptime a b", "is too many"),
    ],
)
def test_slips(command: str, message: str) -> None:
    """A slip is told in one line that says what is allowed."""
    with pytest.raises(UsageError) as caught:
        parse(command)
    assert message in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ("--every 1h", Terms(3600.0, 360.0)),
        ("--every 30s", Terms(30.0, 30.0)),
        ("--every 1h --grace 0", Terms(3600.0, 0.0)),
        ("--every 60s --min-rate 1KiB", Terms(60.0, 30.0, min_rate=1024)),
    ],
)
def test_terms(options: str, terms: Terms) -> None:
    """The grace is a tenth, and at least half a minute, if it is not said."""
    request = parse(f"monitor add x {options}")
    assert isinstance(request, AddMonitor)
    assert request.terms == terms


def test_a_window_has_to_be_said() -> None:
    """There is none by default: nobody else knows how often a job runs."""
    request = parse("monitor add x")
    assert isinstance(request, AddMonitor)
    with pytest.raises(UsageError, match="monitor add TOPIC --every 1h"):
        _ = request.terms


def test_need() -> None:
    """What a window has to bring is the larger of both."""
    assert Terms(60.0, 30.0, min_bytes=100, min_rate=10).need == 600
    assert Terms(60.0, 30.0, min_bytes=1000, min_rate=10).need == 1000
    assert Terms(60.0, 30.0).need == 0


def test_dates() -> None:
    """A date is the day's begin for ``--from``, and its end for ``--to``; times are UTC."""
    assert parse("uptime x --from 1970-01-01 --to 1970-01-01") == ShowUptime("x", 0.0, 86400.0)
    assert parse("uptime --from 1970-01-01T01:00") == ShowUptime(start=3600.0)
    assert parse("uptime --to 1970-01-01T02:00+01:00") == ShowUptime(end=3600.0)


def test_help() -> None:
    """It names what is there, and fits a terminal."""
    text = help_text("monitor add", "ssh pipe")
    assert "--min-bytes SIZE" in text
    assert all(len(line) <= 80 for line in text.splitlines())
