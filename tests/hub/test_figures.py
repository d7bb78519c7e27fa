"""Metrics of several processes, added up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipe.hub.crew import Crew, Worker
from pipe.hub.figures import Family, Figures, add_up, lasting
from pipe.mesh.directory import WorkerId

from .test_crew import Hub


def counter(name: str, value: float, **labels: str) -> Family:
    """A counter with one sample."""
    return Family(name, "Text.", "counter", [(f"{name}_total", labels, value)])


def values(*sources: tuple[str, list[Family]]) -> dict[tuple[str, str], float]:
    """The sums, by the sample's name and its labels' values."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for metric in add_up(sources)
        for sample in metric.samples
    }


@given(counts=st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 9))))
def test_counters_are_added(counts: list[dict[str, int]]) -> None:
    """Each label has the sum of all processes that have it."""
    sources = [
        (str(number), [counter("pipe_x", value, mode=mode) for mode, value in one.items()])
        for number, one in enumerate(counts)
    ]
    expected = {
        ("pipe_x_total", mode): sum(one.get(mode, 0) for one in counts)
        for mode in {mode for one in counts for mode in one}
    }
    assert values(*sources) == expected


def test_what_is_of_a_process_has_its_label() -> None:
    """Memory and lag are each process's own; an alarm is everybody's."""
    found = values(
        ("hub", [counter("process_cpu_seconds", 1.0)]),
        ("1", [counter("process_cpu_seconds", 2.0)]),
        ("1", [Family("pipe_memory_alarm", "", "gauge", [("pipe_memory_alarm", {}, 1.0)])]),
        ("2", [Family("pipe_memory_alarm", "", "gauge", [("pipe_memory_alarm", {}, 1.0)])]),
    )
    assert found == {
        ("process_cpu_seconds_total", "hub"): 1.0,
        ("process_cpu_seconds_total", "1"): 2.0,
        ("pipe_memory_alarm", ""): 1.0,
    }


def test_gauges_end_with_their_process() -> None:
    """Of a process that is gone only what was counted stays."""
    gauge = Family("pipe_sessions", "", "gauge", [("pipe_sessions", {}, 3.0)])
    own = counter("process_cpu_seconds", 2.0)
    assert lasting([gauge, own, counter("pipe_x", 5.0)]) == [counter("pipe_x", 5.0)]


async def test_worker_that_is_about_to_be_started_again_is_down() -> None:
    """Between its end and its next start there is no process, and it is not forgotten."""
    crew = Crew(2, Hub())
    crew.pausing.add(2)
    figures = Figures(crew)
    [up] = [metric for metric in figures.collect() if metric.name == "pipe_up"]
    figures.close()
    assert [(sample.labels, sample.value) for sample in up.samples] == [({"worker": "2"}, 0.0)]


async def test_answer_that_is_read_after_the_end() -> None:
    """What a worker has counted counts once, although a scrape hears of it when it is gone."""
    process: Any = None
    figures = Figures(Crew(1, Hub()))
    worker = Worker(WorkerId("", 1, 1), process)
    told: Any = [counter("pipe_x", 5.0)]
    figures.take(worker, told)
    worker.ended.set()
    figures.went(worker)
    figures.take(worker, told)
    [found] = [metric for metric in figures.collect() if metric.name == "pipe_x"]
    figures.close()
    assert [sample.value for sample in found.samples] == [5.0]
