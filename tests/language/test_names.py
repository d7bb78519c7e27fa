"""Names: one rule for whose a name is, a closed alphabet, linear patterns, safe printing."""

from __future__ import annotations

import string
import unicodedata
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import BadName
from pipe.language.names import (
    MAX_NAME_LENGTH,
    RESERVED_USERS,
    Pattern,
    TopicName,
    escape,
    is_pattern,
    parse_pattern,
    parse_topic,
    parse_user,
    quoted,
    random_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

USERS = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True).filter(
    lambda user: user not in RESERVED_USERS
)
SEGMENT_ALPHABET = string.ascii_letters + string.digits + "._:@+-"
SEGMENTS = st.text(SEGMENT_ALPHABET, min_size=1, max_size=24).filter(
    lambda segment: segment not in {".", ".."}
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=8).map(tuple)
TOPICS = st.builds(TopicName, USERS | st.just("public"), PATHS).filter(
    lambda topic: len(str(topic)) <= MAX_NAME_LENGTH
)
NEAR_NAMES = st.text("ab./*%-\x00\u00e9\udc80", max_size=300)


def result_of(call: Callable[[], T]) -> T | BadName:
    """Call a parser and return the BadName that it raises, if it does."""
    try:
        return call()
    except BadName as error:
        return error


def reference_glob(pattern: str, text: str) -> bool:
    """Match one segment by trying everything: obviously right, and exponential."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(reference_glob(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return text[:1] == pattern[0] and reference_glob(pattern[1:], text[1:])


def reference_matches(pattern: tuple[str, ...], topic: tuple[str, ...]) -> bool:
    """Match whole names, owner first, segment by segment."""
    if pattern == ("**",):
        return len(topic) >= 1
    if not pattern or not topic:
        return pattern == topic
    return reference_glob(pattern[0], topic[0]) and reference_matches(pattern[1:], topic[1:])


class CountingText(str):
    """A segment that counts how many of its characters a search has gone through."""

    __slots__ = ("searched",)
    searched: int

    def find(self, *arguments: object) -> int:
        """Search as str does, and add what lies between the start and the end of the find."""
        piece, start, end = arguments
        assert isinstance(piece, str)
        assert isinstance(start, int)
        assert isinstance(end, int)
        found = super().find(piece, start, end)
        self.searched = getattr(self, "searched", 0)
        self.searched += (end if found < 0 else found + len(piece)) - start
        return found


@given(USERS)
def test_user_grammar_is_accepted(user: str) -> None:
    """Every name of the grammar that is not reserved is a user name, as text and as bytes."""
    assert parse_user(user) == parse_user(user.encode()) == user


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("", "empty"),
        ("Bob", "has 'B' in it"),
        ("1bob", "start with a letter"),
        ("-bob", "start with a letter"),
        ("bob smith", "has ' ' in it"),
        ("b.b", "has '.' in it"),
        ("bob\n", r"has '\\x0a' in it"),
        ("bob\x00", "NUL"),
        (b"\xff", "not valid UTF-8"),
        ("\udcff", "not valid UTF-8"),
        ("b\u00f6b", "has '\u00f6' in it"),
        ("b" * 33, "33 bytes: at most 32"),
        *((user, "reserved") for user in sorted(RESERVED_USERS)),
    ],
)
def test_bad_users_are_refused(raw: str | bytes, complaint: str) -> None:
    """What is outside the grammar or reserved is refused with the reason."""
    with pytest.raises(BadName, match=complaint):
        parse_user(raw)


@pytest.mark.parametrize(
    ("raw", "public", "name"),
    [
        ("build", False, TopicName("alice", ("build",))),
        ("alice/build", False, TopicName("alice", ("build",))),
        ("bob/build", False, TopicName("bob", ("build",))),
        ("bob/a/b", False, TopicName("bob", ("a", "b"))),
        ("public/build", False, TopicName("public", ("build",))),
        ("public", False, TopicName("alice", ("public",))),
        ("bob", False, TopicName("alice", ("bob",))),
        (b"v1.2_x:y@z+w-0", False, TopicName("alice", ("v1.2_x:y@z+w-0",))),
        ("...", False, TopicName("alice", ("...",))),
        ("build", True, TopicName("public", ("build",))),
        ("a/b", True, TopicName("public", ("a", "b"))),
        ("bob/b", True, TopicName("public", ("bob", "b"))),
        ("Bob/b", True, TopicName("public", ("Bob", "b"))),
        ("public/x", True, TopicName("public", ("x",))),
        ("public", True, TopicName("public", ("public",))),
    ],
)
def test_whose_a_topic_is(raw: str | bytes, public: bool, name: TopicName) -> None:
    """Without a slash a name is the caller's, with one its first segment's, with -p public."""
    assert parse_topic(raw, caller="alice", public=public) == name
    assert parse_pattern(raw, caller="alice", public=public) == name


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("", "empty"),
        ("/", "starts with a '/'"),
        ("/a", "starts with a '/'"),
        ("bob/", "ends with a '/'"),
        ("bob//a", "empty segment"),
        (".", "segment '.'"),
        ("bob/../a", "segment '..'"),
        ("bob%2fa", "percent-encoding is not decoded"),
        ("a\x00b", "NUL"),
        (b"a\xffb", "not valid UTF-8"),
        (b"bob\xc0\xafa", "not valid UTF-8"),
        ("a\udcffb", "not valid UTF-8"),
        ("a b", "has ' ' in it"),
        ("a\\b", r"has '\\\\' in it"),
        ("\u202eevil", r"has '\\u202e' in it"),
        ("Bob/a", "is its owner: user name 'Bob'"),
        ("admin/a", "user name 'admin' is reserved"),
        ("a" * 33 + "/x", "is its owner: the user name has 33 bytes"),
        ("a" * 65, "segment of 65 characters"),
        ("a/b/c/d/e/f/g/h/i/j", "9 segments after its owner"),
        ("a" * 256, "256 bytes: at most 255"),
        ("build-*", "patterns work only with sub and ls"),
        (b"**", "patterns work only with sub and ls"),
    ],
)
def test_bad_topics_are_refused(raw: str | bytes, complaint: str) -> None:
    """What is outside the grammar is refused with the reason."""
    with pytest.raises(BadName, match=complaint):
        parse_topic(raw, caller="alice")


def test_limits_are_inclusive() -> None:
    """Eight segments, 64 characters in each and 255 bytes in all are allowed, and not one more."""
    deepest = "a/" + "/".join("12345678")
    assert parse_topic(deepest, caller="alice").path == tuple("12345678")
    segments = "/".join(["s" * 64] * 3)
    exact = f"public/{segments}/{'t' * 53}"
    assert len(exact) == MAX_NAME_LENGTH
    assert str(parse_topic(exact, caller="alice")) == exact
    with pytest.raises(BadName, match="at most 255"):
        parse_topic(exact + "t", caller="alice")
    inside = exact.removeprefix("public/")
    assert str(parse_topic(inside, caller="alice", public=True)) == exact
    with pytest.raises(BadName, match="256 bytes with its owner: at most 255"):
        parse_topic(inside + "t", caller="alice", public=True)


@given(TOPICS, USERS)
def test_topic_round_trip(topic: TopicName, caller: str) -> None:
    """A topic's text names the same topic for every caller, as text and as bytes."""
    assert parse_topic(str(topic), caller=caller) == topic
    assert parse_topic(str(topic).encode(), caller=caller) == topic


