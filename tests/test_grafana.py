"""The dashboard and the alerts, on a real Prometheus while real traffic flows."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx
import pytest

from .e2e.clients import HOST, KeyRing
from .e2e.nodes import Nodes
from .e2e.payloads import KIB, noise
from .e2e.processes import HELD, statuses, wait_until
from .e2e.server import ROOT, Server, Status
from .e2e.web import url
from .prometheus import (
    ALERTS,
    CONFIG,
    GRAFANA,
    Prometheus,
    metric_names,
    panels,
    promtool,
    queries,
    read_dashboard,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .postgres import Postgres

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("grafana")]

READERS: Final = 3


class Scene(NamedTuple):
    """A node of two workers with some traffic behind it, and the Prometheus that watches it."""

    server: Server
    prometheus: Prometheus


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Scene]:
    """Both, running."""
    directory = tmp_path_factory.mktemp("grafana")
    nodes = Nodes(directory, KeyRing(directory), postgres.new_database())
    try:
        server = nodes.start("n1", workers=2)
        prometheus = Prometheus(directory, f"{HOST}:{server.metrics_port}")
        try:
            # A rate needs a sample from before the traffic.
            prometheus.wait_query('up{job="pipe"} == 1')
            drive(server)
            yield Scene(server, prometheus)
        finally:
            prometheus.stop()
    finally:
        nodes.close()


def drive(server: Server) -> None:
    """A little of all that there is: streams, a chat, a timeout, a refused login, who waits."""
    server.introduce("alice")
    data = noise(256 * KIB)
    readers = server.subscribe("alice", "sub film", count=READERS)
    writer = server.ssh("alice", "pub film", stdin=data)
    assert statuses(writer, *readers) == [Status.OK] * (READERS + 1)
    members = [server.ssh("alice", "pipe room", stdin=HELD) for _ in range(2)]
    server.wait_sessions(pipe=2)
    members[0].write(b"hello\n")
    members[1].wait_stdout(6)
    assert server.run("alice", "pub -t 100ms nobody").wait() == Status.TIMEOUT
    assert server.ssh("alice", "whoami", key_of="bob").wait() == Status.NO_CONNECTION
    server.ssh("alice", "pub later", stdin=HELD)
    server.wait_waiting()
    assert httpx.get(url(server, "/healthz")).status_code == httpx.codes.OK
    hooks = server.run("alice", "hooks add greetings")
    assert hooks.wait() == Status.OK
    address, secret = hooks.output.split()
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.post(address, content=b"hello", headers=headers).is_success


def test_the_configuration_is_what_prometheus_takes() -> None:
    """`promtool` finds no fault with the configuration and the rules, nor a rule given twice."""
    assert "1 rule files found" in promtool("check", "config", CONFIG)
    assert "rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", ALERTS)


def test_every_panel_has_data(scene: Scene) -> None:
    """Each expression of each panel can be evaluated, and shows something of the traffic."""
    for query in queries():
        scene.prometheus.wait_query(query.filled(scene.prometheus.instance), query.panel)


def test_panels_show_what_happened(scene: Scene) -> None:
    """The figures are those of the traffic, not only some figures."""

    def value(panel: str, comparison: str) -> None:
        [query] = [query for query in queries() if query.panel == panel]
        scene.prometheus.wait_query(f"({query.filled('.*')}) {comparison}", panel)

    value("Up", "== 1")
    value("Fan-out", "> 2.5 < 3.5")
    value("Size of a chunk", "> 1000")
    for outcome in ("done", "timeout"):
        value(
            "Ends by outcome",
            f'and on(outcome) label_replace(vector(1), "outcome", "{outcome}", "", "")',
        )


def test_panels_show_the_chosen_instances_only(scene: Scene) -> None:
    """Every part of every expression heeds the variable `instance`."""
    for query in queries():
        assert scene.prometheus.query(query.filled("nobody:1")) == [], query
        selectors = query.expression.count("{")
        assert query.expression.count('instance=~"$instance"') == selectors, query


def test_every_alert_can_be_evaluated(scene: Scene) -> None:
    """Each alert's expression is evaluated without an error, and none fires on a healthy server."""
    for rule in scene.prometheus.rules():
        # On a busy machine a scrape may come too late for Prometheus; the next one does not.
        wait_until(partial(is_silent, scene.prometheus, rule["query"]), f"{rule['name']} is silent")
        assert rule["health"] in {"ok", "unknown"}, rule


def is_silent(prometheus: Prometheus, expression: str) -> bool:
    """Whether an alert with this expression would not fire."""
    return not prometheus.query(expression)


def test_the_restarts_annotation_can_be_evaluated(scene: Scene) -> None:
    """The dashboard's own annotation query parses."""
    expressions = [
        each["expr"] for each in read_dashboard()["annotations"]["list"] if "expr" in each
    ]
    assert expressions
    for expression in expressions:
        assert scene.prometheus.query(expression.replace("$instance", ".*")) == []


