"""The logger that asyncssh's connections and channels share."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pipe.ssh.level_logger import LevelLogger

if TYPE_CHECKING:
    import pytest


class Costly:
    """An argument that must not be turned into text."""

    def __str__(self) -> str:
        raise AssertionError("worded, though nobody wants the line")


def test_words_nothing_that_is_not_wanted(caplog: pytest.LogCaptureFixture) -> None:
    """Below the level no argument is looked at, by a channel's logger neither."""
    logger = LevelLogger()
    with caplog.at_level(logging.WARNING, "asyncssh"):
        for each in (logger, logger.get_child(context="chan=0")):
            each.debug1("%s", [Costly()])
            each.info("%s", [Costly()])
    assert not caplog.records


def test_errors_get_through(caplog: pytest.LogCaptureFixture) -> None:
    """An error is written, with its arguments."""
    with caplog.at_level(logging.WARNING, "asyncssh"):
        LevelLogger().get_child(context="chan=0").error("Uncaught %s", b"fault")
    assert [record.getMessage() for record in caplog.records] == ["Uncaught fault"]