@given(st.text() | st.binary() | NEAR_NAMES, USERS, st.booleans())
def test_any_input_is_a_name_or_a_bad_name(raw: str | bytes, caller: str, public: bool) -> None:
    """No input makes anything but a name within the grammar, or a BadName that prints safely."""
    name = result_of(lambda: parse_pattern(raw, caller=caller, public=public))
    if isinstance(name, BadName):
        assert name.message.isprintable()
        assert len(name.message) < 1000
        return
    assert isinstance(name, Pattern) == is_pattern(raw)
    assert len(str(name)) <= MAX_NAME_LENGTH
    assert 1 <= len(name.path) <= 8
    for segment in name.path:
        assert 1 <= len(segment) <= 64
        assert segment not in {".", ".."}
        assert set(segment) <= set(SEGMENT_ALPHABET + "*")
    assert parse_pattern(str(name), caller="somebody") == name


@given(st.text() | st.binary())
def test_any_input_is_a_user_or_a_bad_name(raw: str | bytes) -> None:
    """No input makes parse_user raise anything but a BadName that prints safely."""
    user = result_of(lambda: parse_user(raw))
    if isinstance(user, BadName):
        assert user.message.isprintable()
    else:
        assert user not in RESERVED_USERS


@pytest.mark.parametrize(
    ("raw", "public", "pattern"),
    [
        ("*", False, Pattern("alice", ("*",))),
        ("build-*", False, Pattern("alice", ("build-*",))),
        ("**", False, Pattern("*", ("**",))),
        ("bob/**", False, Pattern("bob", ("**",))),
        ("bob/a/**", False, Pattern("bob", ("a", "**"))),
        ("*/build", False, Pattern("*", ("build",))),
        ("team-*/x", False, Pattern("team-*", ("x",))),
        ("public/*", False, Pattern("public", ("*",))),
        ("*", True, Pattern("public", ("*",))),
        ("**", True, Pattern("public", ("**",))),
        ("public/**", True, Pattern("public", ("**",))),
        ("*/x", True, Pattern("public", ("*", "x"))),
        (b"a*b*c", False, Pattern("alice", ("a*b*c",))),
    ],
)
def test_whose_a_pattern_is(raw: str | bytes, public: bool, pattern: Pattern) -> None:
    """A pattern's owner follows the rule for topics; a bare ** is every space."""
    assert parse_pattern(raw, caller="alice", public=public) == pattern


