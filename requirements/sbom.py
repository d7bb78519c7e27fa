"""Writes what a release is made of, in the form of CycloneDX.

That is the package, all that base.lock pins, and what web/package-lock.json adds to the wheel.

    python requirements/sbom.py [FILE]      # default: stdout

The same lock makes the same file: it has neither a date nor a random number in it.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "base.lock"
WEB_LOCK = ROOT / "web" / "package-lock.json"

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^\s;\\]+)(?: ; ([^\\]+?))?(?: \\)?$")
VIA = re.compile(r"^    #(?: via | {3})(\S+)")
"""Who needs the pin above: on one line after "via", or on a line each below it."""


class Pin(NamedTuple):
    """A package in a lock of Python's or of npm's.

    Attributes:
        name: As it is compared.
        version: The one version.
        marker: Where it is installed, empty: everywhere.
        needed_by: The packages that need it.
        registry: Whose name it is.
    """

    name: str
    version: str
    marker: str
    needed_by: tuple[str, ...]
    registry: str = "pypi"

    @property
    def purl(self) -> str:
        """Its name in the world."""
        return f"pkg:{self.registry}/{quote(self.name)}@{quote(self.version)}"


def read_pins(text: str) -> list[Pin]:
    """Read a lock as uv writes it."""
    pins: list[Pin] = []
    for line in text.splitlines():
        if found := PIN.match(line):
            name, version, marker = found.groups(default="")
            pins.append(Pin(canonicalize_name(name), version, marker, ()))
        elif found := VIA.match(line):
            last = pins[-1]
            pins[-1] = last._replace(needed_by=(*last.needed_by, canonicalize_name(found[1])))
    return pins


def read_web_pins(text: str, needed_by: str) -> list[Pin]:
    """Read a lock as npm writes it."""
    packages = json.loads(text)["packages"]
    return [
        Pin(path.removeprefix("node_modules/"), package["version"], "", (needed_by,), "npm")
        for path, package in packages.items()
        if path
    ]


def make_sbom(project: dict[str, Any], pins: list[Pin]) -> dict[str, Any]:
    """Make the document.

    Args:
        project: The table of that name in pyproject.toml.
        pins: What it is installed with.
    """
    whole = Pin(canonicalize_name(project["name"]), project["version"], "", ())
    needs: dict[str, list[str]] = {pin.purl: [] for pin in (whole, *pins)}
    for pin in pins:
        for other in (whole, *pins):
            if other.name in pin.needed_by:
                needs[other.purl].append(pin.purl)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                **_component("application", whole),
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
            }
        },
        "components": [_component("library", pin) for pin in pins],
        "dependencies": [
            {"ref": purl, "dependsOn": sorted(set(others))} for purl, others in needs.items()
        ],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{number}"}


def _component(kind: str, pin: Pin) -> dict[str, Any]:
    marker = {"properties": [{"name": "pipe:marker", "value": pin.marker}]} if pin.marker else {}
    return {
        "type": kind,
        "bom-ref": pin.purl,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.purl,
        **marker,
    }


def sbom_text() -> str:
    """Make the document of this checkout."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    pins = read_pins(LOCK.read_text(encoding="utf-8"))
    pins += read_web_pins(WEB_LOCK.read_text(encoding="utf-8"), canonicalize_name(project["name"]))
    return json.dumps(make_sbom(project, pins), indent=2) + "\n"


if __name__ == "__main__":
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(sbom_text(), encoding="utf-8")
    else:
        print(sbom_text(), end="")
