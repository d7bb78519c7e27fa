"""What docs/operations.md offers for several machines: settings, the compose file and HAProxy's."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Final

import pytest

from pipe.settings import load

from .e2e.server import ROOT
from .e2e.web import which

DOCS: Final = ROOT / "docs"
COMPOSE: Final = (DOCS / "compose-mesh.yml").read_text(encoding="utf-8")
NODES: Final = ("n1", "n2", "n3")


def set_all(lines: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put variables into the environment."""
    for name, value in lines.items():
        monkeypatch.setenv(name, value)


def service(name: str) -> str:
    """What the compose file has for a service."""
    [found] = re.findall(rf"^  {name}:\n((?:    .*\n)+)", COMPOSE, re.MULTILINE)
    return str(found)


def variables(text: str) -> dict[str, str]:
    """The server's settings in a part of the compose file."""
    found = re.findall(r"^ +(PIPE_\w+): (.*)$", text, re.MULTILINE)
    return {name: value.strip('"') for name, value in found}


def test_the_documented_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's /etc/default/pipe can be used, and makes a node of a mesh."""
    guide = (DOCS / "operations.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```sh\n(PIPE_.*?)```", guide, re.DOTALL)
    set_all(dict(line.split("=", 1) for line in shlex.split(example)), monkeypatch)
    settings = load({})
    assert (settings.node, settings.mesh) == ("n1", "10.0.0.1:2223")
    assert settings.join == "10.0.0.1:2223,10.0.0.2:2223,10.0.0.3:2223"


@pytest.mark.parametrize("name", NODES)
def test_nodes_of_the_compose_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has settings that exist, an address of its own and its own certificate."""
    shared = variables(COMPOSE.partition("\nservices:")[0])
    shared["PIPE_DATABASE_URL"] = re.sub(r"\$\{.*?}", "secret", shared["PIPE_DATABASE_URL"])
    shared["PIPE_PUBLIC_HOST"] = "localhost"
    set_all(shared | variables(service(name)), monkeypatch)
    settings = load({})
    [address] = re.findall("ipv4_address: (.*)", service(name))
    assert (settings.node, settings.mesh) == (name, f"{address}:2223")
    assert f"{address}:2223" in str(settings.join).split(",")
    assert str(settings.mesh_cert) == f"/etc/pipe/{name}.pem"
    assert str(settings.mesh_key) == f"/etc/pipe/{name}.key"
    assert f'"{name}:{address}"' in service("haproxy")


def test_haproxy_is_trusted() -> None:
    """The limits per address do not hold for the balancer, whose address all clients have."""
    [address] = re.findall("ipv4_address: (.*)", service("haproxy"))
    assert address in variables(COMPOSE)["PIPE_TRUSTED_SOURCES"].split(",")


def test_what_compose_mounts_is_there() -> None:
    """Each file that the compose file takes from its own folder exists."""
    mounts = re.findall(r"- \./([^\s:]+):", COMPOSE)
    assert mounts == ["haproxy.cfg"]
    assert (DOCS / "haproxy.cfg").exists()


def test_haproxy_takes_its_file() -> None:
    """HAProxy finds no fault with the file, whether the nodes' names are known here or not."""
    subprocess.run([which("haproxy"), "-c", "-q", "-f", DOCS / "haproxy.cfg"], check=True)


def test_unit_replaces_workers() -> None:
    """`systemctl reload` sends SIGHUP."""
    unit = (DOCS / "pipe.service").read_text(encoding="utf-8")
    assert "\nExecReload=kill -HUP $MAINPID\n" in unit
