"""Who published which bytes of a ring."""

from __future__ import annotations

from itertools import groupby

import hypothesis.strategies as st
from hypothesis import given

from pipe.stream.speakers import MAX_RUNS, Speakers

PIECES = st.lists(st.tuples(st.sampled_from(["alice", "bob", ""]), st.integers(1, 9)), max_size=30)


@given(before=st.integers(0, 5), pieces=PIECES, data=st.data())
def test_each_byte_has_its_user(
    before: int, pieces: list[tuple[str, int]], data: st.DataObject
) -> None:
    """From any byte to any other; what came before the first note is nobody's."""
    speakers, owners = Speakers(), [None] * before
    whose: list[str | None] = list(owners)
    for user, size in pieces:
        speakers.note(len(whose), user)
        whose += [user] * size
    start = data.draw(st.integers(0, len(whose)))
    end = data.draw(st.integers(start, len(whose)))
    found = [(user, stop - at) for user, at, stop in speakers.between(start, end)]

    assert found == [(user, len(list(run))) for user, run in groupby(whose[start:end])]


def test_the_oldest_are_forgotten() -> None:
    """However often they take turns, it stays small."""
    speakers = Speakers()
    for number in range(100 * MAX_RUNS):
        speakers.note(number, f"user{number % 7}")

    runs = list(speakers.between(0, 100 * MAX_RUNS))
    assert MAX_RUNS <= len(runs) <= 2 * MAX_RUNS + 1
    assert runs[0][0] is None
    assert runs[-1][0] == f"user{(100 * MAX_RUNS - 1) % 7}"
