"""``logs``: whose lines a caller may see, and how many."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from pipe.commands.logs import follow_logs, show_logs
from pipe.errors import AccessDenied, UsageError
from pipe.events.logs.followers import MAX_QUEUE_BYTES
from pipe.language.log_requests import Level, Logs
from pipe.language.requests import parse
from pipe.rights.scopes import Reach, Right, Scope

if TYPE_CHECKING:
    from pipe.rights.callers import Caller
    from tests.sessions import People


def asked(text: str) -> Logs:
    """What a command asks for."""
    request = parse(text)
    assert isinstance(request, Logs)
    return request


def shown(people: People, caller: Caller, text: str) -> list[str]:
    """What the past lines say."""
    answer = show_logs(people.service, caller, asked(f"{text} -f=false"))
    assert isinstance(answer, str)
    return [json.loads(line)["msg"] for line in answer.splitlines()]


@pytest.fixture(name="people")
async def told(people: People) -> People:
    """People about whom there is something to tell."""
    for number in range(12):
        people.service.tell_owner("alice", "INFO", f"a{number}")
    people.service.tell_owner("bob", "WARN", "b")
    return people


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("logs", Logs()),
        ("logs -f=false -n 3", Logs(follow=False, lines=3)),
        ("logs --level warning", Logs(level=Level.WARN)),
        ("logs --level ERROR --service web", Logs(level=Level.ERROR, service="web")),
        ("logs --grep 'a b' --since 1h", Logs(grep="a b", since=3600.0)),
        ("logs --all", Logs(everybody=True)),
        ("logs --user bob", Logs(user="bob")),
    ],
)
def test_request(text: str, request_: Logs) -> None:
    """The flags are those of docs/events.md."""
    assert asked(text) == request_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logs x", "logs takes no argument"),
        ("logs -n 201", "from 0 to 200"),
        ("logs --level loud", "debug, info, warn or error"),
        ("logs --grep ''", "1 to 256 characters"),
        ("logs --since soon", "duration"),
        ("logs --user Bob", "user name"),
        ("logs --all --user bob", "leave out --user"),
    ],
)
def test_slips(text: str, message: str) -> None:
    """A slip is refused with a line that says how to mend it."""
    with pytest.raises(UsageError, match=message):
        parse(text)


async def test_how_many(people: People) -> None:
    """Ten lines come first, unless a number or a time is asked for."""
    alice = people.caller("alice")
    everything = [f"a{number}" for number in range(12)]
    assert shown(people, alice, "logs") == everything[2:]
    assert shown(people, alice, "logs -n 1") == ["a11"]
    assert shown(people, alice, "logs -n 0") == []
    assert shown(people, alice, "logs --since 1h") == everything
    assert shown(people, alice, "logs --since 1h -n 2") == everything[10:]
    assert shown(people, alice, "logs --grep a1") == ["a1", "a10", "a11"]
    assert shown(people, alice, "logs --service pipe --level warn") == []


async def test_users_see_their_own(people: People) -> None:
    """Who is no admin sees the own lines and no others."""
    alice = people.caller("alice")
    assert shown(people, alice, "logs --user alice -n 1") == ["a11"]
    for text in ("logs --all", "logs --user bob", "logs -f=false --all"):
        with pytest.raises(AccessDenied, match="only admins"):
            show_logs(people.service, alice, asked(text))


async def test_admins_see_all(people: People) -> None:
    """An admin sees the own lines, somebody's or everybody's."""
    boss = people.caller("boss", admin=True)
    assert shown(people, boss, "logs") == []
    assert shown(people, boss, "logs --user bob") == ["b"]
    assert shown(people, boss, "logs --all -n 2") == ["a11", "b"]


async def test_tokens_need_the_right(people: People) -> None:
    """A token that is not for logs shows none; one that is shows those of its user."""
    alice = people.caller("alice")
    reader = dataclasses.replace(alice, scope=Scope(reads=Reach.parse(["**"], owner="alice")))
    with pytest.raises(AccessDenied, match="tokens add --logs"):
        show_logs(people.service, reader, asked("logs"))
    logger = dataclasses.replace(alice, scope=Scope(rights=frozenset({Right.LOGS})))
    assert shown(people, logger, "logs -n 1") == ["a11"]
    with pytest.raises(AccessDenied, match="only admins"):
        show_logs(people.service, logger, asked("logs --all"))


async def test_the_right_is_given(people: People) -> None:
    """``tokens add --logs`` makes such a token, and the list says so."""
    text = await people.run("alice", "tokens add --logs")
    caller = await people.service.tokens.admit(text.strip(), "192.0.2.1")
    assert shown(people, caller, "logs -n 1") == ["a11"]
    assert "use logs" in await people.run("alice", "tokens")
    [row] = map(json.loads, (await people.run("alice", "tokens --json")).splitlines())
    assert row["logs"] is True


async def test_follower_begins_with_the_past(people: People) -> None:
    """Who follows gets the lines of late, then those to come, and none twice."""
    follower = follow_logs(people.service, people.caller("alice"), asked("logs -n 2"))
    follower.wake()  # there is no loop to do it
    lines = follower.take(MAX_QUEUE_BYTES).splitlines()
    assert [json.loads(line)["msg"] for line in lines] == ["a10", "a11"]
    follower.close()


async def test_who_is_removed_leaves_no_lines(people: People) -> None:
    """With an account its lines go."""
    await people.service.store.remove_user("alice")
    await people.service.guard.catch_up()
    assert shown(people, people.caller("alice"), "logs") == []
    assert shown(people, people.caller("bob"), "logs") == ["b"]
