"""Shapes: how many users of which kinds there are, from the start of a run to its end."""

from __future__ import annotations

from typing import Any, Final

from locust import LoadTestShape, User

from loadtest.load.users import Chatter, Follower, Publisher, SlowReader, Streamer

DEFAULT_USERS: Final = 20
DEFAULT_SECONDS: Final = 60.0

ORDINARY: Final[list[type[User]]] = [Publisher, Chatter, Follower, Streamer]

Tick = tuple[int, float, list[type[User]]]


class Shape(LoadTestShape):  # type: ignore[misc,unused-ignore]
    """A course over `--run-time` (60 s), up to `--users` (20)."""

    abstract = True
    use_common_options = True

    def tick(self) -> Tick | None:
        """How many users of which kinds there should be now."""
        shape: Any = self
        options = shape.runner.environment.parsed_options
        most = options.num_users or DEFAULT_USERS
        length = options.run_time if isinstance(options.run_time, int) else 0
        done = shape.get_run_time() / (length or DEFAULT_SECONDS)
        return self.stage(done, most) if done < 1 else None

    def stage(self, done: float, most: int) -> Tick:
        """The same, with the share of the course that is done and the most users there may be."""
        raise NotImplementedError


class Steady(Shape):
    """Everybody comes in the first tenth, and stays."""

    abstract = False

    def stage(self, done: float, most: int) -> Tick:  # noqa: ARG002
        """All of them, from the start on."""
        return most, max(1, most / 6), ORDINARY


class Spike(Shape):
    """A fifth of the users at first; in the middle third all of them, at once."""

    abstract = False

    def stage(self, done: float, most: int) -> Tick:
        """Few, many, few."""
        few = max(2, most // 5)
        return (most, most, ORDINARY) if 1 / 3 <= done < 2 / 3 else (few, few, ORDINARY)


class SlowReaders(Shape):
    """Two thirds of the users at first, all ordinary; then all, slow readers among them."""

    abstract = False

    def stage(self, done: float, most: int) -> Tick:
        """A third of the time without slow readers, to compare with."""
        rate = max(1, most / 6)
        if done < 1 / 3:
            return max(2, most * 2 // 3), rate, ORDINARY
        return most, rate, [*ORDINARY, SlowReader]


SHAPES: Final[dict[str, type[Shape]]] = {
    "steady": Steady,
    "spike": Spike,
    "slow-readers": SlowReaders,
}
"""By the name that `LOCUST_SHAPE` gives one."""
