"""The container registry behind ``/v2/``: does it answer?"""

from __future__ import annotations

import base64
import http.client
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipe.check.findings import Finding, ok, warning
from pipe.language.names import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipe.settings import Settings

_ANSWER_SECONDS = 5.0


def check_registry(settings: Settings) -> Iterator[Finding]:
    """Ask it for ``/v2/``, which each registry has."""
    if settings.registry_url and settings.web_port:
        yield _ask(settings.registry_url)


def _ask(url: str) -> Finding:
    about, parts = "registry-url", urlsplit(url)
    place = parts.netloc.rpartition("@")[2]  # without the password
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    connection = kind(str(parts.hostname), parts.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", f"{parts.path}/v2/", headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as problem:
        reason = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
        return warning(
            about,
            f"{place} does not answer ({escape(reason)}): start it, or users get 502 for images",
        )
    finally:
        connection.close()
    if status == http.HTTPStatus.OK:
        return ok(about, f"{place} answers")
    if status in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
        return warning(
            about,
            f"{place} does not let this server in: give a name and password that fit, as in"
            f" {parts.scheme}://NAME:PASSWORD@{place}",
        )
    return warning(about, f"{place} answers {status} at {parts.path}/v2/: is it a registry?")
