"""Scopes: what a token reaches, and what its text may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.errors import UsageError
from pipe.language.names import Pattern, TopicName, parse_pattern
from pipe.rights.grants import Operation
from pipe.rights.scopes import MAX_NAMES, MAX_PATTERN_BYTES, MAX_PATTERNS, Reach, Right, Scope

BUILD = TopicName("alice", ("build",))
SEGMENTS = st.text("ab*", min_size=1, max_size=4).filter(lambda text: "**" not in text)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3)
WORDS = st.builds(
    lambda path, rest: "/".join([*path, *rest]), PATHS, st.sampled_from([[], ["**"]])
).filter(lambda word: "/" not in word or word[0] in "ab*")
TOPICS = st.builds(
    TopicName,
    st.sampled_from(["alice", "a", "b", "ab", "public"]),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    ("words", "reached", "not_reached"),
    [
        (
            ["build"],
            ["alice/build"],
            ["bob/build", "alice/build2", "alice/build/x", "public/build"],
        ),
        (["bob/build"], ["bob/build"], ["alice/build", "bob/builds"]),
        (["ci-*"], ["alice/ci-web", "alice/ci-"], ["bob/ci-web", "alice/ci", "alice/ci-web/x"]),
        (["alice/**"], ["alice/x", "alice/x/y"], ["bob/x", "alice2/x"]),
        (["**"], ["alice/x", "bob/x/y", "public/x"], []),
        (["*"], ["alice/x"], ["bob/x", "alice/x/y"]),
        (["public/*"], ["public/x"], ["alice/x"]),
        (["build", "bob/*"], ["alice/build", "bob/x"], ["alice/x"]),
        ([], [], ["alice/build"]),
    ],
)
def test_reach(words: list[str], reached: list[str], not_reached: list[str]) -> None:
    """A name without a slash is in the owner's own space, and patterns mean what they mean."""
    reach = Reach.parse(words, owner="alice")
    for text, expected in [
        *((one, True) for one in reached),
        *((one, False) for one in not_reached),
    ]:
        owner, *path = text.split("/")
        assert reach.covers(TopicName(owner, tuple(path))) is expected, text
    assert bool(reach) is bool(words)


@given(st.lists(WORDS, max_size=5), TOPICS)
def test_reach_is_that_of_its_patterns(words: list[str], topic: TopicName) -> None:
    """It covers what one of its words means and nothing else, also after it was stored."""
    reach = Reach.parse(words, owner="alice")
    meant = [parse_pattern(word, caller="alice") for word in words]
    wanted = any(one.matches(topic) if isinstance(one, Pattern) else one == topic for one in meant)

    assert reach.covers(topic) is wanted
    assert Reach.parse(reach.shown, owner="bob") == reach


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "the list has an empty entry"),
        (["a b"], "has ' ' in it"),
        (["../bob/x"], "owner"),
        (["bob/**/x"], "has a '\\*\\*' that is not the last segment"),
        (["\x1b[2J"], "in it"),
        ([f"{'n' * 60}{number}" for number in range(60)], f"at most {MAX_PATTERN_BYTES} are"),
        ([f"n{number}" for number in range(MAX_NAMES + 1)], f"at most {MAX_NAMES} are allowed"),
        ([f"n{number}*" for number in range(MAX_PATTERNS + 1)], f"at most {MAX_PATTERNS} are"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    """What is no pattern, or too much, is refused in one line."""
    with pytest.raises(UsageError, match=message) as caught:
        Reach.parse(words, owner="alice")
    assert caught.value.message.isprintable()


def test_bounds_are_allowed() -> None:
    """As many names, patterns and bytes as are said to be allowed are."""
    names = [f"n{number}" for number in range(MAX_NAMES - MAX_PATTERNS)]
    patterns = [f"n{number}*" for number in range(MAX_PATTERNS)]
    assert len(Reach.parse([*names, *patterns], owner="alice").shown) == MAX_NAMES
    long = [f"{number:02}".rjust(57, "x") for number in range(32)]  # "alice/" and a line's end
    reach = Reach.parse(long, owner="alice")
    assert len("\n".join(reach.shown)) <= MAX_PATTERN_BYTES < len("\n".join(reach.shown)) + 64


@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE, Operation.BOTH])
def test_directions(operation: Operation) -> None:
    """Each direction is judged alone, and both need both."""
    build = Reach(frozenset({BUILD}))
    reads, writes = Scope(reads=build), Scope(writes=build)

    assert reads.allows(operation, BUILD) is (operation is Operation.READ)
    assert writes.allows(operation, BUILD) is (operation is Operation.WRITE)
    assert Scope(build, build).allows(operation, BUILD)
    assert not Scope(rights=frozenset(Right)).allows(operation, BUILD)


def test_scope_without_anything() -> None:
    """A scope is empty where it names neither topics nor rights."""
    assert not Scope()
    assert Scope(reads=Reach(frozenset({BUILD})))
    assert Scope(writes=Reach(frozenset({BUILD})))
    assert Scope(rights=frozenset({Right.LOGS}))
