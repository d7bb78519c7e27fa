"""Law 6: who ends with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Outcome
from pipe.stream.ports import Mode
from tests.fakes import (
    FULL,
    NAME,
    OTHER,
    pattern_reader,
    pipe,
    publisher,
    subscriber,
)

if TYPE_CHECKING:
    from pipe.stream.router import Router


def test_reader_ends_with_the_last_publisher(router: Router) -> None:
    """Not with the first."""
    sources = [publisher(router, NAME) for _ in range(2)]
    sink = subscriber(router, NAME)
    sources[0].end()
    assert not sink.finished
    sources[1].end()
    assert sink.finished == (Outcome.DONE, 0)


def test_reader_waits_for_a_publisher(router: Router) -> None:
    """A reader that nobody has written to stays."""
    sink = subscriber(router, NAME)
    other = subscriber(router, NAME)
    other.vanish()
    assert not sink.over


def test_reader_that_keeps_alive_stays(router: Router) -> None:
    """It reads the next publisher too."""
    sink = subscriber(router, NAME, keep_alive=True)
    for text in ("one", "two"):
        source = publisher(router, NAME)
        source.send(text)
        source.end()
    sink.drain()
    assert (sink.text, sink.over) == ("onetwo", False)


def test_pattern_reader_stays(router: Router) -> None:
    """One on a pattern stays as with keep-alive, and needs no topic."""
    sink = pattern_reader(router)
    for name in (NAME, OTHER):
        source = publisher(router, name)
        source.send(str(name), " ")
        source.end()
        sink.drain()
    assert sink.text == "alice/build alice/test "
    assert not sink.over
    assert router.names() == ()


def test_ended_pipe_is_a_subscriber(router: Router) -> None:
    """It ends with the last publisher; alone it waits for one."""
    source, sink = pipe(router, NAME)
    source.end()
    assert not sink.over
    last = publisher(router, NAME)
    last.end()
    assert sink.finished == (Outcome.DONE, 0)


def test_pipe_that_ends_last_ends_too(router: Router) -> None:
    """Where there was another publisher, nobody is left to wait for."""
    (first, _), (last, sink) = pipe(router, NAME), pipe(router, NAME)
    first.end()
    last.end()
    assert sink.finished == (Outcome.DONE, 0)
    assert NAME not in router


def test_pipe_that_has_not_ended_stays(router: Router) -> None:
    """A pipe goes on when the others have ended."""
    source, sink = pipe(router, NAME)
    publisher(router, NAME).end()
    assert not sink.over
    assert not source.paused


def test_finished_reader_is_no_reader(router: Router) -> None:
    """One that is about to leave counts for no new publisher and gets nothing from it."""
    first = publisher(router, NAME)
    sink = subscriber(router, NAME, confirms=False)
    first.send("one")
    first.end()
    second = publisher(router, NAME)
    assert second.waiting == 1
    sink.drain()
    assert sink.text == "one"


def test_vanished_publisher_breaks_its_readers(router: Router) -> None:
    """A publisher gone without end of file is a broken stream: 74."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("half")
    source.vanish()
    sink.drain()
    assert (sink.text, sink.finished, sink.exit_status) == ("half", (Outcome.BROKEN, 0), 74)


def test_broken_stays_broken(router: Router) -> None:
    """A reader that lost a publisher ends as broken, however well the others end."""
    bad, good = publisher(router, NAME), publisher(router, NAME)
    sink = subscriber(router, NAME)
    bad.vanish()
    late = subscriber(router, NAME)
    good.end()
    assert sink.finished == (Outcome.BROKEN, 0)
    assert late.finished == (Outcome.DONE, 0)


def test_silent_pipe_breaks_nothing(router: Router) -> None:
    """A pipe that never wrote may go as it likes; one that did is missed."""
    (silent, _), (loud, _) = pipe(router, NAME), pipe(router, NAME)
    early = subscriber(router, NAME)
    loud.send("x")
    loud.vanish()
    late = subscriber(router, NAME)
    silent.vanish()
    assert early.finished == (Outcome.BROKEN, 0)
    assert late.finished == (Outcome.DONE, 0)


def test_publisher_that_gives_up_ends_nobody(router: Router) -> None:
    """One that never started breaks no reader, hands on no status, and ends none."""
    source = publisher(router, NAME, wants=2, exit_status=9)
    sink = subscriber(router, NAME)
    source.vanish()
    assert not sink.over
    last = publisher(router, NAME)
    last.end()
    assert sink.finished == (Outcome.DONE, 0)


def test_reader_stays_for_a_publisher_that_waits(router: Router) -> None:
    """A publisher that waits is a publisher: readers stay for it, and end when it gives up."""
    waiting = publisher(router, NAME, wants=2, exit_status=9)
    sink = subscriber(router, NAME)
    publisher(router, NAME, exit_status=3).end()
    assert not sink.over
    waiting.vanish()
    assert sink.finished == (Outcome.DONE, 3)


def test_first_exit_status_that_is_not_zero_wins(router: Router) -> None:
    """A subscriber exits with the first non-zero status that a publisher gave."""
    sources = [publisher(router, NAME, exit_status=status) for status in (0, 4, 5)]
    sink = subscriber(router, NAME)
    for source in sources:
        source.end()
    assert sink.finished == (Outcome.DONE, 4)
    assert sink.exit_status == 4


def test_leaving_ends_nobody_else(router: Router) -> None:
    """Readers and pipes come and go; the others stay."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(3)]
    _, piped = pipe(router, NAME)
    for sink in (sinks[0], piped, sinks[1]):
        sink.vanish()
        source.send("x")
    assert not sinks[2].over
    assert len(sinks[2].taken) == 3


def test_leaving_twice_is_leaving_once(router: Router) -> None:
    """A second leave does nothing."""
    sink = subscriber(router, NAME)
    sink.vanish()
    router.leave(sink.member)
    assert router.statistics().sessions[Mode.SUBSCRIBE] == 0


def test_pipe_that_leaves_is_not_told_anything(router: Router) -> None:
    """A clogged pipe that hears itself is not resumed on its way out."""
    source, own = pipe(router, NAME, replay=True)
    source.send(FULL)
    own.gone = source.gone = True  # the fakes fail at any call from now on
    router.leave(source.member)
    assert NAME not in router


def test_bridge_from_topic_to_topic(router: Router) -> None:
    """A member whose sink feeds another's source fans out inside a fan-out."""
    outlet = publisher(router, OTHER)
    bridge = subscriber(router, NAME)
    near, far = subscriber(router, NAME, bound=1), subscriber(router, OTHER, bound=1)
    source = publisher(router, NAME)
    bridge.on_write = lambda: outlet.send("over")
    source.send("here")
    near.drain()
    far.drain()
    assert (near.text, far.text) == ("here", "over")
    assert (source.paused, outlet.paused) == (False, False)
