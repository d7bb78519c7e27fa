"""What is the SSH client's own: logging in, connections, commands, and what a line means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

import pipe
from pipe.client.lines import Lines
from pipe.client.ssh import MAX_STREAMS
from pipe.errors import Outcome
from tests.e2e.processes import DEADLINE
from tests.e2e.server import free_port
from tests.library.places import credentials, soon
from tests.ssh.serving import HOST, serving
from tests.web.served import serving as serving_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pipe.service import Service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A server."""
    async with serving(tmp_path) as running:
        yield running


async def test_commands(service: Service, tmp_path: Path) -> None:
    """A command's answer is returned, and what is wrong is raised with its one line."""
    url, options = credentials(service, tmp_path)
    async with pipe.connect(url, **options) as server:
        assert "alice" in await soon(server.command("whoami"))
        with pytest.raises(pipe.UsageError, match="did you mean 'whoami'") as error:
            await soon(server.command("whoam"))
        assert error.value.exit_status == 64
        with pytest.raises(pipe.AccessDenied, match="access denied"):
            await soon(server.subscribe("bob/secret").read())


async def test_many_streams(service: Service, tmp_path: Path) -> None:
    """More streams than a connection may have go over further ones."""
    url, options = credentials(service, tmp_path)
    async with pipe.connect(url, **options) as server:
        readers = [asyncio.create_task(server.subscribe("x").read()) for _ in range(20)]
        async with server.publish("x", min_subscribers=20) as stream:
            await soon(stream.write(b"all"))
        assert await soon(asyncio.gather(*readers)) == [b"all"] * 20
        assert service.gate.open == -(-21 // MAX_STREAMS)


async def test_unknown_host_key(service: Service, tmp_path: Path) -> None:
    """A server whose key is not known is not trusted, and the line says how to mend that."""
    url, options = credentials(service, tmp_path)
    options["known_hosts"].write_text("")
    with pytest.raises(pipe.LoginRefused, match="host key is not in known_hosts") as error:
        await soon(pipe.connect(url, **options).__aenter__())
    assert f"'ssh -p {service.port} alice@{HOST} whoami'" in str(error.value)
    assert error.value.exit_status == 255


async def test_key_of_somebody_else(service: Service, tmp_path: Path) -> None:
    """A login that is refused is told in the server's own words."""
    url, options = credentials(service, tmp_path)
    async with pipe.connect(url, **options):
        pass
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
    with pytest.raises(pipe.LoginRefused, match=HOST):
        await soon(pipe.connect(url, **{**options, "identity": other}).__aenter__())


async def test_reserved_name(service: Service, tmp_path: Path) -> None:
    """A name that nobody can have is told without a second prefix, and as an address."""
    url, options = credentials(service, tmp_path)
    with pytest.raises(pipe.LoginRefused) as error:
        await soon(pipe.connect(url.replace("alice@", "root@"), **options).__aenter__())
    assert "pipe: " not in str(error.value)
    assert str(error.value).endswith("as in ssh://NAME@HOST")


async def test_nobody_listens(tmp_path: Path) -> None:
    """A server that is not there is a connection lost."""
    port = free_port()
    (tmp_path / "config").write_text("")
    server = pipe.connect(f"ssh://alice@{HOST}:{port}", config=tmp_path / "config")
    refused = f"{HOST}, port {port}: connection refused: no server listens there"
    with pytest.raises(pipe.ConnectionLost, match=refused):
        await soon(server.__aenter__())


async def test_without_a_key(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has no key at all reads how to make one."""
    url, options = credentials(service, tmp_path)
    options["config"].write_text("IdentityAgent none\n")
    del options["identity"]
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(pipe.LoginRefused, match="'ssh-keygen -t ed25519' makes one"):
        await soon(pipe.connect(url, **options).__aenter__())


async def test_port_of_something_else(service: Service, tmp_path: Path) -> None:
    """SSH where HTTP is, and the other way round, is one line that names the address."""
    url, options = credentials(service, tmp_path)
    async with serving_http() as served:
        wrong = served.url.replace("http://", "ssh://alice@")
        with pytest.raises(pipe.ConnectionLost, match="is SSH at that port"):
            await soon(pipe.connect(wrong, **options).__aenter__())
    wrong = url.replace("ssh://alice@", "http://")
    with pytest.raises(pipe.ConnectionLost, match="no answer in HTTP") as error:
        await soon(pipe.connect(wrong, token="x").__aenter__())
    assert error.value.message.startswith(wrong)


async def test_configuration_is_used(service: Service, tmp_path: Path) -> None:
    """User, port, key and the host's name may come from the configuration of ssh."""
    _, options = credentials(service, tmp_path)
    options["config"].write_text(
        f"Host alias\n HostName {HOST}\n Port {service.port}\n User bob\n"
        f" IdentityFile {options['identity']}\n UserKnownHostsFile {options['known_hosts']}\n"
        " IdentityAgent none\n"
    )
    async with pipe.connect("ssh://alias", config=options["config"]) as server:
        assert "bob" in await soon(server.command("whoami"))


@pytest.mark.parametrize(
    "url",
    ["alice@host", "ftp://host", "ssh://", "ssh://host/topic", "ssh://a:b@host", "ssh://h:x"],
)
def test_addresses(url: str) -> None:
    """An address that names no server is refused before anything is connected to."""
    with pytest.raises(pipe.UsageError, match="write ssh://USER@HOST:PORT"):
        pipe.connect(url)


async def test_server_that_stops(tmp_path: Path) -> None:
    """A stream that the server's stop ends is told so."""
    async with serving(tmp_path) as service:
        url, options = credentials(service, tmp_path)
        async with pipe.connect(url, **options) as server:
            reader = asyncio.create_task(server.subscribe("x").read())
            while not service.sessions:  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.005)
            for session in list(service.sessions):
                session.cut(Outcome.SHUTDOWN)
            with pytest.raises(pipe.Unavailable, match="shutting down") as error:
                await soon(reader)
            assert error.value.exit_status == 69


async def test_lost_connection(tmp_path: Path) -> None:
    """A connection that breaks is told apart from a stream that does."""
    async with serving(tmp_path) as service:
        url, options = credentials(service, tmp_path)
        server = pipe.connect(url, **options)
        async with server:
            reader = asyncio.create_task(server.subscribe("x").read())

            async def write() -> None:
                async with server.publish("x") as stream:
                    await stream.write(b"x")
                    for connection in list(server._way._open):  # type: ignore[attr-defined]  # noqa: SLF001
                        connection.abort()
                    with pytest.raises(pipe.ConnectionLost) as error:
                        await soon(reader)
                    assert error.value.exit_status == 255
                    await soon(stream.write(b"x"))

            with pytest.raises(pipe.ConnectionLost):
                await soon(write())
            assert "alice" in await soon(server.command("whoami"))


@pytest.mark.parametrize(
    ("lines", "status", "cut", "expected"),
    [
        ("", 0, False, None),
        ("", 3, False, pipe.PublisherFailed),
        ("", 74, False, pipe.PublisherFailed),
        ("", 74, True, pipe.CutOff),
        (Outcome.BROKEN.text, 74, False, pipe.Broken),
        (Outcome.STALLED.text, 74, True, pipe.CutOff),
        ("nothing is kept of alice/x", 74, False, pipe.PublisherFailed),
        ("nothing is kept of alice/x, and its stream has begun", 75, False, pipe.TooLate),
        ("joined in mid-stream: 1 byte went by before", 75, False, pipe.PublisherFailed),
        ("dropped 5 bytes: this reader fell behind", 75, False, pipe.Dropped),
        ("you have as many topics as anybody may", 75, False, pipe.Limited),
        ("whatever", 99, False, pipe.PublisherFailed),
    ],
)
def test_what_an_end_means(
    lines: str, status: int, cut: bool, expected: type[pipe.PipeError] | None
) -> None:
    """Status and line together say which end it is; either alone is not taken for another one."""
    heard = Lines()
    assert heard.feed(f"pipe: {lines}\n".encode()) == [lines]
    error = heard.end(status, cut=cut).error()
    assert type(error) is (expected or type(None))
    if error:
        assert error.exit_status == status


@pytest.mark.parametrize(
    ("line", "receipt"),
    [
        ("sent 1 byte to 1 subscriber", (1, 1, 0)),
        ("sent 9 bytes from byte 4 on to 2 subscribers, 1 of them left early", (9, 2, 1)),
    ],
)
def test_receipts_are_read(line: str, receipt: Any) -> None:  # noqa: ANN401
    """A receipt comes as a line, however it is cut."""
    heard = Lines()
    text = f"pipe: {line}\r\n".encode()
    for index in range(len(text)):
        heard.feed(text[index : index + 1])
    assert heard.receipt == pipe.Receipt(*receipt)


async def test_cancelled_while_it_opens(service: Service, tmp_path: Path) -> None:
    """A stream that nobody waits for any more is no reader, however far it has come."""
    url, options = credentials(service, tmp_path)
    async with pipe.connect(url, **options) as server:
        for turns in range(12):
            opening = asyncio.create_task(server.subscribe("x").__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            del opening  # a stream that was opened leaves when it is forgotten
        assert "alice" in await soon(server.command("whoami"))
        async with asyncio.timeout(DEADLINE):
            while service.sessions:  # noqa: ASYNC110 - of whatever has no event
                await asyncio.sleep(0.005)
            while server._way._open.copy().popitem()[1]:  # type: ignore[attr-defined]  # noqa: SLF001, ASYNC110
                await asyncio.sleep(0.005)
