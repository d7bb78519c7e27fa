"""Two machines whose network is cut: nodes in networks of their own, a cable, and the real `ssh`.

The test is at the near end, where `n1` is; `n2` is at the far end.  Both reach PostgreSQL by its
Unix socket, which no cable carries, unless a test says otherwise.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from pipe.hub.nodes import TEND_SECONDS
from pipe.mesh.homes import BURIED_SECONDS
from tests.hostile.namespaces import FAR_ADDRESS, NEAR_ADDRESS, Cable
from tests.postgres import Postgres

from .nodes import Nodes
from .processes import HELD, statuses, wait_until
from .server import Status
from .test_receipts import SEED
from .transfers import MANY, run_transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .clients import KeyRing
    from .processes import Input, Process
    from .server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

log = logging.getLogger(__name__)

SHARE: Final = 5
"""Every which one of the transfers beside faults is carried out here."""


@pytest.fixture
def cable(postgres: Postgres) -> Iterator[Cable]:  # noqa: ARG001 - it is nobody's network
    """Two networks, and a cable between them; this thread is at the near end."""
    try:
        with Cable().laid() as cable:
            yield cable
    except PermissionError as error:
        pytest.skip(f"no network namespaces: {error}")


class Ends(NamedTuple):
    """A node at each end of a cable."""

    cable: Cable
    near: Server
    far: Server

    def ssh_near(
        self, user: str, command: str, *, stdin: Input = None, keep: bool = True
    ) -> Process:
        """Start a client of the near node."""
        return self.near.ssh(user, command, stdin=stdin, keep=keep)

    def ssh_far(
        self,
        user: str,
        command: str,
        *,
        stdin: Input = None,
        keep: bool = True,
        options: tuple[str, ...] = (),
    ) -> Process:
        """Start a client of the far node."""
        with self.cable.afar():
            return self.far.ssh(user, command, stdin=stdin, keep=keep, options=options)

    def wait_far(self, **counts: int) -> None:
        """Return once the far node has so many sessions."""
        with self.cable.afar():
            self.far.wait_sessions(**counts)

    def wait_seen(self, times: int) -> None:
        """Return once each has seen the other come so often."""
        for node in (self.near, self.far):
            node.wait_lines("node is there", times)


@contextlib.contextmanager
def both(nodes: Nodes, cable: Cable, far_url: str = "") -> Iterator[Ends]:
    """Start a node at each end."""
    try:
        near = nodes.start("n1", host=NEAR_ADDRESS)
        with cable.afar():
            far = nodes.start("n2", host=FAR_ADDRESS, database_url=far_url or nodes.url)
        ends = Ends(cable, near, far)
        ends.wait_seen(1)
        yield ends
    finally:
        nodes.close()


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database that both nodes reach whatever becomes of the cable."""
    return postgres.new_database()


@pytest.fixture
def ends(tmp_path: Path, keys: KeyRing, url: str, cable: Cable) -> Iterator[Ends]:
    """Two nodes that share it."""
    with both(Nodes(tmp_path, keys, url), cable) as ends:
        yield ends


def streams_across(ends: Ends) -> list[Process]:
    """A stream from each end to the other, at home where its reader is, that has begun."""
    readers = [ends.ssh_near("alice", "sub to-near"), ends.ssh_far("alice", "sub to-far")]
    ends.near.wait_sessions(subscribe=1)
    ends.wait_far(subscribe=1)
    writers = [
        ends.ssh_far("alice", "pub to-near", stdin=HELD),
        ends.ssh_near("alice", "pub to-far", stdin=HELD),
    ]
    for writer, reader in zip(writers, readers, strict=True):
        writer.write(b"some")
        reader.wait_stdout(4)
    return [*readers, *writers]


def check_broken(clients: list[Process]) -> None:
    """All were told that their stream broke, and no writer that a reader has it."""
    assert statuses(*clients) == [Status.BROKEN] * len(clients)
    assert not [client for client in clients if "subscriber" in client.text]


def check_healed(ends: Ends, topic: str = "healed") -> None:
    """A new stream gets from each end to the other, once there is a way."""
    for reads, writes in ((ends.ssh_near, ends.ssh_far), (ends.ssh_far, ends.ssh_near)):
        wait_until(partial(crosses, reads, writes, topic), "a way across")


def crosses(reads: Callable[..., Process], writes: Callable[..., Process], topic: str) -> bool:
    """Whether a new stream arrives."""
    reader = reads("alice", f"sub {topic}")
    writer = writes("alice", f"pub -t 5s {topic}", stdin=b"new")
    if writer.wait() != Status.OK:
        reader.kill()
        return False
    assert "to 1 subscriber" in writer.text
    assert reader.wait() == Status.OK
    assert reader.output == "new"
    return True


def is_told(ssh: Callable[..., Process], command: str, data: bytes) -> bool:
    """Whether a publisher reaches a reader."""
    writer = ssh("alice", command, stdin=data)
    return writer.wait() == Status.OK and "to 1 subscriber" in writer.text


def is_free(ssh: Callable[..., Process], topic: str) -> bool:
    """Whether a topic can be opened at an end."""
    return ssh("alice", f"pub -b=false {topic}", stdin=b"").wait() == Status.OK


