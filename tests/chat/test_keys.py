"""What a terminal sends: keys whole, pastes bounded, whatever comes."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from pipe.chat.keys import MAX_PASTE, MAX_SEQUENCE, Key, Keys, Paste

PIECES = st.lists(
    st.sampled_from(["a", "ü", "\r", "\x03", "\x1b", "\x1b[", "1;5", "C", "\x1b[A", "\x1bOH"])
    | st.sampled_from(["\x1b[200~", "\x1b[201~", "\x1bb", "\n", "0", "~", "\x7f"]),
    max_size=20,
)


def joined(found: list[str | Key | Paste]) -> list[str | Key | Paste]:
    """The same with runs of text in one."""
    whole: list[str | Key | Paste] = []
    for one in found:
        if isinstance(one, str) and whole and isinstance(whole[-1], str):
            whole[-1] += one
        else:
            whole.append(one)
    return whole


@given(pieces=PIECES)
def test_cuts_change_nothing(pieces: list[str]) -> None:
    """However the network cuts what comes, it is the same keys."""
    text = "".join(pieces)
    keys = Keys()
    apart = [one for character in text for one in keys.feed(character)]

    assert joined(apart) == joined(list(Keys().feed(text)))


def test_keys_and_text() -> None:
    """Escape sequences are keys, the rest is text; one that is cut off by a control is none."""
    found = list(Keys().feed("ab\x1b[A\x1b[1;5Cc\x1bb\x1b\x03\x1b[12\x03"))

    assert [one for one in found if isinstance(one, str)] == ["ab", "c", "\x03", "\x03"]
    assert Key("\x1b[1;5C") in found
    assert Key("\x1bb") in found


def test_paste() -> None:
    """What is between the marks is no keys."""
    assert list(Keys().feed("a\x1b[200~x\r\x1b[Ay\x1b[201~b")) == ["a", Paste("x\r\x1b[Ay", 0), "b"]


def test_paste_that_never_ends_is_bounded() -> None:
    """So much is kept, the rest is counted."""
    keys = Keys()
    assert not list(keys.feed("\x1b[200~"))
    for _ in range(100):
        assert not list(keys.feed("x" * MAX_PASTE))

    assert list(keys.feed("\x1b[201~")) == [Paste("x" * MAX_PASTE, 99 * MAX_PASTE)]


def test_sequence_that_never_ends_is_dropped() -> None:
    """It holds up nothing for long."""
    keys = Keys()
    for _ in range(100):
        assert not [one for one in keys.feed("\x1b[" + "1" * 2 * MAX_SEQUENCE) if one == "\x03"]

    assert "\x03" in list(keys.feed("\x03"))
