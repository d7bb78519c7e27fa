"""What is told twice counts once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipe.events.dedupe import ID_SECONDS, MAX_IDS, PUSH_SECONDS, Seen, Sighting, sight
from pipe.events.envelope import Event

PUSHED = Event(time=0, repository="alice/alpine", tag="latest", digest="sha256:41ed", id="1")


def pushed(event: Event) -> Sighting:
    """A push that can be recognised."""
    found = sight(event)
    assert found
    return found


def test_an_id_counts_once_a_day() -> None:
    """An id is known until it is a day old, and being told again makes it no younger."""
    seen = Seen()
    assert seen.first(Sighting("a"), 0.0)
    assert not seen.first(Sighting("a"), ID_SECONDS - 1)
    assert seen.first(Sighting("b"), ID_SECONDS - 1)
    assert seen.first(Sighting("a"), ID_SECONDS)
    assert not seen.first(Sighting("b"), ID_SECONDS)


def test_ids_are_bounded() -> None:
    """When there are too many, the oldest is forgotten."""
    seen = Seen()
    for number in range(MAX_IDS + 1):
        assert seen.first(Sighting(str(number)), 0.0)
    assert not seen.first(Sighting(str(MAX_IDS)), 1.0)
    assert not seen.first(Sighting("1"), 1.0)
    assert seen.first(Sighting("0"), 1.0)


def test_a_push_counts_once_a_minute() -> None:
    """The same digest under the same tag is one push, whoever tells of it and under what id."""
    seen = Seen()
    assert seen.first(pushed(PUSHED), 0.0)
    assert not seen.first(pushed(replace(PUSHED, source="distribution", id="2")), PUSH_SECONDS - 1)
    assert seen.first(pushed(PUSHED), PUSH_SECONDS)


def test_another_push() -> None:
    """Another digest, tag or repository is another push, and one without a digest none."""
    seen = Seen()
    seen.first(pushed(PUSHED), 0.0)
    assert seen.first(pushed(replace(PUSHED, digest="sha256:0")), 0.0)
    assert seen.first(pushed(replace(PUSHED, tag="v1")), 0.0)
    assert seen.first(pushed(replace(PUSHED, repository="bob/alpine")), 0.0)
    assert sight(replace(PUSHED, digest="")) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, ID_SECONDS)), max_size=30))
def test_ids_against_a_model(told: list[tuple[str, float]]) -> None:
    """At any times, an id is new if it was not new within a day before."""
    seen, model, now = Seen(), dict[str, float](), 0.0
    for one, pause in told:
        now += pause
        new = one not in model or model[one] <= now - ID_SECONDS
        if new:
            model[one] = now
        assert seen.first(Sighting(one), now) is new
