"""The commands that `pub` and `pipe` print: whoever pastes one gets to the topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.commands import invitations
from pipe.language.chat_requests import Chat
from pipe.language.names import parse_topic
from pipe.language.requests import Pipe, Publish, parse
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from tests.sessions import People

MINE = "ssh -p 2222 alice@example.org"
OTHERS = "ssh -p 2222 example.org"


def lines(people: People, user: str, command: str) -> list[str]:
    """What somebody is told who has come with this command."""
    request = parse(command)
    assert isinstance(request, (Publish, Pipe, Chat))
    caller = people.caller(user)
    topic = parse_topic(request.topic or "", caller=user, public=request.public)
    return list(invitations(people.service, caller, request, topic))


async def test_own_topic(people: People) -> None:
    """A topic that is nobody else's has a line for its owner, with the user's name in it."""
    assert lines(people, "alice", "pub news") == [f"subscribe with: {MINE} sub news"]
    assert lines(people, "alice", "pipe room") == [f"join with: {MINE} pipe room"]
    assert lines(people, "alice", "pub alice/ci/web") == [
        f"subscribe with: {MINE} sub alice/ci/web"
    ]


@pytest.mark.parametrize(
    ("grant", "command", "for_others"),
    [
        ("grant news bob --read", "pub news", f"others subscribe with: {OTHERS} sub alice/news"),
        ("grant news bob --write", "pub news", ""),
        ("grant news bob", "pipe news", f"others join with: {OTHERS} pipe alice/news"),
        ("grant news bob --read", "pipe news", ""),
    ],
)
async def test_granted_topic(people: People, grant: str, command: str, for_others: str) -> None:
    """There is a line for others, without a name, if a grant lets them do what it says."""
    await people.run("alice", grant)

    assert lines(people, "alice", command)[1:] == [for_others] * bool(for_others)


async def test_shared_topic(people: People) -> None:
    """A list that a session of the owner's shares with counts as well."""
    people.on("alice", Mode.PUBLISH, "news", "bob")

    assert lines(people, "alice", "pub news")[1:] == [
        f"others subscribe with: {OTHERS} sub alice/news"
    ]


async def test_public_topic(people: People) -> None:
    """A public topic is for all."""
    assert lines(people, "alice", "pipe -p tea") == [
        f"join with: {MINE} pipe public/tea",
        f"others join with: {OTHERS} pipe public/tea",
    ]


async def test_chat(people: People) -> None:
    """A chat is for a terminal, as `ssh` has one only with ``-t``."""
    assert lines(people, "alice", "chat -p tea") == [
        "join with: ssh -t -p 2222 alice@example.org chat public/tea",
        "others join with: ssh -t -p 2222 example.org chat public/tea",
    ]


async def test_topic_of_somebody_else(people: People) -> None:
    """Who may only write into another's topic is not told to read it; its owner may."""
    await people.run("alice", "grant box bob --write")

    assert lines(people, "bob", "pub alice/box") == [
        f"others subscribe with: {OTHERS} sub alice/box"
    ]
