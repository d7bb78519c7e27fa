"""docs/compose-mesh.yml, started by podman-compose: three nodes behind HAProxy, with PostgreSQL.

Where no images can be fetched, Debian's packages stand for those that the file names.  Podman runs
no health checks without systemd, so services are started in the order in which they wait.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from .dockerfile import STEP_TIMEOUT
from .e2e.clients import KeyRing, bare_environment, openssh
from .e2e.desks import indented_blocks
from .e2e.processes import HELD, Process, statuses, wait_until
from .e2e.server import ROOT, Status, free_port
from .podman import BUILD, TASKS, Podman, base_name, make_root, skip_without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .e2e.processes import Input

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(4 * STEP_TIMEOUT),
    pytest.mark.xdist_group("compose"),
]

DOCS: Final = ROOT / "docs"
GUIDE: Final = (DOCS / "operations.md").read_text(encoding="utf-8")
NODES: Final = ("n1", "n2", "n3")

POSTGRES: Final = "docker.io/library/postgres:17"
HAPROXY: Final = "docker.io/library/haproxy:3.2"

POSTGRES_START: Final = r"""#!/bin/sh
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=/var/lib/postgresql/data
user="setpriv --reuid postgres --regid postgres --clear-groups"
if ! test -e $data/PG_VERSION; then
    chown postgres $data
    chmod 700 $data
    echo "$POSTGRES_PASSWORD" > /tmp/password
    $user initdb -D $data --username "$POSTGRES_USER" --pwfile /tmp/password --auth-local trust
    echo "host all all all scram-sha-256" >> $data/pg_hba.conf
    $user pg_ctl -D $data -o "-c listen_addresses=" -w start
    $user createdb --username "$POSTGRES_USER" "$POSTGRES_USER"
    $user pg_ctl -D $data -m fast -w stop
fi
exec $user postgres -D $data -c 'listen_addresses=*'
"""
"""As in the image that it stands for: it listens by TCP once there is a database."""

STAND_INS: Final = {
    POSTGRES: """
