"""Lasting grants in memory: what is given is found from every side, and ends in order."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.language.names import TopicName
from pipe.rights.grants import Grant, GrantBook, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable

TOPICS = [TopicName(owner, (name,)) for owner in ("alice", "bob") for name in "xyz"]


def make(topic: TopicName, grantee: str, until: float | None = None) -> Grant:
    """A grant to read."""
    return Grant(topic, grantee, Operation.READ, until, topic.owner, 0.0)


GRANTS = st.builds(
    make,
    st.sampled_from(TOPICS),
    st.sampled_from(["alice", "bob", "carol"]),
    st.none() | st.integers(1, 20).map(float),
)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Operation.READ, "read"),
        (Operation.WRITE, "write"),
        (Operation.BOTH, "read and write"),
        (Operation.NONE, "nothing"),
    ],
)
def test_operations_have_words(operation: Operation, text: str) -> None:
    """An operation is written as a person says it."""
    assert str(operation) == text


def fill(book: GrantBook, grants: Iterable[Grant]) -> dict[tuple[TopicName, str], Grant]:
    """Give grants one after the other; a later one takes an earlier one's place."""
    model: dict[tuple[TopicName, str], Grant] = {}
    for grant in grants:
        kept = [one for one in book.on(grant.topic).values() if one.grantee != grant.grantee]
        changed = model.get((grant.topic, grant.grantee)) != grant
        assert book.replace(grant.topic, [*kept, grant]) is changed
        model[grant.topic, grant.grantee] = grant
    return model


def check(book: GrantBook, model: dict[tuple[TopicName, str], Grant]) -> None:
    """Compare all that can be asked with a plain dictionary."""
    for topic in TOPICS:
        on = {who: grant for (name, who), grant in model.items() if name == topic}
        assert dict(book.on(topic)) == on
    for user in ("alice", "bob", "carol"):
        by = [grant for (name, _), grant in sorted(model.items()) if name.owner == user]
        to = [grant for (_, who), grant in sorted(model.items()) if who == user]
        assert book.by(user) == by
        assert book.to(user) == to
    assert set(book.topics()) == {topic for topic, _ in model}
    ends = [grant.until for grant in model.values() if grant.until is not None]
    if ends:
        assert book.next_end is not None
        assert book.next_end <= min(ends)


@given(st.lists(GRANTS, max_size=30), st.integers(0, 20), st.sampled_from(["alice", "carol"]))
def test_book_is_a_dictionary(grants: list[Grant], now: int, gone: str) -> None:
    """Giving, expiring and forgetting do what they would to a plain dictionary."""
    book = GrantBook()
    model = fill(book, grants)
    check(book, model)

    ended = {key for key, grant in model.items() if not grant.holds(now)}
    assert set(book.expire(now)) == {topic for topic, _ in ended}
    model = {key: grant for key, grant in model.items() if key not in ended}
    check(book, model)
    assert book.next_end is None or book.next_end > now

    lost = {key for key in model if gone in {key[0].owner, key[1]}}
    assert set(book.forget(gone)) == {topic for topic, _ in lost}
    check(book, {key: grant for key, grant in model.items() if key not in lost})


def test_renewals_leave_nothing_behind() -> None:
    """A grant that is renewed again and again takes the memory of one."""
    book = GrantBook()
    for number in range(10_000):
        book.replace(TOPICS[0], [make(TOPICS[0], "carol", 1e9 + number)])

    assert len(pickle.dumps(book)) < 10_000
