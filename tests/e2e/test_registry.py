"""A real registry behind the server, real clients before it, and those who wait for a push."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.tls import make_certificate

from .payloads import MIB, noise
from .processes import Process, wait_until
from .registry import digest_of, make_image, pull, push, registry, skopeo
from .server import Status, free_port
from .web import is_listening, token

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import StartServer
    from .server import Server
    from .web import Program

pytestmark = pytest.mark.e2e

LAYER = 64 * MIB


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Program]:
    """A registry."""
    with registry(tmp_path) as found:
        yield found


@pytest.fixture
def server(start_server: StartServer, upstream: Program) -> Server:
    """A server in front of it."""
    return start_server(registry_url=f"http://127.0.0.1:{upstream.port}")


def forward(server: Server, user: str = "alice") -> tuple[Process, int]:
    """Forward a port of this machine, as ``ssh -L PORT:localhost:80 -N HOST`` does."""
    port = free_port()
    client = server.ssh(user, "", options=("-L", f"{port}:localhost:80", "-N"))
    wait_until(lambda: is_listening(port), "the port is forwarded")
    return client, port


def test_push_and_pull_through_ssh(server: Server, tmp_path: Path) -> None:
    """What alice pushes bob pulls once he may, and who waits for it hears of it once."""
    server.introduce("alice", "bob")
    digest = make_image(tmp_path / "image", b"hello")
    [once, always] = (
        server.subscribe("alice", "sub alpine:latest"),
        server.subscribe("alice", "sub -k 'alpine:*'"),
    )
    _, port = forward(server)

    pushed = push(server, tmp_path / "image", port, "alpine:latest")
    assert pushed.wait() == Status.OK, pushed
    [waiting], [staying] = once, always
    assert waiting.wait() == Status.OK
    event = json.loads(waiting.output)
    assert event["repository"] == "alice/alpine"
    assert event["tag"] == "latest"
    assert event["digest"] == digest
    assert event["by"] == "alice"

    for name in ("v1", "latest"):  # the latter once more, unchanged
        assert push(server, tmp_path / "image", port, f"alice/alpine:{name}").wait() == Status.OK
    staying.wait_stdout(2 * len(waiting.output) - len("atest"))
    assert [json.loads(line)["tag"] for line in staying.output.splitlines()] == ["latest", "v1"]

    listed = skopeo(server, "list-tags", "--tls-verify=false", f"docker://localhost:{port}/alpine")
    assert listed.wait() == Status.OK
    assert json.loads(listed.output)["Tags"] == ["latest", "v1"]

    _, bobs = forward(server, "bob")
    refused = pull(server, tmp_path / "refused", bobs, "alice/alpine:latest")
    assert refused.wait() != Status.OK
    assert "not shared with you" in refused.text
    assert server.run("alice", "grant alpine bob --read").wait() == Status.OK
    assert pull(server, tmp_path / "copy", bobs, "alice/alpine:latest").wait() == Status.OK
    assert digest_of(tmp_path / "copy") == digest
    assert push(server, tmp_path / "image", bobs, "alice/alpine:latest").wait() != Status.OK


def test_push_and_pull_with_a_token(server: Server, tmp_path: Path) -> None:
    """Over HTTP a token opens what it says, and `docker login` finds out whether it is one."""
    digest = make_image(tmp_path / "image", b"hello")
    rights = "--registry --read app --write app"
    secret = token(server, "alice", rights)
    plain = token(server, "alice", "--read app --write app")
    port, image = server.web_port, tmp_path / "image"

    given = ("--dest-creds", f"alice:{secret}")
    pushed = push(server, image, port, "app:v1", given)
    assert pushed.wait() == Status.OK, pushed
    taken = pull(server, tmp_path / "copy", port, "app:v1", ("--src-creds", f"alice:{secret}"))
    assert taken.wait() == Status.OK, taken
    assert digest_of(tmp_path / "copy") == digest

    assert push(server, image, port, "other:v1", given).wait() != Status.OK
    refused = push(server, image, port, "app:v2", ("--dest-creds", f"alice:{plain}"))
    assert refused.wait() != Status.OK
    assert "403" in refused.text
    nobody = push(server, image, port, "app:v2", ("--dest-creds", "alice:ptk_x"))
    assert nobody.wait() != Status.OK


def test_push_and_pull_by_https(start_server: StartServer, tmp_path: Path) -> None:
    """The same with the server's own certificate, and who waits for the image hears of it."""
    make_certificate(tmp_path, "localhost")
    digest = make_image(tmp_path / "image", b"hello")
    with registry(tmp_path) as upstream:
        server = start_server(
            registry_url=f"http://127.0.0.1:{upstream.port}",
            web_tls_cert=str(tmp_path / "cert.pem"),
            web_tls_key=str(tmp_path / "key.pem"),
        )
        secret = token(server, "alice", "--registry --read app --write app")
        [reader] = server.subscribe("alice", "sub app:v1")
        given = ("--dest-creds", f"alice:{secret}")
        pushed = push(server, tmp_path / "image", server.web_port, "app:v1", given)
        assert pushed.wait() == Status.OK, pushed
        assert reader.wait() == Status.OK
        assert f'"digest":"{digest}"' in reader.output
        creds = ("--src-creds", f"alice:{secret}")
        taken = pull(server, tmp_path / "copy", server.web_port, "app:v1", creds)
        assert taken.wait() == Status.OK, taken
        assert digest_of(tmp_path / "copy") == digest
        plain = server.adopt(Process(["curl", "-sS", f"http://127.0.0.1:{server.web_port}/v2/"]))
        assert plain.wait() != 0


def test_a_registry_that_goes_and_comes_back(start_server: StartServer, tmp_path: Path) -> None:
    """While it is down pushes fail and say why; after it is back they work as before."""
    port = free_port()
    server = start_server(registry_url=f"http://127.0.0.1:{port}")
    make_image(tmp_path / "image", b"hello")
    _, forwarded = forward(server)
    failed = push(server, tmp_path / "image", forwarded, "app:v1", ("--retry-times", "0"))
    assert failed.wait() != Status.OK
    assert "502" in failed.text or "does not answer" in failed.text
    with registry(tmp_path, port):
        assert push(server, tmp_path / "image", forwarded, "app:v1").wait() == Status.OK
    server.wait_lines("registry answers again")
    assert len(server.lines("registry does not answer")) == 1


def test_a_large_layer(start_server: StartServer, tmp_path: Path) -> None:
    """It passes in both directions, through key exchanges, and never lies in memory as a whole."""
    digest = make_image(tmp_path / "image", noise(LAYER))
    with registry(tmp_path) as upstream:
        server = start_server(registry_url=f"http://127.0.0.1:{upstream.port}", rekey_bytes="4MiB")
        _, port = forward(server)
        make_image(tmp_path / "small", b"hello")
        assert push(server, tmp_path / "small", port, "small:v1").wait() == Status.OK
        before = server.rss_bytes()
        image = tmp_path / "image"
        assert push(server, image, port, "big:v1").wait() == Status.OK
        assert pull(server, tmp_path / "copy", port, "big:v1").wait() == Status.OK
        assert digest_of(tmp_path / "copy") == digest
        assert server.peak_rss_bytes() - before < LAYER // 4
