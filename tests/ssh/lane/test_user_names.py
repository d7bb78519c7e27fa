"""User names, prepared without looking at tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asyncssh.saslprep import SASLPrepError, saslprep
from hypothesis import given
from hypothesis import strategies as st

from pipe.ssh.lane import user_names

if TYPE_CHECKING:
    from collections.abc import Callable


def outcome(prepare: Callable[[str], str], name: str) -> str | None:
    """The prepared name, or None if it may not be one."""
    try:
        return prepare(name)
    except SASLPrepError:
        return None


@given(st.text() | st.text(st.characters(max_codepoint=0x7F)))
def test_same_as_asyncssh(name: str) -> None:
    """Every name comes out as asyncssh prepares it, or is refused as it refuses it."""
    assert outcome(user_names.prepare, name) == outcome(saslprep, name)


@pytest.mark.parametrize("code", range(0x80))
def test_each_character_of_ascii(code: int) -> None:
    """No character of ASCII is an exception."""
    name = f"a{chr(code)}"
    assert outcome(user_names.prepare, name) == outcome(saslprep, name)


def test_plain_names_need_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of printable ASCII is not given to asyncssh's function."""
    monkeypatch.setattr(user_names, "saslprep", None)
    assert user_names.prepare("alice.b-c_d 1") == "alice.b-c_d 1"
