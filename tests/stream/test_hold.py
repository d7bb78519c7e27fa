"""A router that is held: all publishers stand, readers go on, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipe.language.names import TopicName
from pipe.stream.router import Router
from tests.fakes import publisher, subscriber

NEWS = TopicName("alice", ("news",))
SPORT = TopicName("bob", ("sport",))


def test_all_stand_and_go_on() -> None:
    """Those that are there and those that come; what they have read meanwhile is published then."""
    router = Router()
    reader, other = subscriber(router, NEWS), subscriber(router, SPORT)
    first = publisher(router, NEWS)
    first.send("a")
    router.hold(held=True)
    late = publisher(router, SPORT)
    assert first.paused
    assert late.paused
    assert late.waiting == 0
    first.send("b")
    late.send("c")
    reader.drain()
    assert reader.text == "a"

    router.hold(held=False)
    first.end()
    late.end()
    reader.drain()
    other.drain()
    assert (reader.text, other.text) == ("ab", "c")
    assert [first.receipts[0].sent_bytes, late.receipts[0].sent_bytes] == [2, 1]


def test_other_reasons_remain() -> None:
    """Who is also paused for a clogged or a missing reader stays so."""
    router = Router()
    reader = subscriber(router, NEWS, bound=1)
    clogged, waiting = publisher(router, NEWS), publisher(router, SPORT)
    clogged.send("ab")
    router.hold(held=True)
    router.hold(held=False)
    assert clogged.paused
    assert waiting.paused
    router.hold(held=True)
    reader.drain()
    assert clogged.paused
    router.hold(held=False)
    assert not clogged.paused


@given(st.lists(st.sampled_from(["send", "hold", "go", "drain", "pump"])))
def test_stream_is_whole(steps: list[str]) -> None:
    """However holds fall into a stream, the reader gets all of it in order."""
    router = Router()
    reader = subscriber(router, NEWS, bound=3)
    writer = publisher(router, NEWS, synchronous=True)
    sent = ""
    for number, step in enumerate(steps):
        if step == "send":
            piece = chr(ord("a") + number % 26)
            sent += piece
            writer.send(piece)
        elif step == "drain":
            reader.drain()
        elif step == "pump":
            writer.pump()
        else:
            router.hold(held=step == "hold")
            assert writer.paused or step == "go"
    router.hold(held=False)
    while writer.queue or reader.pending:
        reader.drain()
        writer.pump()
    assert reader.text == sent
