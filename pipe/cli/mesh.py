"""The operator's commands for several machines that are one service."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipe.cli.options import SettingsCommand
from pipe.language.names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.mesh.status import LinkStatus, NodeStatus, Status
    from pipe.settings import Settings

STATUS_PROBLEM = 1
"""Of ``pipe mesh status`` when something is down."""


@click.group()
def mesh() -> None:
    """Look after several machines that are one service."""


@mesh.command("certificate")
@click.argument("name")
@click.option(
    "--ca",
    "folder",
    type=click.Path(),
    metavar="DIR",
    default="mesh",
    show_default=True,
    help="Folder of the CA, made if it is not there; the new files are put there too.",
)
def mesh_certificate(name: str, folder: str) -> None:
    """Make a certificate and key for the node NAME, and a CA for the first one."""
    from pipe.language.places import parse_node
    from pipe.mesh.certificates import explain, make

    click.echo(explain(parse_node(name), make(parse_node(name), Path(folder))))


class FolderCommand(SettingsCommand):
    """A command on a server that runs here: it takes the setting that says where its files are."""

    setting_names = ("data_dir",)


@mesh.command("status", cls=FolderCommand)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def mesh_status(settings: Settings, as_json: bool) -> int:
    """Say how the node that runs here is, and what it knows of the others.

    The status is 0 if all is well, 1 if something is down, and 69 if nobody answers here.
    """
    from pipe.mesh.status import fetch

    status = fetch(settings.data_dir)
    click.echo(_as_json(status) if as_json else "\n".join(_draw(status)))
    return STATUS_PROBLEM if status.problems else 0


def _as_json(status: Status) -> str:
    more = {"problems": status.problems, "warnings": status.warnings}
    return json.dumps({**dataclasses.asdict(status), **more})


def _draw(status: Status) -> Iterator[str]:
    """All of it, for people."""
    from pipe.commands.layout import date, listed, span, table

    rows = [_node_row(node) for node in status.nodes]
    yield table(("NODE", "STATE", "FOR", "HEARD", "VERSION", "WORKERS", "CERTIFICATE UNTIL"), rows)
    connections = [(one.worker, one.state, str(one.connections)) for one in status.workers]
    yield table(("WORKER", "STATE", "CONNECTIONS"), connections)
    if status.links:
        header = ("LINK", "OPENED", "FOR", "RTT", "SENT", "RECEIVED", "UNSENT", "SESSIONS")
        yield table(header, map(_link_row, status.links))
    else:
        yield "no links: they are opened when somebody needs a topic of another worker\n"
    directory = status.directory
    state = "reachable" if directory.reachable else "NOT REACHABLE"
    yield (
        f"database: {state}, answered {span(directory.answered_seconds)} ago,"
        f" {directory.errors} errors since the start"
    )
    ends = [f"{one.name} until {date(one.until, '')}" for one in status.certificates]
    yield f"certificates: {listed(ends)}"
    for text in status.warnings:
        yield f"warning: {text}"
    for text in status.problems:
        yield f"problem: {text}"


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    from pipe.commands.layout import date, span

    heard = "" if node.state == "here" else "-"
    if node.heard_seconds is not None and node.state == "there":
        heard = f"{node.heard_seconds:.1f}s ago"
    return (
        escape(node.node),
        node.state,
        span(node.seconds),
        heard,
        escape(node.version or "-"),
        "-" if node.workers is None else str(node.workers),
        date(node.certificate_until, "-"),
    )


def _link_row(link: LinkStatus) -> tuple[str, ...]:
    from pipe.commands.layout import size, span

    return (
        f"{link.worker} {'to' if link.opened == 'here' else 'from'} {escape(link.peer)}",
        link.opened,
        span(link.seconds),
        "-" if link.rtt_seconds is None else f"{link.rtt_seconds * 1000:.1f} ms",
        size(link.sent_bytes),
        size(link.received_bytes),
        size(link.unsent_bytes),
        str(link.sessions),
    )
