"""The line that tells of an event, and the topic that it goes to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.events.envelope import Event
from pipe.language.names import TopicName

PUSHED = Event(
    time=1795929360.747,
    repository="alice/alpine",
    tag="latest",
    digest="sha256:41ed",
    by="alice",
    source="registry",
    id="45e43b71",
)


def test_a_line() -> None:
    """An event is one line of JSON, with its fields in a fixed order."""
    assert PUSHED.line() == (
        b'{"time":"2026-11-29T05:16:00.747Z","event":"push","repository":"alice/alpine",'
        b'"tag":"latest","digest":"sha256:41ed","by":"alice","source":"registry",'
        b'"id":"45e43b71"}\n'
    )


@pytest.mark.parametrize(
    ("repository", "tag", "topic"),
    [
        ("alice/alpine", "latest", TopicName("alice", ("alpine:latest",))),
        ("alice/a/b", "v1.2-rc_3", TopicName("alice", ("a", "b:v1.2-rc_3"))),
        ("alice/alpine", "", None),
        ("alpine", "latest", None),
        ("Alice/alpine", "latest", None),
        ("alice/alpine", "x" * 64, None),
        ("alice/*", "latest", None),
        ("", "latest", None),
    ],
)
def test_a_topic(repository: str, tag: str, topic: TopicName | None) -> None:
    """The topic is the repository's name and the tag; what cannot be one is none."""
    assert Event(time=0, repository=repository, tag=tag).topic == topic


@given(st.text(), st.text(), st.text())
def test_any_text(repository: str, tag: str, by: str) -> None:
    """Whatever a stranger writes, it is one line of printable ASCII that says exactly that."""
    line = Event(time=0, repository=repository, tag=tag, by=by).line()
    assert line.endswith(b"\n")
    assert line[:-1].decode("ascii").isprintable()
    fields = json.loads(line)
    assert (fields["repository"], fields["tag"], fields["by"]) == (repository, tag, by)