@pytest.mark.parametrize(
    "raw", ["**/x", "bob/**/x", "bob/a**", "***", "bob/***", "*/../x", "A*/x", "*/", "/*", "*//*"]
)
def test_bad_patterns_are_refused(raw: str) -> None:
    """``**`` anywhere but as the last segment, and what no name may have, is refused."""
    with pytest.raises(BadName):
        parse_pattern(raw, caller="alice")


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("*", "alice/build", True),
        ("*", "alice/build/x", False),
        ("*", "bob/build", False),
        ("build-*-x", "build-1-2-x", True),
        ("build-*-x", "build-x", False),
        ("build-*", "build-", True),
        ("a*a", "a", False),
        ("bob/**", "bob/a", True),
        ("bob/**", "bob/a/b/c", True),
        ("bob/**", "bobby/a", False),
        ("bob/a/**", "bob/a", False),
        ("bob/a/**", "bob/a/b", True),
        ("*/build", "public/build", True),
        ("**", "public/a/b", True),
    ],
)
def test_what_a_pattern_matches(pattern: str, topic: str, expected: bool) -> None:
    """One star stays within its segment, two at the end take one or more segments."""
    parsed = parse_pattern(pattern, caller="alice")
    assert isinstance(parsed, Pattern)
    assert parsed.matches(parse_topic(topic, caller="alice")) is expected


@given(
    st.lists(st.text("ab*", min_size=1, max_size=7), min_size=2, max_size=4),
    st.booleans(),
    st.lists(st.text("ab", min_size=1, max_size=7), min_size=2, max_size=4),
)
def test_matching_agrees_with_the_reference(
    segments: list[str], open_ended: bool, topic: list[str]
) -> None:
    """A pattern matches exactly what a recursive search through all choices finds."""
    singles = [segment.replace("**", "*a") for segment in segments]
    pattern = Pattern(singles[0], (*singles[1:], *(["**"] if open_ended else [])))
    name = TopicName(topic[0], tuple(topic[1:]))
    expected = reference_matches((pattern.owner, *pattern.path), (name.owner, *name.path))
    assert pattern.matches(name) is expected


@given(st.lists(st.text("ab", max_size=4), min_size=2, max_size=12), st.text("ab", max_size=64))
def test_matching_is_linear(pieces: list[str], text: str) -> None:
    """The searches of one match go through each character of a segment at most once."""
    segment = CountingText(text)
    Pattern("bob", ("*".join(pieces),)).matches(TopicName("bob", (segment,)))
    assert getattr(segment, "searched", 0) <= len(text)


def test_random_paths_are_names() -> None:
    """A random path is 26 characters of base32, a valid name, and another one each time."""
    paths = {random_path() for _ in range(100)}
    assert len(paths) == 100
    for path in paths:
        assert len(path) == 26
        assert set(path) <= set("abcdefghijklmnopqrstuvwxyz234567")
        assert parse_topic(path, caller="alice") == TopicName("alice", (path,))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text", "plain text"),
        ("gr\u00fc\u00dfe \u65e5\u672c \U0001f600", "gr\u00fc\u00dfe \u65e5\u672c \U0001f600"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\r\nb\t", r"a\x0d\x0ab\x09"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("\u202e\u2066\u200b\ufeff", r"\u202e\u2066\u200b\ufeff"),
        ("\u2028\u2029\ud800\ue000", r"\u2028\u2029\ud800\ue000"),
        ("\U000e0041", r"\U000e0041"),
        ("\\x1b", r"\\x1b"),
        ("\xa0\u3000", r"\xa0\u3000"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    """Controls, bidi and invisible characters and backslashes are escaped, other text stays."""
    assert escape(text) == escaped


@given(st.text())
def test_escape_can_be_undone(text: str) -> None:
    """Escaped text has no hidden character, and says exactly what came in."""
    escaped = escape(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not hidden & {unicodedata.category(character) for character in escaped}
    ascii_only = escaped.encode("ascii", "backslashreplace")
    assert ascii_only.decode("unicode_escape") == text


@given(st.text())
def test_quoted_is_short(text: str) -> None:
    """Text in a message is at most 64 characters of the original, and says if it was cut."""
    assert quoted(text[:64]) == f"'{escape(text[:64])}'"
    assert quoted("x" * 64 + text + "y") == f"'{'x' * 64}...'"
