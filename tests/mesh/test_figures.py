"""What is counted of links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from pipe.language.requests import parse
from pipe.mesh.directory import WorkerId
from pipe.mesh.figures import LinkFigures

from .simulation import FarClient, Pair, errand

if TYPE_CHECKING:
    from pipe.elsewhere import Errand
    from pipe.mesh.home import FarFront, HomeEnd

HERE, NEAR, FAR = WorkerId("n1", 2, 1), WorkerId("n1", 1, 1), WorkerId("n2", 1, 1)


def welcome(end: HomeEnd, number: int, errand: Errand) -> FarFront:
    """Nobody is welcomed."""
    raise NotImplementedError


class Scene:
    """A worker, and its links."""

    def __init__(self) -> None:
        self.figures = LinkFigures(HERE, lambda: 3)
        self.registry = CollectorRegistry()
        self.registry.register(self.figures)

    def begin(self, peer: WorkerId) -> Pair:
        """Open a link."""
        pair = Pair(welcome)
        self.figures.began(pair.edge, peer)
        for _ in range(3):
            pair.step(pair.up)
            pair.step(pair.down)
        return pair

    def value(self, name: str, **labels: str) -> float | None:
        """One figure."""
        return self.registry.get_sample_value(name, labels)


def test_links_are_told_apart() -> None:
    """Links of the machine and links to others are counted by themselves, as long as they are."""
    scene = Scene()
    pair, _ = scene.begin(FAR), scene.begin(NEAR)
    assert [scene.value("pipe_links", to=to) for to in ("worker", "node")] == [1, 1]
    assert [(one.peer, one.opened) for one in scene.figures.list_links()] == [
        ("n2/1", True),
        ("n1/1", True),
    ]
    pair.cut()
    scene.figures.ended(pair.edge)
    assert [scene.value("pipe_links", to=to) for to in ("worker", "node")] == [1, 0]
    assert scene.value("pipe_links_refused_total") == 3
    assert scene.value("pipe_link_rtt_seconds") == 0


def test_bytes_stay_counted() -> None:
    """What a link has carried counts after its end, once."""
    scene = Scene()
    pair = scene.begin(FAR)

    def carried() -> list[float | None]:
        return [
            scene.value("pipe_link_bytes_total", to="node", way=way) for way in ("sent", "received")
        ]

    sent = pair.edge.link.sent_bytes
    assert carried() == [sent, pair.home.link.sent_bytes]
    assert sent > 0
    pair.cut()
    scene.figures.ended(pair.edge)
    scene.figures.ended(pair.edge)
    assert carried() == [sent, pair.home.link.sent_bytes]
    scene.begin(FAR)
    assert carried()[0] == 2 * sent


def test_only_a_link_in_use_breaks() -> None:
    """One that ends without sessions is no loss; one with sessions is one, however many."""
    scene = Scene()
    idle, used = scene.begin(FAR), scene.begin(FAR)
    for _ in range(2):
        client = FarClient(1)
        client.way = used.edge.open(errand(parse("sub t")), client)
        scene.figures.hopped(FAR)
    assert [one.sessions for one in scene.figures.list_links()] == [0, 2]
    for pair in (idle, used):
        pair.cut()
        scene.figures.ended(pair.edge)
    assert scene.value("pipe_links_broken_total", to="node") == 1
    assert scene.value("pipe_links_broken_total", to="worker") == 0
    assert scene.value("pipe_hops_total", to="node") == 2


def test_link_that_was_opened_elsewhere() -> None:
    """It counts for who has opened it once it has said who it is."""
    scene = Scene()
    pair = Pair(welcome)
    scene.figures.began(pair.home)
    assert not scene.figures.list_links()
    pair.settle()
    [link] = scene.figures.list_links()
    assert (link.peer, link.opened) == ("2", False)
