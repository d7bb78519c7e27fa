"""Several machines as one service: nodes on loopback that share one PostgreSQL, and real `ssh`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pipe.ssh.server import load_host_key
from tests.postgres import Postgres

from . import clients
from .nodes import Nodes
from .payloads import MIB, noise, sha256
from .processes import DEADLINE, HELD, statuses, wait_until
from .receiver import receiving
from .server import ROOT, Status, free_port
from .test_workers import workers_of
from .web import Program, which

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import KeyRing
    from .server import Server

pytestmark = pytest.mark.e2e


def test_streams_between_machines(nodes: Nodes) -> None:
    """Wherever both are, a stream arrives whole, and both end well; two readers are waited for."""
    first = nodes.start("n1")
    second = nodes.start("n2")
    pairs = [(first, second), (second, first)]
    for number, (home, other) in enumerate(pairs):
        data = noise(4 * MIB)
        sub = home.ssh("alice", f"sub t{number}")
        home.wait_sessions(subscribe=1)
        pub = other.ssh("alice", f"pub t{number}", stdin=data)
        assert statuses(pub, sub) == [Status.OK] * 2
        assert sha256(sub.stdout.data) == sha256(data)
        assert "to 1 subscriber" in pub.text
    pub = first.ssh("alice", "pub -m 2 both", stdin=b"hello")
    first.wait_waiting()
    subs = [server.ssh("alice", "sub both") for server in (first, second)]
    assert statuses(pub, *subs) == [Status.OK] * 3
    assert [sub.output for sub in subs] == ["hello"] * 2


@pytest.mark.slow
def test_behind_haproxy(nodes: Nodes, tmp_path: Path) -> None:
    """With docs/haproxy.cfg clients meet wherever they are sent; a lost node is passed over."""
    running = [nodes.start(name) for name in ("n1", "n2")]
    ports = [free_port(), *(node.port for node in running)]  # of n1, which is lost, n2 and n3
    text = (ROOT / "docs" / "haproxy.cfg").read_text(encoding="utf-8")
    for number, port in enumerate(ports, start=1):
        text = text.replace(f" n{number}:2222", f" {clients.HOST}:{port}")
    front = free_port()
    config = tmp_path / "haproxy.cfg"
    text = text.replace("maxconn 20000", "maxconn 64")  # within what a test may open
    config.write_text(text.replace("bind :22", f"bind {clients.HOST}:{front}"))
    through = ("-p", str(front))
    with Program([which("haproxy"), "-f", str(config)], front):
        pub = running[0].ssh("alice", "pub -m 3 t", stdin=b"hello", options=through)
        subs = [running[0].ssh("alice", "sub t", options=through) for _ in range(3)]
        assert statuses(pub, *subs) == [Status.OK] * 4
        assert [sub.output for sub in subs] == ["hello"] * 3


def is_free(node: Server, topic: str) -> bool:
    """Whether a topic can be opened at a node."""
    return node.run("alice", f"pub -b=false {topic}", b"").wait() == Status.OK


def members_of(node: Server) -> list[int]:
    """All its processes."""
    return [node.pid, *workers_of(node).values()]


@pytest.mark.slow
def test_worker_of_another_machine_dies(nodes: Nodes) -> None:
    """Who is on its topics elsewhere is told, and the names are free again at once."""
    first, second = nodes.start("n1", workers=2), nodes.start("n2")
    sub = first.ssh("alice", "sub t")
    first.wait_sessions(subscribe=1)
    pub = second.ssh("alice", "pub t", stdin=HELD)
    pub.write(b"some")
    sub.wait_stdout(4)
    os.kill(workers_of(first)[home_of(first)], signal.SIGKILL)
    assert statuses(sub, pub) == [Status.NO_CONNECTION, Status.BROKEN]
    assert "the stream broke: worker n1/" in pub.text
    wait_until(lambda: is_free(second, "t"), "a free name")


def home_of(node: Server) -> int:
    """The number of the worker that has taken a connection last."""
    number: int = node.wait_lines("name claimed")[-1]["worker"]
    return number


def test_patterns_and_lists(nodes: Nodes) -> None:
    """A pattern's reader gets what is at home elsewhere, and lists have it."""
    first, second = nodes.start("n1"), nodes.start("n2")
    reader = second.ssh("alice", "sub -k 'p*'")
    second.wait_sessions(subscribe=1)
    pub = first.ssh("alice", "pub p1", stdin=HELD)
    pub.write(b"some")
    reader.wait_stdout(4)
    assert "p1" in second.run("alice", "ls").output
    pub.close_stdin()
    assert pub.wait() == Status.OK
    assert reader.output == "some"


