"""How a node is, as its operator is told."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from prometheus_client import CollectorRegistry

from pipe import __version__
from pipe.cli import main
from pipe.errors import Outcome, StoreUnavailable, Unreachable
from pipe.hub import contact as contact_module
from pipe.hub.channel import Lost
from pipe.hub.contact import Contact
from pipe.hub.exchange import Neighbour
from pipe.hub.health import Health
from pipe.mesh import status as status_module
from pipe.mesh.directory import WorkerId
from pipe.mesh.ledger import About
from pipe.mesh.status import SOCKET_NAME, Status, fetch

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86_400.0

LINKS = [["n1/2", True, 5.0, None, 10, 20, 0, 1], ["n2/1", False, 5.0, 0.002, 10, 20, 0, 1]]


def worker(number: int, answer: object = None, **more: object) -> Any:  # noqa: ANN401
    """A worker that answers so, or never if that is None."""

    async def ask(_: object) -> object:
        if answer is None:
            raise Lost
        return answer

    channel = SimpleNamespace(ask=ask)
    state = {"is_ready": True, "leaving": False, "guests": {}, "channel": channel, **more}
    return SimpleNamespace(ident=WorkerId("n1", number, 1), **state)


class Database:
    """One that answers, or does not."""

    away = False

    async def read(self, work: Any) -> str:  # noqa: ANN401, ARG002
        """Answer."""
        if self.away:
            raise StoreUnavailable("away")
        return "answer"

    write = read


def fake(**fields: object) -> Any:  # noqa: ANN401
    """Something with these."""
    return SimpleNamespace(**fields)


class Scene:
    """A node in a state that tests change."""

    def __init__(self) -> None:
        self.crew = fake(workers={}, pausing=set(), serving=[], epoch=time.time() * 1000)
        self.exchange = fake(neighbours={}, lost={})
        self.database = Database()
        self.contact = Contact(cast("Any", self.database))
        self.ends = {"node": time.time() + YEAR, "ca": time.time() + 9 * YEAR}
        self.health = Health("n1", self.crew, self.exchange, self.contact, self.ends)

    def add(self, *workers: Any) -> None:  # noqa: ANN401
        """Add workers."""
        self.crew.workers |= {one.ident: one for one in workers}

    def add_neighbour(self, node: str, version: str = __version__) -> Neighbour:
        """Add a node that has told something."""
        hub = WorkerId(node, 0, 1)
        neighbour = self.exchange.neighbours[hub] = Neighbour(hub)
        neighbour.heard = time.monotonic()
        neighbour.about = About(version, time.time() + YEAR, 2)
        return neighbour


async def test_all_is_well() -> None:
    """Nodes, workers and links are listed, and there is nothing to tell of."""
    scene = Scene()
    scene.add(worker(1, LINKS), worker(2, []), worker(3, [], leaving=True))
    scene.add(worker(4, is_ready=False))
    scene.add_neighbour("n2")
    status = await scene.health.look()
    assert [(one.node, one.state) for one in status.nodes] == [("n1", "here"), ("n2", "there")]
    assert [one.state for one in status.workers] == ["serves", "serves", "leaves", "starts"]
    assert [(one.worker, one.peer, one.opened) for one in status.links] == [
        ("n1/1", "n1/2", "here"),
        ("n1/1", "n2/1", "there"),
    ]
    assert (status.problems, status.warnings) == ((), ())


async def test_what_is_down() -> None:
    """Each thing that is down is a problem of its own."""
    scene = Scene()
    scene.add(worker(1))
    scene.crew.pausing.add(2)
    scene.exchange.lost["n3"] = time.monotonic()
    scene.ends["node"] = time.time() - 1
    scene.database.away = True
    with pytest.raises(StoreUnavailable):
        await scene.contact.read(lambda _: "")
    status = await scene.health.look()
    assert status.problems == (
        "node n3 is lost",
        "worker n1/1 is silent",
        "worker n1/2 is dead",
        "the database cannot be reached",
        "the node certificate has ended",
    )
    scene.database.away = False
    assert await scene.contact.write(lambda _: "") == "answer"
    assert (scene.contact.reachable, scene.contact.errors) == (True, 1)


async def test_what_will_be_down() -> None:
    """A certificate that ends soon and nodes of different versions are warned of."""
    scene = Scene()
    scene.ends["node"] = time.time() + 86_400
    scene.add_neighbour("n2", "0.0.9")
    status = await scene.health.look()
    assert status.warnings == (
        "the node certificate ends within 30 days",
        f"nodes have different versions: 0.0.9, {__version__}",
    )
    assert not status.problems


def test_silent_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has not answered for long is away, whatever it said last."""
    contact = Scene().contact
    assert contact.reachable
    monkeypatch.setattr(contact_module, "QUIET_SECONDS", 0.0)
    assert not contact.reachable


