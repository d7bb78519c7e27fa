"""``link``: an address for those without an account, on one topic and in one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import segno

from pipe.errors import AccessDenied, PipeError, TokenRefused, UsageError
from pipe.language.names import TopicName
from pipe.rights.grants import Operation

if TYPE_CHECKING:
    from tests.sessions import People

BUILD = TopicName("alice", ("build",))


@pytest.mark.parametrize(
    ("flag", "operation"), [("", Operation.READ), (" --write", Operation.WRITE)]
)
async def test_link_is_for_one_thing(people: People, flag: str, operation: Operation) -> None:
    """It lets in as its maker, and reaches this topic in this direction and nothing else."""
    text = await people.run("alice", f"link build{flag} --for 1h")
    url, secret = text.removesuffix("\n").rsplit("/", 1)
    assert url == "http://127.0.0.1:8222/l"
    [line] = people.said
    assert f"may {operation} alice/build, 1 time, until " in line
    caller = await people.service.tokens.admit_link(secret, "192.0.2.1")
    assert f"'tokens rm {caller.token}'" in line
    access = people.service.access
    for topic in (BUILD, TopicName("alice", ("build2",)), TopicName("public", ("build",))):
        for one in Operation.BOTH:
            allowed = topic == BUILD and one == operation
            assert access.decide(caller, topic, one).allowed is allowed
    with pytest.raises(TokenRefused):
        await people.service.tokens.admit_link(secret, "192.0.2.1")


@pytest.mark.parametrize(
    ("user", "command", "error", "message"),
    [
        ("alice", "link bob/build", AccessDenied, "only bob can make a link to bob/build"),
        ("boss", "link bob/build", AccessDenied, "only bob can make a link to bob/build"),
        ("alice", "link public/build", UsageError, "is every user's"),
        ("alice", "link 'b*'", UsageError, "patterns work only with sub and ls"),
        ("alice", "link a//b", UsageError, "empty segment"),
    ],
)
async def test_what_cannot_be(
    people: People, user: str, command: str, error: type[PipeError], message: str
) -> None:
    """A link leads to a topic of the caller's own; also where another is shared with the caller."""
    await people.run("bob", "grant build alice")
    with pytest.raises(error, match=message):
        await people.run(user, command, admin=user == "boss")
    assert await people.service.store.tokens.list_tokens() == ()


async def test_picture(people: People) -> None:
    """With --qr the address is followed by its QR code, whose squares are those of the address."""
    first, *lines = (await people.run("alice", "link build --qr")).splitlines()
    rows = []
    for line in lines:
        rows.append([one in "█▀" for one in line])
        rows.append([one in "█▄" for one in line])
    size = len(rows[0])
    matrix = segno.make_qr(first, error="m").matrix

    assert {len(row) for row in rows} == {size}
    assert size == len(matrix) + 4
    drawn = [[not light for light in row[2:-2]] for row in rows[2 : 2 + len(matrix)]]
    assert drawn == [[bool(dark) for dark in row] for row in matrix]
    assert all(rows[0]) and all(rows[1])  # noqa: PT018 - the light edge above
    assert all(row[0] and row[1] and row[-1] for row in rows[: len(matrix) + 4])
    assert max(map(len, lines)) <= 60
