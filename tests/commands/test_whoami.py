"""``whoami``, ``version`` and ``help``: what they need no topic for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pipe import __version__
from tests.sessions import fingerprint

if TYPE_CHECKING:
    from tests.sessions import People


async def test_whoami(people: People) -> None:
    """The user, the key and the address are there, for people and for programs."""
    text = await people.run("alice", "whoami")
    facts = json.loads(await people.run("alice", "whoami --json"))

    for fact in ("alice", fingerprint("alice"), "alice.example:40000"):
        assert fact in text
        assert fact in facts.values()


async def test_version(people: People) -> None:
    """It is the one that is installed."""
    assert await people.run("alice", "version") == f"pipe {__version__}\n"


async def test_help_names_this_server(people: People) -> None:
    """Help says how to reach this very server, and the parts of a command are found from it."""
    text = await people.run("alice", "help keys")

    assert text.startswith("usage: ssh -p 2222 example.org keys [FLAGS]\n")
    assert "\nsee also, each with -h:\n  keys add" in text
