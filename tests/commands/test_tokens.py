"""``tokens``, ``tokens add``, ``tokens rm``: what they say, and what they change."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from pipe.commands.layout import WIDTH
from pipe.errors import AccessDenied, Outcome, PipeError, StoreError, UsageError
from pipe.rights.access import WITHDRAWN_TEXT
from pipe.rights.callers import Caller
from pipe.rights.scopes import Reach, Right, Scope
from pipe.stream.ports import Mode
from tests.sessions import Session, fingerprint

if TYPE_CHECKING:
    from tests.sessions import People

SECONDS_PER_DAY = 86_400.0


async def listed(people: People, user: str = "alice") -> list[dict[str, object]]:
    """What programs are told of a user's tokens."""
    text = await people.run(user, "tokens --json")
    return [json.loads(line) for line in text.splitlines()]


async def test_add_prints_the_token_alone(people: People) -> None:
    """The token is all that is on stdout, and lets in as it says; stderr says how to end it."""
    text = await people.run("alice", "tokens add --read 'build,ci-*' --write bob/x --name ci")
    token = text.removesuffix("\n")
    assert token.startswith("ptk_")
    assert "\n" not in token
    [line] = people.said
    assert "only time that it is shown" in line
    caller = await people.service.tokens.admit(token, "192.0.2.1")

    assert f"'tokens rm {caller.token}' ends it sooner" in line
    assert caller.scope == Scope(
        Reach.parse(["build", "ci-*"], owner="alice"), Reach.parse(["bob/x"], owner="alice")
    )
    assert caller.until == pytest.approx(time.time() + 90 * SECONDS_PER_DAY, abs=60)
    assert not caller.admin


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("tokens add", UsageError, "could do nothing: say what with --read, --write and --logs"),
        ("tokens add --name x", UsageError, "could do nothing"),
        ("tokens add --admin", UsageError, "could do nothing"),
        ("tokens add --read a//b", UsageError, "flag --read: pattern"),
        ("tokens add --read x --write Bob/x", UsageError, "flag --write: the first segment"),
        (f"tokens add --read {','.join(f'a{n}*' for n in range(17))}", UsageError, "at most 16"),
        ("tokens add --read x --admin", AccessDenied, "you are no admin; leave out --admin"),
        ("tokens rm abc", StoreError, "at least 4 characters"),
        ("tokens rm abcdef", StoreError, "no token begins with 'abcdef'; 'tokens' lists them"),
    ],
)
async def test_what_cannot_be(
    people: People, command: str, error: type[PipeError], message: str
) -> None:
    """What has no right, no sense or no place is refused in a line, and nothing is made."""
    command = command.replace("a//b", "'a//b*'")
    with pytest.raises(error, match=message) as caught:
        await people.run("alice", command)
    assert caught.value.message.isprintable()
    assert await listed(people) == []


async def test_admins_token(people: People) -> None:
    """An admin's token has an admin's rights only where that is said."""
    texts = [
        await people.run("boss", f"tokens add --read alice/x{flag}", admin=True)
        for flag in ("", " --admin")
    ]
    callers = [await people.service.tokens.admit(one.strip(), "192.0.2.1") for one in texts]
    assert [caller.admin for caller in callers] == [False, True]


async def test_list(people: People) -> None:
    """Tokens, links and logins are told with all that there is to tell, and fit a terminal."""
    token = await people.run("alice", "tokens add --read 'ci-*' --write build --name 'a \\ b'")
    link = await people.run("alice", "link build --write -n 3")
    code = (await people.run("alice", "login")).strip().rpartition("/")[2]
    await people.run("bob", "tokens add --read x")
    assert len(await listed(people)) == 2  # no code
    await people.service.tokens.redeem(code, "192.0.2.1")
    caller = await people.service.tokens.admit(token.strip(), "192.0.2.7")
    text = await people.run("alice", "tokens")
    facts = {str(one["kind"]): one for one in await listed(people)}

    assert link
    assert max(map(len, text.splitlines())) <= WIDTH
    assert r"a \\ b" in text
    assert "read alice/ci-*, write alice/build" in text
    assert "write alice/build, 3 more times" in text
    assert "do all that you may, but change keys" in text
    assert "192.0.2.7" in text
    assert facts["token"] == {
        "id": caller.token,
        "kind": "token",
        "name": "a \\ b",
        "read": ["alice/ci-*"],
        "write": ["alice/build"],
        "registry": False,
        "logs": False,
        "admin": False,
        "created": pytest.approx(time.time(), abs=60),
        "until": caller.until,
        "used": pytest.approx(time.time(), abs=60),
        "used_from": "192.0.2.7",
        "uses_left": None,
        "key": fingerprint("alice"),
        "current": False,
    }
    assert (facts["login"]["read"], facts["login"]["write"]) == (None, None)
    assert (facts["link"]["uses_left"], facts["link"]["write"]) == (3, ["alice/build"])


async def test_a_token_for_the_registry(people: People) -> None:
    """It says which images, and that it is for them."""
    with pytest.raises(UsageError, match="say which images"):
        await people.run("alice", "tokens add --registry")
    token = await people.run("alice", "tokens add --registry --read 'app*'")
    caller = await people.service.tokens.admit(token.strip(), "192.0.2.7")
    assert caller.scope
    assert caller.scope.rights == {Right.REGISTRY}
    assert [one["registry"] for one in await listed(people)] == [True]
    assert "read alice/app*, images too" in await people.run("alice", "tokens")


