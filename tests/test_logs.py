"""The log: lines of one kind have a rate, and values a length."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from pipe import logs
from pipe.logs import BURST_SECONDS, MAX_KINDS, MAX_VALUE_LENGTH, Throttle
from pipe.settings import LogFormat, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from typing_extensions import Buffer


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=200))
def test_rate_is_kept(rate: int, pauses: list[float]) -> None:
    """Never more lines than the burst and what the rate has allowed since; all others count."""
    clock = Clock()
    throttle = Throttle(rate, clock)
    admitted = 0
    for pause in pauses:
        clock.now += pause
        admitted += throttle.admits("kind")
        assert admitted <= rate * (BURST_SECONDS + clock.now) + 0.001
    assert throttle.take_suppressed("kind") == len(pauses) - admitted
    assert throttle.take_suppressed("kind") == 0


def test_kinds_are_apart() -> None:
    """A flood of one kind leaves the others their lines."""
    throttle = Throttle(1, Clock())
    assert sum(throttle.admits("flood") for _ in range(1000)) == BURST_SECONDS
    assert throttle.admits("other")
    assert throttle.suppressed_kinds() == ["flood"]


def test_kinds_are_bounded() -> None:
    """Kinds without end share one count."""
    throttle = Throttle(1, Clock())
    assert sum(throttle.admits(str(number)) for number in range(5000)) < MAX_KINDS + 11


def test_no_limit() -> None:
    """0 lets all pass."""
    throttle = Throttle(0, Clock())
    assert all(throttle.admits("kind") for _ in range(10_000))


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave logging as it was; meanwhile no second goes by that would let one more line pass."""
    monkeypatch.setattr(logs, "Throttle", partial(Throttle, clock=Clock()))
    level = logging.getLogger("asyncssh").level
    yield
    structlog.reset_defaults()
    logging.getLogger("asyncssh").setLevel(level)


@pytest.mark.usefixtures("_restored")
def test_lines_of_ours_and_of_libraries(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are limited; what a client chose of one is cut and escaped."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    logs.configure(Settings(log_format=LogFormat.JSON, log_rate=1))
    log = structlog.get_logger()
    for number in range(20):
        log.info("flood", user="\x1b[2J" + "x" * 100_000)
        logging.getLogger("asyncssh").warning("packet %d", number)
    lines = capsys.readouterr().err.splitlines()
    ours = [json.loads(line) for line in lines if line.startswith("{")]

    assert len(ours) == BURST_SECONDS
    assert len(ours[0]["user"]) < MAX_VALUE_LENGTH + 10
    assert ours[0]["user"].isprintable()
    assert len(lines) == 2 * BURST_SECONDS


def told(log_format: LogFormat, capsys: pytest.CaptureFixture[str]) -> str:
    """A line that has a bit of everything, without its time."""
    logs.configure(Settings(log_format=log_format))
    structlog.get_logger().info("session ended", user="alice", told="", bytes=0, seconds=0.0, n=1)
    return capsys.readouterr().err


@pytest.mark.usefixtures("_restored")
def test_machines_get_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    """Each object has all fields, and begins with when and what."""
    line = json.loads(told(LogFormat.JSON, capsys))
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["user"], line["told"], line["bytes"], line["seconds"]) == ("alice", "", 0, 0.0)


@pytest.mark.usefixtures("_restored")
def test_people_are_spared_what_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a nought nor an empty text is shown on the console."""
    line = told(LogFormat.CONSOLE, capsys)
    assert line.split()[1:] == ["[info", "]", "session", "ended", "user=alice", "n=1"]


@pytest.mark.usefixtures("_restored")
def test_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room for the lines, ours and libraries', whoever logs them goes on."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    full = os.open("/dev/full", os.O_WRONLY)
    with io.TextIOWrapper(io.FileIO(full, "w"), write_through=True) as stream:
        with pytest.raises(OSError, match="No space left"):
            stream.write("it is full")
        monkeypatch.setattr("sys.stderr", stream)
        logs.configure(Settings(log_format=LogFormat.JSON))
        for _ in range(50):
            structlog.get_logger().info("line", user="alice" * 100)
            logging.getLogger("asyncssh").warning("line")


@pytest.mark.usefixtures("_restored")
def test_each_line_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that log to one pipe do not write into each other's lines."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    writes: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Buffer) -> int:
            writes.append(bytes(data))
            return len(writes[-1])

    with io.TextIOWrapper(cast("IO[bytes]", Raw()), write_through=True) as stream:
        monkeypatch.setattr("sys.stderr", stream)
        logs.configure(Settings(log_format=LogFormat.JSON))
        structlog.get_logger().info("ours")
        logging.getLogger("asyncssh").warning("theirs")
    assert [line.count(b"\n") for line in writes] == [1, 1]


@pytest.mark.usefixtures("_restored")
async def test_what_is_left_out_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, by a line of its own."""
    monkeypatch.setattr(logs, "REPORT_SECONDS", 0.0)
    logs.configure(Settings(log_format=LogFormat.JSON, log_rate=1))
    log = structlog.get_logger()
    for _ in range(15):
        log.info("flood")
    err = ""
    while "left out" not in err:
        await asyncio.sleep(0)
        err += capsys.readouterr().err
    told = json.loads(err.splitlines()[-1])
    assert (told["kind"], told["count"]) == ("flood", 5)
