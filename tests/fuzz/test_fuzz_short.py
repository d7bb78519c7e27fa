"""A short pass of what `make fuzz` does for long, and the seeds that it begins with."""

from __future__ import annotations

import pytest

from pipe.errors import UsageError
from pipe.language.requests import parse
from tests.fuzz.fuzz_lane import (
    LaneTarget,
    Mutator,
    Way,
    check_request,
    fuzz,
    load_commands,
    load_corpus,
    read_input,
    write_input,
)
from tests.fuzz.texts import (
    READERS,
    REFUSALS,
    BrokenReader,
    check_text,
    load_texts,
    make_input,
)

RUNS = 2000
TEXT_RUNS = 20_000
NO_LIMIT = 3600.0
"""Seconds: the passes are bounded by their counts, so that they try the same on any machine."""


async def test_no_mutated_input_breaks_a_promise() -> None:
    """Thousands of mutated rows of packets end their own connection at most, and in good order."""
    runs, connections = await fuzz(RUNS, NO_LIMIT, seed=20_260_101)
    assert runs == RUNS
    assert connections > 1


def test_no_mutated_text_breaks_a_reader() -> None:
    """Thousands of mutated texts are read, or refused with a sentence that can be printed."""
    mutator = Mutator(load_texts(), 20_260_101)
    for _ in range(TEXT_RUNS):
        check_text(mutator.next())


@pytest.mark.parametrize("name", READERS)
def test_readers_have_seeds(name: str) -> None:
    """Each reader has something to begin with, and accepts some of it."""
    place = list(READERS).index(name)
    seeds = [seed[1:] for seed in load_texts() if seed[0] == place]
    assert seeds
    accepted = 0
    for seed in seeds:
        try:
            READERS[name](seed)
        except REFUSALS:
            continue
        accepted += 1
    assert accepted


def test_faults_of_readers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that raises what it should not, or says what cannot be printed, is told."""

    def read(data: bytes) -> None:
        raise UsageError("\x1b[2J") if data else KeyError

    monkeypatch.setitem(READERS, "user", read)
    with pytest.raises(BrokenReader, match="unprintable"):
        check_text(make_input("user", b"x"))
    with pytest.raises(BrokenReader, match="KeyError"):
        check_text(make_input("user", b""))


async def test_seeds_are_valid() -> None:
    """Each seed alone leaves the connection as it is, so that a mutation gets far."""
    seeds = load_corpus()
    assert len(seeds) >= 8
    target = LaneTarget()
    for seed in seeds:
        await target.run(seed)
    assert target.connections == 1
    await target.check_innocent()
    await target.close()


def test_commands_are_valid() -> None:
    """Each command to begin with is one that the parser accepts."""
    for command in load_commands():
        check_request(command)
        assert parse(command.decode())


def test_inputs_are_rows_of_packets() -> None:
    """What is written as an input is read as the same packets, and any bytes are some."""
    packets = [(Way.PLAIN, b"one"), (Way.RAW | Way.CUT, b""), (Way.UNPADDED, bytes(300))]
    assert list(read_input(write_input(packets))) == packets
    assert list(read_input(b"\xff\xff\xff short")) == [(Way(15), b" short")]


def test_mutations_can_be_repeated() -> None:
    """The same seed makes the same inputs."""
    first, second = (Mutator(load_corpus(), 7) for _ in range(2))
    assert [first.next() for _ in range(50)] == [second.next() for _ in range(50)]