async def test_empty_list_says_how_to_make_one(people: People) -> None:
    """Without any there is a command to paste, and nothing for programs."""
    text = await people.run("alice", "tokens")
    assert text == ("no tokens; make one: ssh -p 2222 alice@example.org tokens add --read TOPIC\n")
    assert await people.run("alice", "tokens --json") == ""


async def test_rm_ends_sessions(people: People) -> None:
    """A token is removed by the start of its ID, and the sessions that it let in end."""
    token = await people.run("alice", "tokens add --read build")
    caller = await people.service.tokens.admit(token.strip(), "192.0.2.1")
    session = Session(people.service, caller)
    session.join(Mode.SUBSCRIBE, "build")
    text = await people.run("alice", f"tokens rm {caller.token[:6]}")

    assert text.startswith(f"removed token {caller.token}\n")
    assert session.ended == (Outcome.DENIED, WITHDRAWN_TEXT)
    assert await listed(people) == []


async def test_rm_is_for_own_tokens(people: People) -> None:
    """Another's token is not there, not even for an admin."""
    await people.run("alice", "tokens add --read build")
    [token] = await listed(people)
    for user in ("bob", "boss"):
        with pytest.raises(StoreError, match="no token begins"):
            await people.run(user, f"tokens rm {token['id']}", admin=user == "boss")
    assert len(await listed(people)) == 1


@pytest.mark.parametrize(
    "command",
    [
        *("tokens", "tokens add --read build", "tokens rm aaaa", "login", "link build"),
        *("grants", "grant build bob", "revoke build bob"),
        *("keys", "keys add", f"keys rm {fingerprint('alice')}"),
    ],
)
async def test_token_sees_and_changes_no_account(people: People, command: str) -> None:
    """Who came with a scope is refused all that is about the account, and nothing has changed."""
    text = await people.run("alice", "tokens add --read '**' --write '**'")
    caller = await people.service.tokens.admit(text.strip(), "192.0.2.1")
    before = await listed(people)
    with pytest.raises(AccessDenied, match="a token is for topics"):
        await people.run("alice", command, caller=caller)
    assert await listed(people) == before


async def test_token_sees_what_it_reaches(people: People) -> None:
    """`ls` and `explain` show a token nothing beyond its scope, also in its user's own space."""
    for name in ("build", "secret"):
        people.on("alice", Mode.SUBSCRIBE, name)
    await people.run("alice", "grant secret bob")
    text = await people.run("alice", "tokens add --read build")
    caller = await people.service.tokens.admit(text.strip(), "192.0.2.1")

    async def ask(command: str) -> str:
        return await people.run("alice", command, caller=caller)

    for command in ("ls", "ls '**'", "ls --json"):
        assert "build" in await ask(command)
        assert "secret" not in await ask(command)
    assert "your token does not reach it" in await ask("explain secret")
    assert "bob" not in await ask("explain secret")
    assert "members" not in await ask("explain secret")
    assert set(json.loads(await ask("explain secret --json"))) == {"topic", "read", "write"}
    assert "no: your token does not reach it" in await ask("explain build")  # to write
    assert "1 subscriber" in await ask("explain build")


async def test_browser_does_all_but_keys(people: People) -> None:
    """Who is logged in with a browser shares topics and makes tokens, and touches no key."""
    code = (await people.run("alice", "login --for 1h")).strip().rpartition("/")[2]
    cookie, _ = await people.service.tokens.redeem(code, "192.0.2.1")
    caller = await people.service.tokens.admit_session(cookie, "192.0.2.1")
    for command in ("grant build bob", "link build", "tokens add --read build --for 90d", "keys"):
        await people.run("alice", command, caller=caller)
    for command in ("keys add", f"keys rm --force {fingerprint('alice')}"):
        with pytest.raises(AccessDenied, match="over SSH only"):
            await people.run("alice", command, caller=caller)

    for one in await listed(people):
        until = one["until"]
        assert isinstance(until, float)
        assert until <= (caller.until or 0.0)  # nothing outlives its login


async def test_whoami_tells_of_the_token(people: People) -> None:
    """Its ID, name, scope and end are there, for people and for programs, and nothing without."""
    text = await people.run("alice", "tokens add --read 'ci-*' --name 'my laptop' --for 7d")
    caller = await people.service.tokens.admit(text.strip(), "192.0.2.1")
    told = await people.run("alice", "whoami", caller=caller)
    assert f'{caller.token} "my laptop", until ' in told
    assert "read alice/ci-*" in told
    assert json.loads(await people.run("alice", "whoami --json", caller=caller))["token"] == {
        "id": caller.token,
        "name": "my laptop",
        "until": caller.until,
        "read": ["alice/ci-*"],
        "write": [],
        "admin": False,
    }
    assert "token" not in await people.run("alice", "whoami")
    assert json.loads(await people.run("alice", "whoami --json"))["token"] is None


async def test_what_a_file_let_in_makes_ends_with_it(people: People) -> None:
    """A login that ends makes tokens that end with it, and says when that is."""
    end = time.time() + 600.0
    lent = Caller("alice", fingerprint("alice"), lent=True, until=end, backing="file")
    await people.run("alice", "tokens add --read build --for 90d", caller=lent)
    [token] = await listed(people)
    assert token["until"] == end
