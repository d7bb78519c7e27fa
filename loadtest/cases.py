"""The cases of the benchmark: what each measures, how much of it, and what the product must reach.

The goals belong to ``ours, lane fast``.  Those against a baseline are the ones that count: both
sides run on the same machine in the same minutes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loadtest.hooks import answers_to_hooks
from loadtest.latency import latency
from loadtest.logins import logins, memory_at_start, memory_of_idle
from loadtest.logs import log_lines
from loadtest.report import Goal, Metric
from loadtest.servers import Ability, System
from loadtest.transfer import transfer
from loadtest.web import over_http
from loadtest.workspace import AES, CHACHA, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Plan:
    """How much of everything: sizes in bytes, the rest in pieces."""

    runs: int
    size: int
    messages: int
    fan_out_messages: int
    logins: int
    idle_members: int
    log_seconds: int
    deaths: int


FULL: Final = Plan(
    runs=3,
    size=1024 * MIB,
    messages=2000,
    fan_out_messages=500,
    logins=500,
    idle_members=1000,
    log_seconds=10,
    deaths=10,
)
QUICK: Final = Plan(
    runs=2,
    size=128 * MIB,
    messages=1000,
    fan_out_messages=200,
    logins=200,
    idle_members=200,
    log_seconds=5,
    deaths=3,
)
_WARM_UP: Final = 200
_FAN_OUT_WARM_UP: Final = 50


class Effort(enum.Enum):
    """How often a case runs when all is to be quick."""

    EVERY_RUN = "every run"
    ONCE_IF_QUICK = "once if quick"
    ONCE = "once"


@dataclass(frozen=True)
class Case:
    """One case: ``run(system, plan, verify)`` returns a value for each metric's name."""

    name: str
    ability: Ability
    metrics: tuple[Metric, ...]
    run: Callable[[System, Plan, bool], dict[str, float]]
    payload: Callable[[Plan], int] = lambda _: 0
    effort: Effort = Effort.EVERY_RUN

    def runs(self, plan: Plan) -> int:
        """Returns how often each system runs this case."""
        heavy = self.effort is Effort.ONCE_IF_QUICK and plan.runs <= QUICK.runs
        return 1 if heavy or self.effort is Effort.ONCE else plan.runs


def _transfer_case(
    name: str,
    title: str,
    goal: Goal,
    *,
    subscribers: int = 1,
    cipher: str | None = AES,
    part: int = 1,
    effort: Effort = Effort.EVERY_RUN,
) -> Case:
    """Returns a case that sends a `part`-th of the plan's size to so many subscribers."""

    def size(plan: Plan) -> int:
        return max(plan.size // part, 1)

    def run(system: System, plan: Plan, verify: bool) -> dict[str, float]:
        return transfer(
            system,
            system.space.payload(size(plan)),
            subscribers=subscribers,
            cipher=cipher,
            verify=verify,
        )

    metrics = [Metric("cpu", title, "CPU-s/GiB", goal), Metric("rate", title, "MiB/s", digits=0)]
    if subscribers == 1:
        metrics.insert(1, Metric("all", f"{title}, with sshd's shells and cats", "CPU-s/GiB"))
    ability = Ability.TRANSFER if subscribers == 1 else Ability.FAN_OUT
    return Case(name, ability, tuple(metrics), run, size, effort)


def _latency_case(
    name: str, title: str, goals: tuple[Goal, Goal], *, subscribers: int, warm_up: int
) -> Case:
    def run(system: System, plan: Plan, _: bool) -> dict[str, float]:
        messages = plan.messages if subscribers == 1 else plan.fan_out_messages
        return latency(
            system, subscribers=subscribers, cipher=AES, warm_up=warm_up, messages=messages
        )

    metrics = (
        Metric("p50", f"{title}, p50", "µs", goals[0], digits=0),
        Metric("p99", f"{title}, p99", "µs", goals[1], digits=0),
    )
    return Case(name, Ability.TRANSFER if subscribers == 1 else Ability.FAN_OUT, metrics, run)


CASES: Final[Sequence[Case]] = (
    _transfer_case("stock", "1→1, stock options", Goal(1.3, 0.2, 0.25), cipher=None),
    _transfer_case("aes", "1→1, aes128-gcm", Goal(1.3, 0.5)),
    _transfer_case("chacha", "1→1, chacha20-poly1305", Goal(), cipher=CHACHA),
    _transfer_case("fan8", "1→8, aes128-gcm", Goal(6.0, 0.4), subscribers=8, part=2),
    _transfer_case(
        "fan64",
        "1→64, aes128-gcm",
        Goal(),
        subscribers=64,
        part=8,
        effort=Effort.ONCE_IF_QUICK,
    ),
    _latency_case("latency", "64 B, 1→1", (Goal(140), Goal(300)), subscribers=1, warm_up=_WARM_UP),
    _latency_case(
        "latency50",
        "64 B, last of 50",
        (Goal(900), Goal(2000)),
        subscribers=50,
        warm_up=_FAN_OUT_WARM_UP,
    ),
    Case(
        "logins",
        Ability.LOGIN,
        (Metric("cpu", "login", "CPU-ms", Goal(1.0)), Metric("rate", "logins", "1/s", digits=0)),
        lambda system, plan, _: logins(system, plan.logins, AES),
    ),
    Case(
        "idle",
        Ability.MEMORY,
        (Metric("rss", "memory of an idle subscriber", "KiB", Goal(24), digits=1),),
        lambda system, plan, _: memory_of_idle(system, plan.idle_members, AES),
        effort=Effort.ONCE_IF_QUICK,
    ),
    Case(
        "web",
        Ability.WEB,
        (
            Metric("length", "HTTP, 1→1, with a length", "CPU-s/GiB", Goal(0.8)),
            Metric("chunked", "HTTP, 1→1, chunked", "CPU-s/GiB", Goal(1.0)),
            Metric("socket", "WebSocket, 1→1, 64 KiB frames", "CPU-s/GiB", Goal(1.3)),
            Metric("fan8", "HTTP, 1→8", "CPU-s/GiB", Goal(3.0)),
            Metric("rss", "memory of a waiting GET", "KiB", Goal(16), digits=1),
        ),
        lambda system, plan, verify: over_http(
            system, plan.size // 2, plan.idle_members, verify=verify
        ),
        lambda plan: plan.size // 2,
    ),
    Case(
        "hooks",
        Ability.WEB,
        (
            Metric("p50", "a hook's answer beside a stream, p50", "ms"),
            Metric("p99", "a hook's answer beside a stream, p99", "ms", Goal(5.0)),
        ),
        lambda system, plan, _: answers_to_hooks(system, plan.messages),
    ),
    Case(
        "logs",
        Ability.LOGS,
        (Metric("cores", "50,000 log lines/s to their 100 users", "cores", Goal(1.0)),),
        lambda system, plan, _: log_lines(system, plan.log_seconds),
    ),
    Case(
        "start",
        Ability.MEMORY,
        (Metric("rss", "memory at start", "MiB", Goal(64), digits=1),),
        lambda system, _, __: memory_at_start(system),
        effort=Effort.ONCE_IF_QUICK,
    ),
)
