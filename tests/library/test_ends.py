"""What an end is to a program: an exception, or none, and the same again over HTTP."""

from __future__ import annotations

import pytest

import pipe
from pipe.errors import Outcome
from pipe.library.ends import CONNECTION_LOST, End, end_by, end_from_json, end_of

ENDS = [end_of(outcome, "why") for outcome in Outcome if outcome.status]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.outcome.label)
def test_errors_say_just_how_it_ended(end: End) -> None:
    """Several outcomes are one exception, which still has the status and message of its own."""
    with pytest.raises(pipe.PipeError, match="why") as caught:
        end.check()
    assert caught.value.exit_status == end.outcome.status
    assert end_by(caught.value) == end


def test_good_end_is_no_error() -> None:
    """There is nothing to raise."""
    end_of(Outcome.DONE, "sent 3 bytes").check()


def test_publishers_own_status() -> None:
    """A stream that came to its end, and whose publisher says that something is wrong."""
    end = End(Outcome.DONE, 3)
    with pytest.raises(pipe.PublisherFailed, match="ended with status 3") as caught:
        end.check()
    assert caught.value.exit_status == 3
    assert not end.whole


def test_lost_connection() -> None:
    """Nobody knows about the stream then, whatever outcome stands there."""
    with pytest.raises(pipe.ConnectionLost, match="gone") as caught:
        End(Outcome.CUT, CONNECTION_LOST, "gone", lost=True).check()
    assert caught.value.exit_status == CONNECTION_LOST


@pytest.mark.parametrize("kind", [pipe.ConnectionLost, pipe.LoginRefused])
def test_end_by_a_lost_connection(kind: type[pipe.ConnectionLost]) -> None:
    """It is no server that cannot be had, but a connection, and stays one."""
    end = end_by(kind("gone"))
    assert end.lost
    with pytest.raises(pipe.ConnectionLost, match="gone") as caught:
        end.check()
    assert caught.value.exit_status == CONNECTION_LOST


@pytest.mark.parametrize("end", [*ENDS, end_of(Outcome.DONE, "sent")], ids=str)
def test_json(end: End) -> None:
    """What a server writes is what a client reads."""
    assert end_from_json(end.as_json()) == end


def test_json_of_a_later_version() -> None:
    """An outcome that is not known yet is a fault, with the status that it has."""
    said = {"outcome": "vanished", "status": 80, "message": "it is not there"}
    assert end_from_json(said) == End(Outcome.FAILED, 80, "it is not there")
