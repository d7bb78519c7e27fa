"""A short pass of what `make fuzz` does for long, and the seeds that it begins with."""

from __future__ import annotations

from pipe.requests import parse
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

RUNS = 3000
SECONDS = 10.0


async def test_no_mutated_input_breaks_a_promise() -> None:
    """Thousands of mutated rows of packets end their own connection at most, and in good order."""
    runs, connections = await fuzz(RUNS, SECONDS, seed=20_260_101)
    assert runs > 100
    assert connections > 1


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
