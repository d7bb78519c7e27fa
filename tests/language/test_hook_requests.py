"""The commands about hooks: their forms, and one line for every mistake."""

from __future__ import annotations

import pytest

from pipe.errors import UsageError
from pipe.language.hook_requests import (
    AddHook,
    HookKind,
    ListHooks,
    RemoveHook,
    RotateHook,
    TestHook,
)
from pipe.language.requests import Request, parse


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("hooks", ListHooks()),
        ("hooks --json", ListHooks(json=True)),
        ("hooks add x", AddHook("x")),
        ("hooks add alice/ --kind quay", AddHook("alice/", HookKind.QUAY)),
        (
            "hooks add x --kind standard --hold 1d --name 'my shop'",
            AddHook("x", HookKind.STANDARD, 86_400.0, "my shop"),
        ),
        ("hooks rm abcd", RemoveHook("abcd")),
        ("hooks rotate abcd", RotateHook("abcd")),
        ("hooks test abcd", TestHook("abcd")),
    ],
)
def test_forms(command: str, request_: Request) -> None:
    """Each command is read as it is meant."""
    assert parse(command) == request_


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "hooks list",
            "unknown command 'hooks list': there are hooks, hooks add, hooks rm, hooks rotate, "
            "hooks test; 'ssh HOST hooks -h' says more",
        ),
        ("hooks add", "hooks add needs a TOPIC; 'ssh HOST hooks add -h' says more"),
        ("hooks rm", "hooks rm needs an ID; 'ssh HOST hooks rm -h' says more"),
        (
            "hooks add x --hold 25h",
            "flag --hold has the value '25h': an event waits for 1d at most",
        ),
        (
            "hooks add x --kind svn",
            "flag --kind has the value 'svn': it takes distribution, github, forgejo, gitlab, "
            "harbor, dockerhub, quay, standard or generic",
        ),
        (
            "hooks add alice/",
            "a hook of kind generic needs a topic: in a space, images name it",
        ),
        (
            "hooks add alice/ --kind gitlab",
            "a hook of kind gitlab needs a topic: in a space, images name it",
        ),
    ],
)
def test_mistakes(command: str, message: str) -> None:
    """A mistake is told in one line that says how to mend it."""
    with pytest.raises(UsageError) as caught:
        parse(command)
    assert caught.value.message == message
