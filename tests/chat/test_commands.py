"""What people type."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pipe.chat.commands import Deed, Typed, read
from pipe.chat.completion import MAX_CHOICES, Completion, complete
from pipe.errors import UsageError

PEOPLE = ["alice", "bob", "bob~b", "bobby"]


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("hello", Typed(Deed.SAY, "hello")),
        (" /me", Typed(Deed.SAY, " /me")),
        ("//etc", Typed(Deed.SAY, "/etc")),
        ("/me waves", Typed(Deed.ACT, "waves")),
        ("/ME  waves ", Typed(Deed.ACT, "waves")),
        ("/who", Typed(Deed.WHO, "")),
        ("/nick al", Typed(Deed.NICK, "al")),
        ("/nick", Typed(Deed.NICK, "")),
        ("/color off", Typed(Deed.COLOUR, "off")),
        ("/quit", Typed(Deed.QUIT, "")),
        ("/exit", Typed(Deed.QUIT, "")),
        ("/names", Typed(Deed.WHO, "")),
    ],
)
def test_meaning(line: str, typed: Typed) -> None:
    """A slash makes a command, two do not."""
    assert read(line) == typed


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("/etc/passwd", "there is no command /etc/passwd"),
        ("/", "there is no command /:"),
        ("/me", "needs words"),
        ("/nick a~b", "1 to 16 of"),
        ("/nick ünique", "1 to 16 of"),
        ("/color red", "on or off"),
        ("/quit now", "takes no words"),
    ],
)
def test_mistakes(line: str, part: str) -> None:
    """One line says what is wrong."""
    with pytest.raises(UsageError) as caught:
        read(line)
    assert part in caught.value.message


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("al", "alice: "),
        ("ask al", "ask alice "),
        ("AL", "alice: "),
        ("/he", "/help "),
        ("say /he", None),
        ("bo", "bob"),
        ("x", None),
        ("", None),
    ],
)
def test_completion(typed: str, completed: str | None) -> None:
    """As far as there is one way to go on; a colon follows a name at the beginning."""
    found = complete(typed, len(typed), PEOPLE)

    if completed is None:
        assert not found or found.line == typed
    else:
        assert found == Completion(completed, len(completed))


def test_choices() -> None:
    """Where there are several ways, they are shown, but not all of a crowd."""
    assert complete("bob", 3, PEOPLE) == Completion("bob", 3, ("bob", "bobby", "bob~b"))
    crowd = [f"bob{number}" for number in range(1000)]
    found = complete("bob", 3, crowd)
    assert found
    assert len(found.choices) == MAX_CHOICES


@given(line=st.text(max_size=30), people=st.lists(st.sampled_from(PEOPLE)), data=st.data())
def test_completion_keeps_what_is_typed(line: str, people: list[str], data: st.DataObject) -> None:
    """What stands before the word and behind the cursor stays."""
    position = data.draw(st.integers(0, len(line)))
    found = complete(line, position, people)

    if found:
        start = line.rfind(" ", 0, position) + 1
        assert found.line.startswith(line[:start])
        assert found.line.endswith(line[position:])
        assert start <= found.position <= len(found.line)
