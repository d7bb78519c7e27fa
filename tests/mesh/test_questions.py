"""Questions and answers of workers that make no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipe.errors import Unreachable
from pipe.language.names import parse_topic
from pipe.mesh.frames import BadFrame
from pipe.mesh.questions import (
    Notice,
    look_at_streams,
    read_dealt,
    read_matter,
    read_notice,
    read_result,
    read_streams,
    write_notice,
    write_streams,
)

TOPIC = parse_topic("bob/build", caller="")


def notice(**fields: object) -> str:
    """One with some other fields."""
    return json.dumps({**json.loads(write_notice(Notice(TOPIC, b"data", 1.5))), **fields})


def test_a_notice_comes_back_as_it_was() -> None:
    """With its bytes, and how long it waits."""
    assert read_notice(notice()) == Notice(TOPIC, b"data", 1.5)


@pytest.mark.parametrize("question", ["", "7", "[]", '"data"', "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_question(question: str) -> None:
    """It is refused as such, however deep it is."""
    for read in (read_notice, read_matter, read_streams):
        with pytest.raises(BadFrame):
            read(question)


@pytest.mark.parametrize(
    "question",
    [
        notice(topic=7),
        notice(topic="bob/*"),
        notice(data=7),
        notice(data="ZGF0Y"),
        notice(hold="long"),
        notice(hold=-1),
        notice(hold=float("nan")),
        notice(hold=float("inf")),
        notice(hold=10**400),
    ],
)
def test_what_is_no_notice(question: str) -> None:
    """Nothing is published that cannot be, nor waits for a time that is none."""
    with pytest.raises(BadFrame):
        read_notice(question)


@pytest.mark.parametrize("matter", ["OwnLines", "Sighting", "os.system", 7, [], {}])
def test_what_is_no_matter(matter: object) -> None:
    """Only what is known is dealt with."""
    with pytest.raises(BadFrame):
        read_matter(json.dumps({"matter": matter, "facts": [7]}))


@pytest.mark.parametrize("answer", ["", "7", "[]", "[true]", '[true, "many"]', "[" * 100_000])
def test_answers_that_make_no_sense(answer: str) -> None:
    """Who has asked is told so, as if nobody had answered."""
    with pytest.raises(Unreachable):
        read_result(answer)
    with pytest.raises(Unreachable):
        read_dealt(answer)


class End:
    """A link to a worker that answers everything with one text."""

    numbers = (1, 2)

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self.told: list[tuple[int, int | None]] = []

    def ask(self, question: str, answered: Any) -> Any:  # noqa: ANN401
        """Answer at once."""
        assert read_streams(question) == [1, 2]
        answered(self._answer)
        return lambda: None

    def stream_moved(self, number: int, count: int | None) -> None:
        """Keep it."""
        self.told.append((number, count))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("[[1, 70], [2, null]]", [(1, 70), (2, None)]),
        ("7", []),
        ('[[1, "many"]]', []),
        ("[" * 100_000, []),
    ],
)
async def test_how_streams_move(answer: str, told: list[tuple[int, int | None]]) -> None:
    """A server that stops learns it, and is not stopped itself by what makes no sense."""
    end: Any = End(answer)
    await look_at_streams(end)
    assert end.told == told


@pytest.mark.parametrize("numbers", ["one", {"1": 2}, [1, "x"], [None]])
def test_what_is_no_list_of_sessions(numbers: Any) -> None:  # noqa: ANN401
    """It is refused, and nothing is answered."""
    with pytest.raises(BadFrame):
        read_streams(write_streams(numbers))
