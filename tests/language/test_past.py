"""Flags about a topic's past."""

from __future__ import annotations

import re

import pytest

from pipe.errors import UsageError
from pipe.language.past import Last
from pipe.language.requests import Help, Publish, Subscribe, help_text, parse


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("sub --last 64KiB x", Subscribe("x", last=Last(65536))),
        ("sub --last 100l x", Subscribe("x", last=Last(100, lines=True))),
        ("sub --from 12 --stream 0aB x", Subscribe("x", offset=12, stream="0aB")),
        ("pub --keep 1MiB --linger 1h x", Publish("x", keep=1 << 20, linger=3600.0)),
    ],
)
def test_reads(command: str, request_: object) -> None:
    """Sizes, lines, bytes and times."""
    assert parse(command) == request_


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sub --last 10001l x", "it takes a size such as 64KiB, or lines: 0l to 10000l"),
        ("sub --last l x", "it takes a size such as 64KiB, or lines: 0l to 10000l"),
        ("sub --from -1 x", "it takes the number of a byte, counted from 0"),
        ("sub --from 1KiB x", "it takes the number of a byte, counted from 0"),
        ("sub --from 1 --stream a/b x", "this is not a stream's identifier"),
        ("sub --stream ab x", "add --from OFFSET"),
        ("sub --last 1 --from 1 x", "choose one"),
        ("sub --whole --from 1 x", "--whole begins with the first byte"),
        ("pub --linger 1h x", "add --keep SIZE"),
        ("pub --keep 1 --linger 25h x", "at most 1d"),
        ("pub --keep 1 --whole x", "--whole refuses them"),
        ("pub --keep 1 -d round_robin x", "leave out --keep"),
        ("pipe --keep 1 -d round_robin x", "leave out --keep"),
    ],
)
def test_refuses(command: str, message: str) -> None:
    """What contradicts itself or cannot be read, in one line that says how to mend it."""
    with pytest.raises(UsageError, match=message):
        parse(command)


def test_help_for_lost_connections() -> None:
    """It is a program for a shell, which reaches the server as the user does."""
    assert parse("help resume") == Help("resume")
    text = help_text("resume", "ssh -p 2222 alice@example.org")
    assert "#     ssh -p 2222 alice@example.org help resume > resume.sh\n" in text
    alive = "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"
    assert f'    ssh {alive} -p 2222 alice@example.org "$@"\n' in text
    assert not re.search(r"@\w+@", text)
