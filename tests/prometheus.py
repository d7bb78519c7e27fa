"""A real Prometheus, and what a Grafana would ask it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from .e2e.clients import HOST
from .e2e.processes import DEADLINE, Process, wait_until
from .e2e.server import ROOT, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GRAFANA: Final = ROOT / "grafana"
DASHBOARD: Final = GRAFANA / "dashboard.json"
CONFIG: Final = GRAFANA / "prometheus.yml"
ALERTS: Final = GRAFANA / "alerts.yml"

TARGET: Final = "pipe:9222"
"""The server in the configuration that we ship."""

SCRAPE_INTERVAL: Final = "500ms"
WINDOW: Final = "30m"
"""What stands for the range of a rate: longer than the test, so that all its traffic is in it."""

Sample = dict[str, Any]
"""One element of an instant vector, as the HTTP API has it."""


class Query(NamedTuple):
    """One expression of the dashboard, and the title of its panel."""

    panel: str
    expression: str

    def filled(self, instance: str) -> str:
        """The expression as Grafana sends it, its variables replaced."""
        values = {"__rate_interval": WINDOW, "__range": WINDOW, "instance": instance}
        return re.sub(r"\$(\w+)", lambda found: values[found[1]], self.expression)


def read_dashboard() -> dict[str, Any]:
    """The dashboard that we ship."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return dashboard


def panels() -> Iterator[dict[str, Any]]:
    """Its panels, without the rows that only group them."""
    yield from (panel for panel in read_dashboard()["panels"] if panel["type"] != "row")


def queries() -> list[Query]:
    """Every expression of every panel."""
    return [
        Query(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]
    ]


def metric_names(expression: str) -> set[str]:
    """The metrics of ours, and of the client library, that an expression names."""
    return set(re.findall(r"\b(?:pipe|process|python)_[a-z_]+\b", expression))


def promtool(*words: str | Path) -> str:
    """Run `promtool` to its end and return what it says, or fail with it."""
    ran = subprocess.run(
        ["promtool", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


class Prometheus:
    """A Prometheus that runs our configuration on a server of ours, only more often."""

    def __init__(self, directory: Path, instance: str) -> None:
        self.instance = instance
        self.port = free_port()
        text = CONFIG.read_text(encoding="utf-8").replace(TARGET, instance)
        text = re.sub(r"(_interval|_timeout): \w+", rf"\1: {SCRAPE_INTERVAL}", text)
        config = directory / "prometheus.yml"
        config.write_text(text, encoding="utf-8")
        (directory / ALERTS.name).write_bytes(ALERTS.read_bytes())
        self.process = Process(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={HOST}:{self.port}",
                "--log.level=warn",
            ]
        )
        wait_until(self._is_ready, f"Prometheus is ready\n{self.process}")

    def _is_ready(self) -> bool:
        assert self.process.running, self.process
        try:
            status, _ = self._request("GET", "/-/ready")
        except OSError:
            return False
        return status == http.client.OK

    def _request(self, method: str, path: str, body: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now; samples that are no number count as none."""
        answer = self._answer("POST", "/api/v1/query", urlencode({"query": expression}))
        assert answer["status"] == "success", (expression, answer)
        samples: list[Sample] = answer["data"]["result"]
        return [sample for sample in samples if sample["value"][1] != "NaN"]

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules as Prometheus has read them."""
        answer = self._answer("GET", "/api/v1/rules")
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    def _answer(self, method: str, path: str, body: str = "") -> dict[str, Any]:
        _, text = self._request(method, path, body)
        answer: dict[str, Any] = json.loads(text)
        return answer

    def wait_query(self, expression: str, what: str = "") -> list[Sample]:
        """Return the samples of an expression once it has some."""
        return wait_until(lambda: self.query(expression), f"data for {what} {expression}")

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait()
        finally:
            self.process.kill()
