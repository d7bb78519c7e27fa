"""Webhooks, made with a real client and received by a real server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook

from .receiver import receiving
from .server import Server, Status

if TYPE_CHECKING:
    from .conftest import StartServer
    from .receiver import Posted

pytestmark = pytest.mark.e2e

NETWORKS = "127.0.0.0/8"


def ask(server: Server, command: str, stdin: bytes | None = None) -> str:
    """What alice is answered."""
    client = server.run("alice", command, stdin)
    assert client.wait() == Status.OK, client
    return client.output


def verify(post: Posted, secret: str, text: str) -> None:
    """Check a POST as its receiver does."""
    headers = {name.lower(): value for name, value in post.headers.items()}
    Webhook(secret).verify(post.body.decode(), headers, json_parse=False)
    assert post.body.decode() == text


def test_from_a_pub_to_a_receiver(start_server: StartServer) -> None:
    """What is published is posted and verified, also after a restart and without the web pages."""
    server = start_server(webhook_networks=NETWORKS, web_port=0)
    with receiving() as receiver:
        secret = ask(server, f"webhooks add deploys {receiver.url} --frame line").strip()
        one = json.loads(ask(server, "webhooks --json"))["id"]
        assert ask(server, "pub deploys", b'{"tag":"v1"}\nv2\n') == ""
        for post, text in zip(receiver.wait(2), ('{"tag":"v1"}', "v2"), strict=True):
            verify(post, secret, text)
        assert ask(server, f"webhooks test {one}").startswith("answered 200 after")

        assert server.stop() == Status.OK
        server.restart()
        ask(server, "pub deploys", b"v3\n")
        verify(receiver.wait(4)[-1], secret, "v3")

        receiver.status = 500
        failed = server.run("alice", f"webhooks test {one}")
        assert failed.wait() == Status.BROKEN
        assert "the test has not arrived: answered 500" in failed.text
        ask(server, f"webhooks rm {one}")
        assert ask(server, "webhooks --json") == ""


def test_private_networks_are_closed(server: Server) -> None:
    """Unless the operator opens them, nothing is sent to this machine, by whatever name."""
    with receiving() as receiver:
        client = server.run("alice", f"webhooks add x {receiver.url}")
        assert client.wait() == Status.USAGE
        assert "use https" in client.text
        url = receiver.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
        ask(server, f"webhooks add x {url}")
        one = json.loads(ask(server, "webhooks --json"))["id"]
        client = server.run("alice", f"webhooks test {one}")
        assert client.wait() == Status.BROKEN
        assert "is not a public address" in client.text
        assert not receiver.posts
        ask(server, f"webhooks rm {one}")