def test_webhook_of_all_machines(nodes: Nodes) -> None:
    """One machine posts what is published on any; whoever asks elsewhere is answered by it."""
    first, second = (nodes.start(name, webhook_networks="127.0.0.0/8") for name in ("n1", "n2"))
    first.wait_lines("duties taken")
    with receiving() as receiver:
        add = f"webhooks add deploys {receiver.url} --frame line"
        wait_until(lambda: second.run("alice", add).wait() == Status.OK, "the one who does it")
        command = "pub -t 2s deploys"
        wait_until(lambda: second.run("alice", command, b"v1\n").wait() == Status.OK, "its home")
        assert first.run("alice", "pub deploys", b"v2\n").wait() == Status.OK
        assert [post.body for post in receiver.wait(2)] == [b"v1", b"v2"]
    assert not second.lines("duties taken")


def test_quota_of_all_machines(nodes: Nodes) -> None:
    """Sessions of a user on all machines count together; those of a lost one no longer."""
    first, second = (nodes.start(name, max_sessions_per_user=2) for name in ("n1", "n2"))
    first.subscribe("alice", "sub news", count=2)
    wait_until(lambda: is_limited(second), "as many as allowed")
    first.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_limited(second), "room for another")


def is_limited(node: Server) -> bool:
    """Whether a user has as many sessions as allowed."""
    session = node.ssh("alice", "whoami", options=("-o", "LogLevel=INFO"))
    if session.wait() == Status.OK:
        return False
    assert "too many sessions of this user: at most 2 at once" in session.text
    return True


def test_status(nodes: Nodes) -> None:
    """It says 0 and how all are, and 1 once a machine is lost; 69 where nobody can say."""
    first, second = nodes.start("n1"), nodes.start("n2", workers=2)
    sub = first.ssh("alice", "sub t")
    first.wait_sessions(subscribe=1)
    pub = second.ssh("alice", "pub t", stdin=HELD)
    pub.write(b"some")
    sub.wait_stdout(4)

    def is_known() -> bool:
        return "None" not in str([ask(node)[1]["nodes"] for node in (first, second)])

    wait_until(is_known, "news of each other")
    status, found = ask(first)
    assert (status, found["problems"], found["warnings"]) == (Status.OK, [], [])
    assert [(one["node"], one["state"], one["workers"]) for one in found["nodes"]] == [
        ("n1", "here", 1),
        ("n2", "there", 2),
    ]
    assert [(one["worker"], one["state"], one["connections"]) for one in found["workers"]] == [
        ("n1/1", "serves", 1)
    ]
    [link] = found["links"]
    assert link["peer"] in {"n2/1", "n2/2"}
    assert (link["worker"], link["opened"], link["sessions"]) == ("n1/1", "there", 1)
    assert link["received_bytes"] > 4
    assert 0 < link["rtt_seconds"] < 60
    assert found["directory"]["reachable"]
    assert {one["name"] for one in found["certificates"]} == {"node", "ca"}
    assert second.metrics().value("pipe_links", to="node") == 1
    assert second.metrics().value("pipe_hops_total", to="node") == 1

    first.process.send_signal(signal.SIGKILL)
    wait_until(lambda: ask(second)[0] == 1, "a lost node")
    shown = pipe("mesh", "status", "--data-dir", str(second.data_dir))
    assert "problem: node n1 is lost" in shown.stdout
    assert second.metrics().value("pipe_mesh_nodes", state="lost") == 1
    wait_until(lambda: ask(first)[0] == Status.SHUTDOWN, "its socket's end")


def ask(node: Server) -> tuple[int, dict[str, Any]]:
    """The status of `pipe mesh status` on a node's machine, and what it says."""
    ran = pipe("mesh", "status", "--json", "--data-dir", str(node.data_dir))
    if ran.stdout:
        return ran.returncode, json.loads(ran.stdout)
    assert re.fullmatch(r"pipe: no node of a mesh runs in .*\n", ran.stderr)
    return ran.returncode, {}


