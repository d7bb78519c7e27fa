"""What is said once the server serves: a line of the log, and to people what to try first."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import structlog

from pipe import __version__
from pipe.data_dir import files_of
from pipe.language.requests import ssh_command
from pipe.settings import LogFormat, Signup

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipe.settings import Settings

log = structlog.get_logger()


def greet(
    settings: Settings, port: int, web_url: str, metrics_port: int, before: Collection[str]
) -> None:
    """Say where it serves, and what it has made to do so.

    Args:
        settings: what it runs with.
        port: where it listens for SSH.
        web_url: where the web pages are; empty if there are none.
        metrics_port: where it listens for scrapes; 0 if it does not.
        before: what was in its folder before it started: see `pipe.data_dir`.
    """
    if made := files_of(settings).difference(before):
        log.info("made", folder=str(settings.data_dir.absolute()), files=", ".join(sorted(made)))
    more = {"workers": settings.workers} if settings.workers > 1 else {}
    log.info(
        "serving",
        version=__version__,
        data=str(settings.data_dir.absolute()),
        ssh=_place(settings.host, port),
        web=web_url or "none",
        metrics=f"http://{_place(settings.metrics_host, metrics_port)}/metrics"
        if metrics_port
        else "none",
        signup=settings.resolved_signup.value,
        lane=settings.lane.value,
        **more,
    )
    if settings.log_format is LogFormat.CONSOLE:
        sys.stderr.write(_invitation(settings, port, web_url))


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _invitation(settings: Settings, port: int, web_url: str) -> str:
    """What to do next after starting a server by hand."""
    ssh = ssh_command(settings.resolved_public_host, settings.public_port or port, "alice")
    advice = 'If ssh says "Permission denied", make a key first: ssh-keygen -t ed25519'
    if settings.resolved_signup is Signup.CLOSED:
        store = f"--data-dir {shlex.quote(str(settings.data_dir.absolute()))}"
        if settings.database_url:
            store = "--database-url URL"
        advice = f"Sign-up is closed. Add users with: pipe user add NAME --key FILE.pub {store}"
    page = f"""or a browser at {web_url}: xdg-open "$({ssh} login)"\n\n"""
    return (
        "\nTry it from two other terminals:\n\n"
        f"    {ssh} sub greetings\n"
        f"    echo hello | {ssh} pub greetings\n"
        f"    {ssh} help\n\n"
        f"{page if web_url else ''}"
        f"{advice}\n\n"
    )