def test_every_metric_that_is_named_exists(scene: Scene) -> None:
    """No panel and no alert asks for a metric that the server does not have."""
    exposed = scene.server.metrics().names
    expressions = [query.expression for query in queries()]
    expressions += [rule["query"] for rule in scene.prometheus.rules()]
    named = {name for expression in expressions for name in metric_names(expression)}
    assert len(named) > 20
    assert named - exposed == set()


def test_every_metric_is_shown(scene: Scene) -> None:
    """What the server counts for operators is on a panel: all metrics of its own."""
    exported = {sample.name for sample in scene.server.metrics().samples}
    shown = {name for query in queries() for name in metric_names(query.expression)}
    ours = {family(name) for name in exported if name.startswith("pipe_")}
    assert len(ours) > 20
    assert ours - {family(name) for name in shown} == set()


def family(name: str) -> str:
    """What a sample belongs to, where it is a part of a histogram."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_every_alert_says_what_to_do(scene: Scene) -> None:
    """Each alert has a severity, a summary, a description, and a paragraph in the guide."""
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (\w+)$", guide, re.MULTILINE))
    rules = scene.prometheus.rules()
    assert {rule["name"] for rule in rules} == {
        name for name in headings if name.startswith("Pipe")
    }
    for rule in rules:
        notes = rule["annotations"]
        assert notes["runbook"] == f"docs/operations.md#{rule['name'].lower()}"
        assert notes["summary"]
        assert notes["description"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def test_every_panel_explains_itself() -> None:
    """Each panel has a title, a description, a unit and thresholds, and asks the chosen source."""
    seen = set()
    for panel in panels():
        assert len(panel["description"]) > 30, panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["thresholds"]["steps"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        seen.add(panel["title"])
    assert len(seen) == len(list(panels()))


def test_panels_do_not_overlap() -> None:
    """Every cell of the grid belongs to one panel at most, and the grid is 24 cells wide."""
    taken: dict[tuple[int, int], str] = {}
    for panel in read_dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((column, line), panel["title"]) == panel["title"]


def test_what_compose_mounts_is_there() -> None:
    """Each file and folder that `compose.yml` takes from its own folder exists."""
    mounts = re.findall(r"- \./([^\s:]+):", (GRAFANA / "compose.yml").read_text(encoding="utf-8"))
    assert {"prometheus.yml", "alerts.yml", "dashboard.json"} <= set(mounts)
    assert [mount for mount in mounts if not (GRAFANA / mount).exists()] == []


# Alerts on made-up series: one sample a minute for two hours.

Series = dict[str, str]
"""Promtool's notation: `1+2x3` is 1 3 5 7."""

MINUTES: Final = 120


def steady(value: float) -> str:
    """A gauge that stays."""
    return f"{value:g}x{MINUTES}"


def growing(per_minute: float) -> str:
    """A counter that grows evenly."""
    return f"0+{per_minute:g}x{MINUTES}"


def histogram(name: str, fast: float, all_of_them: float, bound: str) -> Series:
    """One whose buckets up to `bound` get `fast` observations a minute."""
    return {
        f'{name}_bucket{{instance="a",le="{bound}"}}': growing(fast),
        f'{name}_bucket{{instance="a",le="10"}}': growing(all_of_them),
        f'{name}_bucket{{instance="a",le="+Inf"}}': growing(all_of_them),
    }


ENDED: Final = 'pipe_sessions_ended_total{instance="a",mode="subscribe",outcome="%s"}'
CUT_OFF: Final = 'pipe_disconnects_total{instance="a",reason="%s"}'
UP: Final = 'up{job="pipe",instance="a"}'
STARTED: Final = 'process_start_time_seconds{job="pipe",instance="a"}'
WORKER_UP: Final = 'pipe_up{instance="a",worker="1"}'
WORKER_STARTED: Final = 'process_start_time_seconds{job="pipe",instance="a",worker="1"}'
NODES: Final = 'pipe_mesh_nodes{instance="a",state="%s"}'
NEWS_AGE: Final = 'pipe_mesh_news_age_seconds{instance="a"}'
DIRECTORY: Final = 'pipe_mesh_directory_up{instance="a"}'
BROKEN_LINKS: Final = 'pipe_links_broken_total{instance="a",to="node"}'
UNSENT: Final = 'pipe_link_unsent_bytes{instance="a",to="node"}'
CERTIFICATE: Final = (
    'pipe_mesh_certificate_expiry_timestamp_seconds{instance="a",certificate="node"}'
)
TRIES: Final = 'pipe_webhook_attempts_total{instance="a",result="%s"}'
LINES: Final = 'pipe_log_lines_total{instance="a",result="%s"}'
REFUSED: Final = 'pipe_refused_total{instance="a",reason="%s"}'