def pipe(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program."""
    return subprocess.run(
        [sys.executable, "-m", "pipe", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_another_service_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """A node with another host key does not start, and says how to mend it."""
    nodes.start("n1")
    (tmp_path / "n1" / "host_key").rename(tmp_path / "kept")
    first_key = make_host_key(tmp_path / "n1" / "host_key")
    with pytest.raises(AssertionError, match=r"has the host key .* copy the file host_key"):
        nodes.start("n2")
    assert first_key.exists()


def make_host_key(path: Path) -> Path:
    """Make one, where the next node's is copied from."""
    load_host_key(path)
    return path


@pytest.mark.slow
def test_machine_is_lost(nodes: Nodes) -> None:
    """Streams to it break; joins to its topics are refused until their names are free again."""
    first, second = nodes.start("n1"), nodes.start("n2")
    sub = first.ssh("alice", "sub t")
    first.wait_sessions(subscribe=1)
    pub = second.ssh("alice", "pub t", stdin=HELD)
    pub.write(b"some")
    sub.wait_stdout(4)
    first.process.send_signal(signal.SIGKILL)
    assert statuses(sub, pub) == [Status.NO_CONNECTION, Status.BROKEN]
    early = second.run("alice", "pub -b=false t", b"")
    assert early.wait() == Status.SHUTDOWN
    assert "n1 cannot be reached from n2" in early.text
    second.wait_lines("duties taken")
    wait_until(lambda: is_free(second, "t"), "a free name")


@pytest.mark.slow
def test_machine_stands_still(nodes: Nodes) -> None:
    """Streams to it break after some seconds of silence; when it goes on, it is one again."""
    first, second = nodes.start("n1"), nodes.start("n2")
    sub = first.ssh("alice", "sub t")
    first.wait_sessions(subscribe=1)
    pub = second.ssh("alice", "pub t", stdin=HELD)
    pub.write(b"some")
    sub.wait_stdout(4)
    processes = members_of(first)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    assert statuses(pub) == [Status.BROKEN]
    for process in processes:
        os.kill(process, signal.SIGCONT)
    assert statuses(sub) == [Status.BROKEN]
    first.wait_empty()
    again = first.ssh("alice", "sub u")
    first.wait_sessions(subscribe=1)
    wait_until(
        lambda: second.run("alice", "pub -b=false u", b"new").wait() == Status.OK, "a way there"
    )
    assert again.wait() == Status.OK


@pytest.mark.slow
def test_machine_stands_still_for_long(nodes: Nodes) -> None:
    """Its names are free meanwhile; when it goes on, what it had of them by then is broken."""
    first, second = nodes.start("n1"), nodes.start("n2")
    sub = first.ssh("alice", "sub t")
    first.wait_sessions(subscribe=1)
    second.introduce("alice")
    processes = members_of(first)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    wait_until(lambda: is_free(second, "t"), "a free name")
    new = second.ssh("alice", "pub t", stdin=b"new")
    second.wait_waiting()
    for process in processes:
        os.kill(process, signal.SIGCONT)
    assert sub.wait() == Status.BROKEN
    assert "cut off from the others" in sub.text
    again = first.ssh("alice", "sub t")
    assert statuses(new, again) == [Status.OK] * 2
    assert again.output == "new"


@pytest.mark.slow
def test_database_is_away(tmp_path: Path, keys: KeyRing) -> None:
    """Streams go on and what is at home can be joined; nothing new is opened until it is back.

    Nobody can log in meanwhile, so those who do more share a connection that there is.
    """
    with Postgres() as postgres:
        nodes = Nodes(tmp_path, keys, postgres.new_database())
        first, second = nodes.start("n1"), nodes.start("n2")
        here, there = (("-S", str(tmp_path / name)) for name in ("here", "there"))
        sub = first.ssh("alice", "sub t", options=("-M", *here))
        first.wait_sessions(subscribe=1)
        pub = second.ssh("alice", "pub t", stdin=HELD, options=("-M", *there))
        pub.write(b"some")
        sub.wait_stdout(4)
        postgres.stop()
        late = first.ssh("alice", "sub t", options=here)
        first.wait_sessions(subscribe=2)
        refused = second.ssh("alice", "pub new", options=there)
        assert refused.wait() == Status.SHUTDOWN
        assert "database" in refused.text
        pub.write(b" more")
        late.wait_stdout(5)
        postgres.start()
        wait_until(lambda: is_free(second, "new"), "a new topic")
        pub.close_stdin()
        assert statuses(pub, late, sub) == [Status.OK] * 3
        assert sub.output == "some more"
        nodes.close()