FROM python:{tag}
RUN mkdir /var/lib/postgresql/data && ln -s /usr/lib/postgresql/*/bin/pg_isready /usr/local/bin/
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["start-postgres"]
""",
    HAPROXY: """
FROM python:{tag}
USER haproxy
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
""",
}


def make_images(podman: Podman, folder: Path) -> None:
    """Have the images that others make."""
    if all(map(podman.pull, (base_name(), POSTGRES, HAPROXY))):
        return
    root = make_root(folder, ("postgresql", "haproxy"))
    start = root / "usr/local/bin/start-postgres"
    start.write_text(POSTGRES_START)
    start.chmod(0o755)
    podman.load(root, base_name())
    context = folder / "stand-in"
    context.mkdir()
    for name, text in STAND_INS.items():
        (context / "Dockerfile").write_text(text.format(tag=base_name().partition("python:")[2]))
        podman.run("build", *BUILD, "-t", name, str(context))


class Service:
    """All of the file's services.

    Attributes:
        port: of the balancer.
    """

    def __init__(self, podman: Podman, folder: Path) -> None:
        self._podman = podman
        self._keys = KeyRing(folder)
        self.port = free_port()
        self._folder = folder / "docs"
        self._folder.mkdir()
        self._copy(
            "compose-mesh.yml",
            ("context: ..", f"context: {ROOT}"),
            ('"2222:22"', f'"127.0.0.1:{self.port}:22"'),
            *(
                (
                    f"\n{blanks}nofile: 65536",
                    f"\n{blanks}nofile: {podman.files}\n{blanks}nproc: {TASKS}",
                )
                for blanks in (" " * 4, " " * 6)
            ),
        )
        self._copy("haproxy.cfg", ("maxconn 20000", "maxconn 100"))
        self._environment = {
            **bare_environment(),
            "POSTGRES_PASSWORD": "secret1",
            "BUILDAH_FORMAT": "docker",
        }
        [self._up, self._add, *_] = [
            line.partition("docker compose ")[2].partition(" < ")[0].split()
            for block in indented_blocks(GUIDE.partition("[compose-mesh.yml](")[2])[:1]
            for line in block.splitlines()
            if "docker compose" in line
        ]

    def _copy(self, name: str, *changes: tuple[str, str]) -> None:
        """Copy a file, with what this machine has in place of what it lacks."""
        text = (DOCS / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self._folder / name).write_text(text)

    def compose(self, *words: str, stdin: Input = None) -> Process:
        """Start `docker compose` with these words."""
        build = " ".join(one for one in BUILD if "format" not in one)
        options = ("--podman-path", str(self._podman.program), f"--podman-build-args={build}")
        return Process(
            ["podman-compose", *options, *words],
            stdin=stdin,
            directory=self._folder,
            environment=self._environment,
        )

    def start(self) -> None:
        """Start all, each once those are healthy that it waits for."""
        self.run(*self._up, "postgres", "certificates")
        self.wait_healthy("postgres")
        self.run(*self._up, "n1")
        self.wait_healthy("n1")
        self.run(*self._up, "n2", "n3", "haproxy")
        for name in ("n2", "n3"):
            self.wait_healthy(name)
        self.run(*self._add, stdin=self._keys.public("alice"))
        wait_until(lambda: all(self.reached()), "a balancer that knows all nodes")

    def run(self, *words: str, stdin: Input = None) -> str:
        """Have `docker compose` do what must go well."""
        process = self.compose(*words, stdin=stdin)
        assert process.wait(STEP_TIMEOUT) == Status.OK, process
        return process.output

    def wait_healthy(self, name: str) -> None:
        """Wait for a service's own health check to go well."""
        check = ("healthcheck", "run", container(name))
        wait_until(lambda: self._podman.start(*check).wait() == Status.OK, f"a healthy {name}")

    def podman(self, *words: str) -> str:
        """Have Podman do what must go well."""
        return self._podman.run(*words)

    def ssh(self, command: str, stdin: Input = None) -> Process:
        """Be alice, by way of the balancer."""
        return Process(
            openssh(self.port, self._keys.openssh("alice"), "alice", command), stdin=stdin
        )

    def status(self, name: str) -> tuple[int, dict[str, Any]]:
        """What a node says of itself and the others."""
        words = ("exec", container(name), "pipe", "mesh", "status", "--json")
        process = self._podman.start(*words)
        return process.wait(), json.loads(process.output or "{}")

    def wait_nodes(self, name: str, count: int) -> None:
        """Wait until a node knows of so many, itself included."""
        wait_until(
            lambda: len(self.status(name)[1].get("nodes", ())) == count, f"{count} nodes at {name}"
        )

    def reached(self) -> list[bool]:
        """Log in once more; which nodes have had a client by now."""
        self.ssh("whoami").wait()
        return [b"session ended" in self.log(name) for name in NODES]

    def log(self, name: str) -> bytes:
        """What a service has logged."""
        process = self._podman.start("logs", container(name))
        process.wait()
        return process.stdout.data + process.stderr.data

    def close(self) -> None:
        """End all, and throw away what they had."""
        self.compose("-f", "compose-mesh.yml", "down", "--volumes", "--timeout", "1").wait()


def container(name: str) -> str:
    """What podman-compose calls it."""
    return f"pipe-mesh_{name}_1"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """All nodes, with alice's account."""
    skip_without("podman-compose")
    folder = tmp_path_factory.mktemp("compose")
    podman = Podman(folder)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(podman.reset)
        make_images(podman, folder)
        service = Service(podman, folder)
        cleanup.callback(service.close)
        service.start()
        yield service


def test_each_node_speaks_for_itself(service: Service) -> None:
    """All see all, nothing is wrong, and the balancer's address is everybody's."""
    for name in NODES:
        service.wait_nodes(name, 3)
        status, found = service.status(name)
        assert (status, found["node"], found["problems"]) == (Status.OK, name, [])
    whoami = service.ssh("whoami")
    assert whoami.wait() == Status.OK
    assert re.search(r"^address +172\.30\.0\.10:", whoami.output, re.MULTILINE)


def test_a_topic_of_all_nodes(service: Service) -> None:
    """Readers on several machines get what one publishes; the bytes cross links."""
    readers = [service.ssh("sub news") for _ in range(6)]
    writer = service.ssh(f"pub -m {len(readers)} news", stdin=b"hello\n")
    assert statuses(writer, *readers) == [Status.OK] * 7, writer
    assert [reader.output for reader in readers] == ["hello\n"] * 6
    links = [link for name in NODES for link in service.status(name)[1]["links"]]
    assert any(link["worker"][:2] != link["peer"][:2] for link in links)


def test_workers_are_replaced_without_downtime(service: Service) -> None:
    """One node after the other has new workers, and clients notice nothing."""
    for name in NODES:
        old = {one["worker"] for one in service.status(name)[1]["workers"]}
        service.podman("kill", "--signal", "HUP", container(name))

        def replaced(name: str = name, old: set[str] = old) -> bool:
            assert service.ssh("whoami").wait() == Status.OK
            workers = service.status(name)[1]["workers"]
            states = {one["worker"]: one["state"] for one in workers}
            return not old & states.keys() and list(states.values()) == ["serves"] * 2

        wait_until(replaced, "new workers")


def test_a_node_is_stopped(service: Service) -> None:
    """It ends in order, nobody misses it, and it comes back."""
    service.run("-f", "compose-mesh.yml", "stop", "n3")
    state = service.podman("inspect", container("n3"), "--format", "{{.State.ExitCode}}")
    assert state.strip() == "0"
    service.wait_nodes("n1", 2)
    assert service.status("n1")[0] == Status.OK
    assert service.ssh("whoami").wait() == Status.OK
    service.run("-f", "compose-mesh.yml", "start", "n3")
    service.wait_nodes("n1", 3)


def test_a_node_is_lost(service: Service) -> None:
    """What users see is what the guide says, and the topic's name is free again later."""
    readers = [service.ssh("sub -k film") for _ in range(6)]
    writer = service.ssh("pub -m 6 film", stdin=HELD)
    writer.write(b"some")
    for reader in readers:
        reader.wait_stdout(4)
    database = ("exec", container("postgres"), "psql", "-U", "pipe", "-Atc")
    home = service.podman(*database, "SELECT node FROM homes WHERE topic = 'alice/film'").strip()
    [other, _] = [name for name in NODES if name != home]
    service.podman("kill", "--signal", "KILL", container(home))
    ends = statuses(writer, *readers)
    assert set(ends) == {Status.NO_CONNECTION, Status.BROKEN}
    for one, end in zip([writer, *readers], ends, strict=True):
        assert end == Status.NO_CONNECTION or f"the stream broke: worker {home}/" in one.text
    wait_until(lambda: service.status(other)[0] == 1, "a lost node")
    assert service.status(other)[1]["problems"] == [f"node {home} is lost"]
    wait_until(lambda: service.ssh("pub -b=false film", b"").wait() == Status.OK, "a free name")
    service.podman("start", container(home))
    wait_until(lambda: service.status(other)[0] == Status.OK, "the node")