HEALTHY: Final[Series] = {
    UP: steady(1),
    STARTED: steady(1000),
    WORKER_UP: steady(1),
    WORKER_STARTED: steady(1000),
    NODES % "up": steady(3),
    NODES % "lost": steady(0),
    NEWS_AGE: steady(1),
    DIRECTORY: steady(1),
    BROKEN_LINKS: f"0x{MINUTES - 10} 4x10",  # when a machine is lost, all break at once
    UNSENT: steady(4000),
    CERTIFICATE: steady(1e9),
    **histogram("pipe_loop_lag_seconds", 240, 240, "0.1"),
    **histogram("pipe_handshake_seconds", 60, 60, "1"),
    'pipe_logins_total{instance="a",result="accepted"}': growing(600),
    'pipe_logins_total{instance="a",result="failed"}': growing(4),
    REFUSED % "claims": growing(1),
    REFUSED % "draining": growing(600),
    ENDED % "done": growing(100),
    ENDED % "broken": growing(2),
    ENDED % "stalled": growing(0.1),
    ENDED % "failed": growing(0),
    CUT_OFF % "idle": growing(10),
    CUT_OFF % "failed": growing(0),
    'pipe_publisher_paused_seconds_total{instance="a"}': growing(6),
    'process_open_fds{job="pipe",instance="a"}': steady(100),
    'process_max_fds{job="pipe",instance="a"}': steady(1000),
    'process_resident_memory_bytes{job="pipe",instance="a"}': steady(2e8),
    'process_cpu_seconds_total{job="pipe",instance="a"}': growing(30),
    'pipe_memory_alarm{instance="a"}': steady(0),
    TRIES % "delivered": growing(10),
    TRIES % "refused": growing(5),
    LINES % "user": growing(600),
    LINES % "missed": growing(10),
    LINES % "dropped": growing(0),
}

FIRING: Final[dict[str, Series]] = {
    "PipeDown": {UP: steady(0)},
    "PipeNotWatched": {UP: ""},
    "PipeRestarting": {STARTED: f"1000+300x{MINUTES}"},
    "PipeWorkerDown": {WORKER_UP: steady(0)},
    "PipeWorkerRestarting": {WORKER_STARTED: f"1000+300x{MINUTES}"},
    "PipeNodeLost": {NODES % "lost": steady(1)},
    "PipeNodeSilent": {NEWS_AGE: steady(60)},
    "PipeDirectoryDown": {DIRECTORY: steady(0)},
    "PipeLinksBreaking": {BROKEN_LINKS: growing(0.2)},
    "PipeLinksFull": {UNSENT: steady(4e6)},
    "PipeCertificateExpiring": {CERTIFICATE: steady(1e6)},
    "PipeLoopLag": histogram("pipe_loop_lag_seconds", 200, 240, "0.1"),
    "PipeSlowHandshakes": histogram("pipe_handshake_seconds", 30, 60, "1"),
    "PipeLoginsFailing": {'pipe_logins_total{instance="a",result="refused"}': growing(90)},
    "PipeRefusing": {REFUSED % "claims": growing(60)},
    "PipeStreamsBreaking": {ENDED % "broken": growing(40)},
    "PipeReadersCutOff": {ENDED % "stalled": growing(1)},
    "PipePublishersHeldBack": {
        'pipe_publisher_paused_seconds_total{instance="a"}': growing(60),
    },
    "PipeFailures": {ENDED % "failed": growing(1)},
    "PipeDescriptorsLow": {'process_open_fds{job="pipe",instance="a"}': steady(900)},
    "PipeMemoryHigh": {'process_resident_memory_bytes{job="pipe",instance="a"}': steady(2e9)},
    "PipeMemoryShort": {'pipe_memory_alarm{instance="a"}': steady(1)},
    "PipeWebhooksFailing": {TRIES % "delivered": growing(0)},
    "PipeLogLinesDropped": {LINES % "dropped": growing(1)},
    "PipeProcessorFull": {'process_cpu_seconds_total{job="pipe",instance="a"}': growing(58)},
}
"""What each alert is for, as changes to the healthy series; an empty one is not there."""


def rule_test(series: Series, expected: list[str]) -> dict[str, Any]:
    """One of `promtool`'s tests: which alerts fire after these two hours, and no others."""
    return {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in series.items() if values
        ],
        "promql_expr_test": [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in expected
                ],
            }
        ],
    }


def test_each_alert_fires_on_its_own_trouble_only(scene: Scene, tmp_path: Path) -> None:
    """A healthy server raises no alert, and each kind of trouble exactly the one made for it."""
    assert set(FIRING) == {rule["name"] for rule in scene.prometheus.rules()}
    tests = [rule_test(HEALTHY, [])]
    tests += [rule_test(HEALTHY | series, [alert]) for alert, series in FIRING.items()]
    tests.append(rule_test(HEALTHY | {CUT_OFF % "failed": growing(1)}, ["PipeFailures"]))
    path = tmp_path / "tests.yml"  # every JSON document is a YAML document
    path.write_text(
        json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests})
    )
    promtool("test", "rules", path)
