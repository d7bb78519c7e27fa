"""What each process is told of the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipe.hub.sums import Sums

PROCESSES = ("hub", "1", "2")
KEYS = ("a", "b")

reports = st.tuples(
    st.sampled_from(PROCESSES), st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3))
)


@given(steps=st.lists(st.one_of(reports, st.sampled_from(PROCESSES))))
def test_each_knows_what_the_others_have(
    steps: list[tuple[str, dict[str, int]] | str],
) -> None:
    """Whoever keeps what it is told has the others' sums, whatever has changed and who has gone."""
    sums = Sums()
    counts: dict[str, dict[str, int]] = {process: {} for process in PROCESSES}
    known: dict[str, dict[str, int]] = {process: {} for process in PROCESSES}
    for step in steps:
        if isinstance(step, str):
            sums.forget(step)
            counts[step] = {}
        else:
            process, reported = step
            sums.report(process, reported)
            counts[process] |= reported
        changed = sums.take_changed()
        assert not sums.pending
        for process in PROCESSES:
            known[process] |= sums.others(process, changed)
    for process in PROCESSES:
        others = [counts[other] for other in PROCESSES if other != process]
        for key in KEYS:
            expected = sum(count.get(key, 0) for count in others)
            assert known[process].get(key, 0) == expected
            assert sums.others(process).get(key, 0) == expected
