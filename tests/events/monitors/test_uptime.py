"""How much of a time a monitor was up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipe.events.monitors.monitor import State
from pipe.events.monitors.uptime import DAYS, History, Share
from pipe.language.durations import SECONDS_PER_DAY

NOW = 100
ALWAYS = [(0.0, float(NOW))]

moments = st.integers(0, NOW).map(float)
histories = st.lists(st.tuples(moments, st.sampled_from(State)), max_size=12)
spans = st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))


@given(histories, st.lists(spans, max_size=5), spans)
def test_as_if_each_second_were_looked_at(
    changes: list[tuple[float, State]],
    watched: list[tuple[float, float]],
    asked: tuple[float, float],
) -> None:
    """A span has the seconds in which a server watched and the monitor was up, or down."""
    history = History(changes, watched, NOW)
    in_order = sorted(changes, key=lambda change: change[0])
    seconds = {State.UP: 0, State.DOWN: 0}
    for second in range(int(asked[0]), int(asked[1])):
        states = [state for when, state in in_order if when <= second]
        if states and states[-1] in seconds and any(a <= second < b for a, b in watched):
            seconds[states[-1]] += 1
    share = history.share(*asked)
    assert share.up == pytest.approx(seconds[State.UP])
    assert share.down == pytest.approx(seconds[State.DOWN])
    assert share.up + share.down + share.unknown == pytest.approx(asked[1] - asked[0])


def test_unknown_counts_as_neither() -> None:
    """Where a server was away, or the monitor was paused, there is nothing to count."""
    changes = [(0.0, State.UP), (40.0, State.PAUSED), (60.0, State.UP), (90.0, State.DOWN)]
    history = History(changes, [(0.0, 20.0), (30.0, 100.0)], NOW)
    share = history.share(0.0, 100.0)
    assert share == Share(up=60.0, down=10.0, unknown=30.0)
    assert share.ratio == pytest.approx(6 / 7)
    assert history.share(41.0, 59.0).ratio is None


def test_days() -> None:
    """There is a share for each day in UTC, the oldest first, and for today up to now."""
    now = 200.5 * SECONDS_PER_DAY
    changes = [(198.0 * SECONDS_PER_DAY, State.UP), (200.25 * SECONDS_PER_DAY, State.DOWN)]
    days = History(changes, [(0.0, now)], now).days(now)
    assert len(days) == DAYS
    assert [day.ratio for day in days[-4:]] == [None, 1.0, 1.0, 0.5]
