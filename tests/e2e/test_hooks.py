"""Hooks with real senders: Debian's docker-registry and skopeo, and curl."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from .clients import HOST, KeyRing
from .processes import Process, wait_until
from .registry import make_image, push, registry
from .server import LANES, Server, Status, free_port
from .web import is_listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(tmp_path: Path, keys: KeyRing) -> Iterator[Server]:
    """A server on which alice is known."""
    server = Server(tmp_path / "data", keys, LANES[0])
    server.introduce("alice")
    yield server
    server.drop_clients()
    server.wait_empty()
    assert server.stop() == Status.OK
    server.check_log()


def answer(server: Server, command: str) -> str:
    """What alice's command prints."""
    client = server.run("alice", command)
    assert client.wait() == Status.OK, client
    return client.output


def deliveries(server: Server) -> list[dict[str, Any]]:
    """What came of those to alice's only hook, the newest first."""
    found: list[dict[str, Any]] = json.loads(answer(server, "hooks --json"))["deliveries"]
    return found


def test_push_is_told(server: Server, tmp_path: Path) -> None:
    """``sub alpine:latest`` ends with one line when somebody pushes that image."""
    hook = answer(server, "hooks add alice/ --kind distribution").split()
    image = tmp_path / "image"
    digest = make_image(image, b"one")
    [reader] = server.subscribe("alice", "sub alpine:latest")
    with registry(tmp_path, hook=hook) as upstream:
        for name in ("alice/alpine:v1", "alice/alpine:latest"):
            assert push(server, image, upstream.port, name).wait() == 0
        assert reader.wait() == Status.OK
    [line] = reader.output.splitlines()
    event = json.loads(line)
    assert event["event"] == "push"
    assert (event["repository"], event["tag"]) == ("alice/alpine", "latest")
    assert event["digest"] == digest
    assert event["source"] == "distribution"


def test_registry_tells_again(server: Server, tmp_path: Path) -> None:
    """A registry whose pushes could not be told tells them later, and each of them counts once."""
    hook = answer(server, "hooks add alice/ --kind distribution --hold 10m").split()
    folders = [tmp_path / "first", tmp_path / "second"]
    digests = [make_image(folder, folder.name.encode()) for folder in folders]
    with registry(tmp_path, hook=hook) as upstream:
        assert server.stop() == Status.OK
        assert push(server, folders[0], upstream.port, "alice/alpine:latest").wait() == 0
        server.restart()
        wait_until(lambda: deliveries(server), "it to be told again")
        got = answer(server, "sub alpine:latest")
        assert json.loads(got)["digest"] == digests[0]
        assert push(server, folders[1], upstream.port, "alice/alpine:latest").wait() == 0
        got = answer(server, "sub alpine:latest")
        assert json.loads(got)["digest"] == digests[1]
        published = [one for one in deliveries(server) if one["events"]]
        assert len(published) == 2


def test_proxy_and_registry_tell_of_one_push(tmp_path: Path, keys: KeyRing) -> None:
    """A push through the server is one event, though the registry behind it tells of it too."""
    image, port = tmp_path / "image", free_port()
    digest = make_image(image, b"one")
    where = f"http://{HOST}:{port}"
    server = Server(tmp_path / "data", keys, LANES[0], registry_url=where)
    try:
        server.introduce("alice")
        hook = answer(server, "hooks add alice/ --kind distribution").split()
        [reader] = server.subscribe("alice", "sub -k 'alpine:*'")
        forwarded = free_port()
        server.ssh("alice", "", options=("-L", f"{forwarded}:localhost:80", "-N"))
        wait_until(lambda: is_listening(forwarded), "the port to be forwarded")
        with registry(tmp_path, port, hook):
            for told, tag in enumerate(("v1", "latest"), 1):
                assert push(server, image, forwarded, f"alpine:{tag}").wait() == Status.OK
                wait_until(partial(has_told, server, told), "the registry to tell")
        wait_until(lambda: reader.output.count("\n") >= 2, "the events")
        events = [json.loads(line) for line in reader.output.splitlines()]
        assert [(one["tag"], one["digest"]) for one in events] == [
            ("v1", digest),
            ("latest", digest),
        ]
    finally:
        server.stop()
    server.check_log()


def has_told(server: Server, pushes: int) -> bool:
    """Whether the registry has told of so many pushes."""
    return len([one for one in deliveries(server) if one["result"] != "ignored"]) >= pushes


def test_curl_is_enough(server: Server) -> None:
    """Whatever can post with a header can publish."""
    url, secret = answer(server, "hooks add greetings").split()
    [reader] = server.subscribe("alice", "sub greetings")
    words = ["curl", "-q", "-sS", "-w", "%{http_code}", "-H", f"Authorization: Bearer {secret}"]
    curl = server.adopt(Process([*words, "--data-binary", "hello", url]))
    assert curl.wait() == 0, curl
    assert curl.output == "202"
    assert reader.wait() == Status.OK
    assert reader.output == "hello"
    assert HOST in url
    assert secret not in server.log
    assert (
        server.metrics().value("pipe_hook_deliveries_total", kind="generic", result="published")
        == 1
    )