async def test_metrics() -> None:
    """The figures are those of the node."""
    scene = Scene()
    scene.add_neighbour("n2").heard = time.monotonic() - 100
    scene.exchange.lost["n3"] = 0.0
    registry = CollectorRegistry()
    registry.register(scene.health)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert [value("pipe_mesh_nodes", state=state) for state in ("up", "lost")] == [2, 1]
    assert value("pipe_mesh_directory_up") == 1
    assert value("pipe_mesh_directory_errors_total") == 0
    assert 100 <= (value("pipe_mesh_news_age_seconds") or 0) < 1000
    for name in ("node", "ca"):
        found = value("pipe_mesh_certificate_expiry_timestamp_seconds", certificate=name)
        assert found == scene.ends[name]


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A folder whose path is longer than the kernel takes for a socket."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    return folder


async def ask(folder: Path) -> Status:
    """Ask a node, as the command does."""
    return await asyncio.to_thread(fetch, folder)


async def test_socket(deep: Path) -> None:
    """It is for one user, takes the place of a dead server's, and goes with its own server."""
    scene, later = Scene(), Scene()
    scene.add(worker(1, LINKS))
    with socket.socket(socket.AF_UNIX) as dead, status_module.connecting(deep) as place:
        dead.bind(place)
    with pytest.raises(Unreachable, match="no node of a mesh runs in"):
        await ask(deep)
    await scene.health.listen(deep)
    assert (deep / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
    status = await ask(deep)
    assert status.node == "n1"
    assert len(status.links) == 2
    await later.health.listen(deep)
    scene.health.close()
    assert not (await ask(deep)).links
    later.health.close()
    assert not (deep / SOCKET_NAME).exists()


async def test_no_socket(tmp_path: Path) -> None:
    """A server without one serves all the same."""
    health = Scene().health
    (tmp_path / SOCKET_NAME).mkdir()
    await health.listen(tmp_path)
    health.close()


@pytest.mark.parametrize("answer", [b"", b'{"node":"n1"', b'{"node":"n1"}'])
async def test_half_an_answer(tmp_path: Path, answer: bytes) -> None:
    """It is told apart from no answer."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(speak, tmp_path / SOCKET_NAME)
    with pytest.raises(Unreachable, match="did not answer in full"):
        await ask(tmp_path)
    server.close()


async def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stands still is not waited for without end."""
    monkeypatch.setattr(status_module, "WAIT_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        with pytest.raises(Unreachable, match="does not answer"):
            await ask(tmp_path)


def test_no_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user is told who may ask."""

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(Unreachable, match="run this as the user that it runs as, or root"):
        fetch(tmp_path)


async def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run `pipe mesh status`, and return its status, output and errors."""
    status = await asyncio.to_thread(main, ["mesh", "status", *words])
    output = capsys.readouterr()
    return status, output.out, output.err


async def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows all of it, its status says whether something is down, and JSON has the same."""
    place = ("--data-dir", str(tmp_path))
    status, _, errors = await run(capsys, *place)
    assert status == Outcome.UNAVAILABLE.status
    assert errors.count("\n") == 1
    scene = Scene()
    await scene.health.listen(tmp_path)
    scene.add(worker(1, []))
    status, shown, _ = await run(capsys, *place)
    assert status == 0
    assert "no links" in shown
    scene.crew.workers.clear()
    scene.add(worker(1, LINKS))
    scene.exchange.lost["n3"] = time.monotonic()
    scene.add_neighbour("n2", "0.0.9")
    status, shown, _ = await run(capsys, *place)
    assert status == 1
    for text in ("n1/1 from n2/1", "2.0 ms", "problem: node n3 is lost", "warning: nodes have"):
        assert text in shown
    status, shown, _ = await run(capsys, *place, "--json")
    found = json.loads(shown)
    assert status == 1
    assert found["problems"] == ["node n3 is lost"]
    assert found["links"][1]["rtt_seconds"] == 0.002
    scene.health.close()
