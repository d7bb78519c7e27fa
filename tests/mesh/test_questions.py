"""Questions and answers of workers that make no sense."""

from __future__ import annotations

import json

import pytest

from pipe.errors import Unreachable
from pipe.language.names import parse_topic
from pipe.mesh.frames import BadFrame
from pipe.mesh.questions import (
    Notice,
    read_dealt,
    read_matter,
    read_notice,
    read_result,
    write_notice,
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
    for read in (read_notice, read_matter):
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
