"""Errands as bytes: each request comes back as it was, and nothing else comes in."""

from __future__ import annotations

import json

import pytest

from pipe.elsewhere import Errand, Gone, Size
from pipe.errors import Outcome, UsageError
from pipe.language.log_requests import Logs
from pipe.language.requests import parse
from pipe.limits.quotas import Holder, Scope
from pipe.mesh.errands import (
    read_errand,
    read_gone,
    read_size,
    write_errand,
    write_gone,
    write_size,
)
from pipe.mesh.frames import BadFrame
from pipe.rights.callers import Caller
from pipe.rights.scopes import Reach, Right
from pipe.rights.scopes import Scope as TokenScope

SCOPE = TokenScope(
    Reach.parse(["build", "ci-*", "**"], owner="bob"),
    Reach.parse(["public/news"], owner="bob"),
    frozenset({Right.LOGS}),
)

COMMANDS = (
    "pub -m 3 -x 7 --keep 1MiB -a bob,@users build",
    "pub -d round_robin --frame nul --hold 1m --at 7 -v --size 3GiB",
    "sub --last 100l build",
    "sub --from 7 --stream abc -s drop -k 'ci-*'",
    "pipe -r -p chat",
    "logs -f=false -n 3 --level warn --grep 'no such'",
    "stat -f build",
    "offset build",
    "explain build",
    "monitors",
    "hooks",
    "webhooks",
)


def errand(command: str) -> Errand:
    """An errand of bob's, with everything that there may be."""
    caller = Caller(
        "bob", "SHA256:bob", admin=True, lent=True, scope=SCOPE, until=17.5, backing="file",
        token="t1", token_name="ci",
    )  # fmt: skip
    holders = (Holder(Scope.USER, "bob"), Holder(Scope.ADDRESS, "192.0.2.1"))
    client = {"client": "OpenSSH", "lane": "fast"}
    size = Size(80, 24, colours=False)
    return Errand(parse(command), caller, "192.0.2.1:7", holders, ("hint",), size, "\r\n", client)


@pytest.mark.parametrize("command", COMMANDS)
def test_comes_back_as_it_was(command: str) -> None:
    """Requests, callers with their scope, holders and the rest come back the same."""
    sent = errand(command)
    got = read_errand(memoryview(write_errand(sent)))
    assert got == sent
    for name in ("lent", "until", "backing", "token_name"):
        assert getattr(got.caller, name) == getattr(sent.caller, name)


def test_a_login_gets_a_number_of_its_own() -> None:
    """The number of a login counts those of one process, so it does not travel."""
    sent = errand("pub build")
    assert read_errand(memoryview(write_errand(sent))).caller.login > sent.caller.login


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("command", "os.system"),
        ("request", {"topic": 7}),
        ("request", {"whole": True, "block": False}),
        ("caller", {"user": "bob"}),
        ("holders", [["of everybody", "bob"]]),
        ("screen", ["wide"]),
    ],
)
def test_refuses_what_it_does_not_know(name: str, value: object) -> None:
    """Unknown commands, other types and flags that contradict each other do not come in."""
    data = json.loads(write_errand(errand("pub build")))
    data[name] = value
    with pytest.raises(BadFrame):
        read_errand(memoryview(json.dumps(data).encode()))


def test_text_that_is_no_text() -> None:
    """A command that cannot be written down is refused with a reason, and breaks no link."""
    sent = errand("logs")
    broken = Errand(
        Logs(grep="\udcff"), sent.caller, sent.address, sent.holders, (), None, "\n", sent.client
    )
    with pytest.raises(UsageError, match="UTF-8"):
        write_errand(broken)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_departures(outcome: Outcome) -> None:
    """How a client went comes back the same."""
    gone = Gone(outcome, "reset", confirmed=True, lost=False, complete=True)
    assert read_gone(memoryview(write_gone(gone))) == gone


def test_sizes() -> None:
    """A terminal's size comes back the same, and nothing else does."""
    assert read_size(memoryview(write_size(Size(132, 43)))) == Size(132, 43)
    with pytest.raises(BadFrame):
        read_size(memoryview(b"[1]"))