def test_link_is_cut(ends: Ends, postgres: Postgres, url: str) -> None:
    """What crosses it breaks, all else goes on, no topic gets a second home, and it heals.

    Both machines reach the database, so each says that it is there, and none buries the other.
    """
    crossing = streams_across(ends)
    kept = ends.ssh_near("alice", "sub -k kept")
    own = ends.ssh_near("alice", "sub own")
    ends.near.wait_sessions(subscribe=3)
    goes_on = ends.ssh_near("alice", "pub own", stdin=HELD)
    goes_on.write(b"some")
    own.wait_stdout(4)

    ends.cable.pull()
    check_broken(crossing)
    for node in (ends.near, ends.far):
        node.wait_lines("node is gone")
    goes_on.write(b" more")
    goes_on.close_stdin()
    assert statuses(goes_on, own) == [Status.OK] * 2
    assert own.output == "some more"
    for ssh, topic in ((ends.ssh_near, "to-near"), (ends.ssh_far, "to-far")):
        wait_until(partial(is_free, ssh, topic), "a free name at its own end")

    time.sleep(BURIED_SECONDS + 2 * TEND_SECONDS)  # for so long, and longer
    refused = ends.ssh_far("alice", "pub -b=false kept", stdin=b"lost")
    assert refused.wait() == Status.SHUTDOWN
    assert "n1 cannot be reached from n2" in refused.text
    found = postgres.execute(
        "SELECT node FROM homes WHERE topic = 'alice/kept'", urlsplit(url).path.strip("/")
    )
    assert found == [("n1",)]

    ends.cable.plug_in()
    ends.wait_seen(2)
    wait_until(partial(is_told, ends.ssh_far, "pub kept", b"new"), "a way to the topic")
    kept.wait_stdout(3)
    assert kept.output == "new"
    check_healed(ends)


@pytest.mark.parametrize("deaf", ["near", "far"])
def test_one_way_is_cut(ends: Ends, deaf: str) -> None:
    """An end that hears no more, while the other one does, is as if both did not."""
    crossing = streams_across(ends)
    ends.cable.swallow(near=deaf == "far")
    check_broken(crossing)
    for node in (ends.near, ends.far):
        node.wait_lines("node is gone")
    ends.cable.let_through(near=deaf == "far")
    ends.wait_seen(2)
    check_healed(ends)


def test_partition(tmp_path: Path, keys: KeyRing, cable: Cable) -> None:
    """A machine that is cut off from the others and from the database opens nothing.

    After a while its topics have no home, and it lets nobody join them; then they are opened
    elsewhere.  When it is back, what it had of them is broken, and nobody hears both.
    """
    with Postgres(NEAR_ADDRESS) as postgres:
        url = postgres.new_database()
        nodes = Nodes(tmp_path, keys, url)
        with both(nodes, cable, postgres.url_from_afar(url)) as ends:
            shared = ("-S", str(tmp_path / "master"))  # nobody can log in without a database
            reader = ends.ssh_far("alice", "sub v", options=("-M", *shared))
            ends.wait_far(subscribe=1)
            writer = ends.ssh_far("alice", "pub v", stdin=HELD, options=shared)
            writer.write(b"some")
            reader.wait_stdout(4)
            cable.pull()
            refused = ends.ssh_far("alice", "pub new", options=shared)
            assert refused.wait() == Status.SHUTDOWN
            assert "database" in refused.text
            writer.write(b" more")
            reader.wait_stdout(9)
            wait_until(partial(is_free, ends.ssh_near, "v"), "a free name")
            new = ends.ssh_near("alice", "pub v", stdin=b"new")
            ends.near.wait_waiting()
            late = ends.ssh_far("alice", "sub v", options=shared)
            assert late.wait() == Status.SHUTDOWN
            assert not late.stdout.size
            cable.plug_in()
            assert statuses(reader, writer) == [Status.BROKEN] * 2
            assert "cut off from the others for too long" in reader.text
            assert reader.output == "some more"
            ends.wait_seen(2)
            again = ends.ssh_far("alice", "sub v")
            assert statuses(new, again) == [Status.OK] * 2
            assert again.output == "new"
            check_healed(ends)


class Trouble:
    """Cuts the cable, in both ways or in one, and heals it, from its start to its end.

    Attributes:
        cuts: how often.
    """

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._chance = random.Random(f"{SEED} cable")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._make)
        self.cuts = 0

    def __enter__(self) -> Trouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _make(self) -> None:
        chance, cable = self._chance, self._cable
        ways: list[tuple[Callable[[], None], Callable[[], None]]] = [
            (cable.pull, cable.plug_in),
            *(
                (partial(cable.swallow, near=near), partial(cable.let_through, near=near))
                for near in (True, False)
            ),
        ]
        while not self._over.wait(chance.uniform(1.0, 6.0)):
            cut, heal = chance.choice(ways)
            self.cuts += 1
            cut()
            self._over.wait(chance.uniform(0.1, 5.0))
            heal()


def test_many_transfers_while_the_cable_is_cut(ends: Ends) -> None:
    """Each is whole or is said to have failed, and every receipt is true; then all is as before."""
    places = [ends.ssh_near, ends.ssh_far]
    ends.near.keys.openssh("alice")  # made once, before many want it
    with Trouble(ends.cable) as trouble:
        ways = run_transfers(places, range(MANY // SHARE))
    log.info("%s cuts; writer's and reader's status: %s", trouble.cuts, dict(ways))
    check_healed(ends)
    ends.near.wait_empty()
    with ends.cable.afar():
        ends.far.wait_empty()
    assert trouble.cuts
    assert ways["0 and 0"]


def test_bad_network(ends: Ends) -> None:
    """Where packets come late or not at all, a stream arrives whole."""
    try:
        ends.cable.worsen("netem", "delay", "20ms", "10ms", "loss", "2%")
    except PermissionError as error:
        pytest.skip(f"no netem: {error}")
    check_healed(ends, "bad")
