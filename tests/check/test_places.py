"""The check of addresses and ports, and of what is said about HTTP."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from pipe.check.findings import Level
from pipe.check.places import check_places
from pipe.ssh.server import SERVER_VERSION
from tests.e2e.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.check import Finding
    from pipe.settings import Settings

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nobody listens


def look(settings: Settings) -> dict[str, Finding]:
    """All findings by what they are about."""
    return {finding.about: finding for finding in check_places(settings)}


def test_free_ports(make: Callable[..., Settings]) -> None:
    """Ports that nobody has are free, and are so afterwards."""
    ports = {"port": free_port(), "web_port": free_port(), "metrics_port": free_port()}
    for _ in range(2):
        found = look(make(**ports))
        assert set(found) == {"port", "web-port", "metrics-port", "web-url"}
        assert {finding.level for finding in found.values()} == {Level.OK}


def test_taken_port(make: Callable[..., Settings]) -> None:
    """A port of another program is an error, with how to find that one."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        found = look(make(metrics_port=port, web_port=port))
    assert found["web-port"].level is Level.ERROR
    assert f"cannot listen on {HOST}:{port}: Address already in use; 'ss -ltnp'" in str(
        found["web-port"]
    )
    assert "is also what web-port says" in found["metrics-port"].text


def test_port_of_a_running_server(make: Callable[..., Settings]) -> None:
    """Beside the server itself its ports are in use: that is a warning, as it will be stopped."""
    with socket.create_server((HOST, 0)) as taken:

        def greet() -> None:
            with taken.accept()[0] as connection:
                connection.sendall(f"SSH-2.0-{SERVER_VERSION}\r\n".encode())

        thread = threading.Thread(target=greet)
        thread.start()
        found = look(make(port=taken.getsockname()[1]))
        thread.join()
    assert found["port"].level is Level.WARNING
    assert "the pipe server that runs here" in found["port"].text


def test_port_that_nobody_asked_for(
    make: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start goes on without HTTP if its port is only a default, so that is no error."""
    with socket.create_server((HOST, 0)) as taken:
        settings = make()
        monkeypatch.setitem(settings.__dict__, "web_port", taken.getsockname()[1])
        settings.model_fields_set.discard("web_port")
        assert look(settings)["web-port"].level is Level.WARNING


def test_host_of_another_machine(make: Callable[..., Settings]) -> None:
    """An address that this machine has not got is an error."""
    found = look(make(host="192.0.2.1", port=free_port()))
    assert (found["port"].level, "--host or --port" in found["port"].text) == (Level.ERROR, True)


PROXY = {"web_proxies": "10.0.0.1"}
HTTPS = {"web_tls_cert": "cert.pem"}
URL = "https://pipe.example.org"


@pytest.mark.parametrize(
    ("settings", "level", "said"),
    [
        ({}, Level.OK, "links lead to http://127.0.0.1"),
        ({"web_url": URL}, Level.WARNING, "nobody speaks it"),
        ({"web_url": URL, **HTTPS}, Level.WARNING, "for this machine alone"),
        ({"web_url": URL, **PROXY}, Level.OK, URL),
        ({"web_url": URL, "web_host": EVERYWHERE, **HTTPS}, Level.OK, URL),
        ({"web_url": "http://pipe.example.org", **HTTPS}, Level.WARNING, "write https"),
        ({"web_url": URL, "web_port": 0}, Level.WARNING, "web-port is 0"),
        ({"host": EVERYWHERE}, Level.OK, "links lead to"),
        ({"host": EVERYWHERE, "web_tunnel": False}, Level.WARNING, "only this machine can open"),
    ],
)
def test_web_url(
    make: Callable[..., Settings], settings: dict[str, object], level: Level, said: str
) -> None:
    """The address that links begin with has to lead to where the server listens."""
    found = look(make(**{"web_port": free_port(), **settings}))["web-url"]
    assert (found.level, said in found.text) == (level, True), found


def test_tokens_in_the_open(make: Callable[..., Settings]) -> None:
    """What stops the start because of tokens in the open is an error in the same words."""
    found = look(make(web_host=EVERYWHERE, web_port=free_port()))["web-host"]
    assert (found.level, "--web-plain yes" in found.text) == (Level.ERROR, True)
