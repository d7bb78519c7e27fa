"""The README word for word: its quick start and its recipes, taken from the file itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Final

import pytest

from .desks import RECIPES, Desks, fenced_blocks, indented_blocks, section
from .payloads import MIB, noise, sha256
from .processes import HELD, Process, statuses, wait_until
from .registry import make_image, registry
from .server import Server, Status, free_port
from .web import is_listening

if TYPE_CHECKING:
    from pathlib import Path

    from .clients import KeyRing
    from .conftest import StartServer
    from .desks import Terminal

pytestmark = pytest.mark.e2e

MANY_JOBS: Final = 100


def recipes() -> dict[int, list[str]]:
    """The blocks of each recipe, by its number."""
    _, *parts = re.split(r"^### (\d+)\. ", section(RECIPES), flags=re.MULTILINE)
    numbered = zip(parts[::2], parts[1::2], strict=True)
    return {int(number): fenced_blocks(text) for number, text in numbered}


@pytest.fixture
def blocks(request: pytest.FixtureRequest) -> list[str]:
    """The blocks of the recipe whose number is in the test's name."""
    found = re.match(r"test_(\d+)_", request.function.__name__)
    assert found
    return recipes()[int(found[1])]


@pytest.fixture(params=["reader first", "writer first"])
def reader_first(request: pytest.FixtureRequest) -> bool:
    """A recipe's blocks may be started in any order."""
    value: str = request.param
    return value == "reader first"


def in_turn(
    server: Server,
    readers: list[tuple[Terminal, str]],
    writer: tuple[Terminal, str],
    *,
    first: bool,
) -> tuple[list[Process], Process]:
    """Start readers and writer, the readers `first` or last, each side once the other is there."""
    write = writer[0].start
    if first:
        started = [terminal.start(block) for terminal, block in readers]
        server.wait_sessions(subscribe=len(readers))
        return started, write(writer[1])
    sender = write(writer[1])
    server.wait_waiting()
    return [terminal.start(block) for terminal, block in readers], sender


def test_there_are_fourteen_and_each_has_a_test() -> None:
    """No recipe is left out here, and none is tested that is no longer there."""
    tested = {int(found[1]) for name in globals() if (found := re.match(r"test_(\d+)_", name))}

    assert list(recipes()) == list(range(1, len(recipes()) + 1))
    assert tested == set(recipes())


def test_quick_start(server: Server, desks: Desks) -> None:
    """The quick start's reader prints what its writer says, and both end well."""
    serve, read, write = indented_blocks(section("Quick start"))
    reader = desks.terminal().start(read)
    server.wait_sessions(subscribe=1)
    writer = desks.terminal().start(write)

    assert serve == "make serve\n"
    assert statuses(reader, writer) == [Status.OK] * 2
    assert reader.output == "hello\n"


def test_1_send_a_file(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """Both ends print the same checksum, that of the file."""
    receive, send = blocks
    here, there = desks.terminal(), desks.terminal()
    image = noise(4 * MIB)
    (here.folder / "disk.img").write_bytes(image)
    [reader], writer = in_turn(server, [(there, receive)], (here, send), first=reader_first)

    assert statuses(reader, writer) == [Status.OK] * 2
    assert reader.output.split() == [sha256(image), "copy.img"]
    assert writer.output.split() == [sha256(image), "disk.img"]
    assert (there.folder / "copy.img").read_bytes() == image


def test_2_copy_a_folder(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """Two machines unpack the same tree."""
    receive, send = blocks
    here, *there = (desks.terminal() for _ in range(3))
    files = {"index.html": b"<h1>hi</h1>\n", "pictures/cat.jpg": noise(MIB)}
    for name, data in files.items():
        path = here.folder / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    readers, writer = in_turn(
        server, [(each, receive) for each in there], (here, send), first=reader_first
    )

    assert statuses(writer, *readers) == [Status.OK] * 3
    for each in there:
        copy = each.folder / "site"
        found = {str(p.relative_to(copy)): p.read_bytes() for p in copy.rglob("*") if p.is_file()}
        assert found == files


def test_3_copy_a_database(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """The copy has what was committed when the dump began, not what a transaction is adding."""
    receive, send = blocks
    here, there = desks.terminal(), desks.terminal()
    rows = [(number, f"row {number}") for number in range(1000)]
    with contextlib.closing(sqlite3.connect(here.folder / "app.db")) as in_use:
        in_use.execute("PRAGMA journal_mode=WAL")
        in_use.execute("CREATE TABLE thing (id INTEGER PRIMARY KEY, name TEXT)")
        in_use.executemany("INSERT INTO thing VALUES (?, ?)", rows)
        in_use.commit()
        in_use.execute("INSERT INTO thing VALUES (-1, 'not committed')")
        [reader], writer = in_turn(server, [(there, receive)], (here, send), first=reader_first)

        assert statuses(reader, writer) == [Status.OK] * 2
    with contextlib.closing(sqlite3.connect(there.folder / "copy.db")) as copy:
        assert copy.execute("SELECT * FROM thing ORDER BY id").fetchall() == rows


def test_4_talk(server: Server, desks: Desks, blocks: list[str]) -> None:
    """What one says the others read, with the name; Ctrl-C ends the one and not the other."""
    talk, say = blocks
    alices, bobs = desks.terminal("alice"), desks.terminal("bob")
    alice, bob = alices.start(talk, HELD), bobs.start(talk, HELD)
    server.wait_sessions(pipe=2)

    alice.write(b"tea?\n")
    bob.wait_stdout(len("alice: tea?\n"))
    assert desks.terminal("carol").start(say).wait() == Status.OK
    alice.wait_stdout(len("carol: the kettle is on\n"))
    assert alice.output == "carol: the kettle is on\n"
    bob.wait_stdout(len("alice: tea?\n" + alice.output))
    assert bob.output == "alice: tea?\n" + alice.output

    alices.control_c()
    server.wait_sessions(pipe=1)
    assert bob.running


@pytest.mark.parametrize("status", [0, 3])
def test_5_wait_for_a_deployment(
    server: Server, desks: Desks, blocks: list[str], status: int, *, reader_first: bool
) -> None:
    """The tests run if the deployment went well; else the gate has the deployment's status."""
    gate, deploy = blocks
    here, there = desks.terminal(), desks.terminal()
    here.program("deploy", f"exit {status}")
    there.program("run-tests", "echo tested")
    [waiting], writer = in_turn(server, [(there, gate)], (here, deploy), first=reader_first)

    assert statuses(waiting, writer) == [status, Status.OK]
    assert waiting.output == ("" if status else "tested\n")


def test_6_follow_a_log(server: Server, desks: Desks, blocks: list[str]) -> None:
    """Every reader gets each line that is written from now on, one of them only what it looks for.

    They stay when the log's own session is interrupted, and get what a second one sends.
    """
    send, search, see_all = blocks
    here = desks.terminal()
    log = here.folder / "app.log"
    log.touch()
    searching, seeing = (desks.terminal().start(block) for block in (search, see_all))
    server.wait_sessions(subscribe=2)

    bad, seen = b"", b""
    for run in range(2):
        here.start(send)
        server.wait_sessions(publish=1)
        with log.open("a") as file:
            file.write(f"all is well\nERROR {run}\n")
        # `tail` begins with the last ten lines, so that a second run repeats the first one's.
        bad += b"".join(f"ERROR {each}\n".encode() for each in range(run + 1))
        seen += log.read_bytes()
        searching.wait_stdout(len(bad))
        seeing.wait_stdout(len(seen))
        here.control_c()
        server.wait_sessions(publish=0)
        here.close()

    assert searching.stdout.data == bad
    assert seeing.stdout.data == seen
    server.wait_sessions(subscribe=2)


def test_7_collect_from_many_topics(server: Server, desks: Desks, blocks: list[str]) -> None:
    """The pattern's reader takes in a topic that was not there, prints and keeps what it says."""
    collect, report = blocks
    desk = desks.terminal()
    collecting = desk.start(collect)
    server.wait_sessions(subscribe=1)
    reporting = desks.terminal().start(report)

    assert reporting.wait() == Status.OK
    collecting.wait_stdout(len("web: passed\n"))
    wait_until((desk.folder / "builds.log").read_bytes, "the log is written")
    assert (desk.folder / "builds.log").read_text() == collecting.output == "web: passed\n"
    assert collecting.running


def test_8_share_with_a_colleague(server: Server, desks: Desks, blocks: list[str]) -> None:
    """Bob gets the report that alice let him read; carol, whom she did not, is denied."""
    share, fetch = blocks
    server.introduce("alice", "bob", "carol")
    here, there = desks.terminal("alice"), desks.terminal("bob")
    (here.folder / "report.pdf").write_bytes(noise(MIB))
    sharing = here.start(share)
    server.wait_waiting()
    assert desks.terminal("carol").start(fetch).wait() == Status.DENIED
    fetching = there.start(fetch)

    assert statuses(sharing, fetching) == [Status.OK] * 2
    assert (there.folder / "report.pdf").read_bytes() == noise(MIB)
    assert "bob" in server.run("alice", "grants").output


def test_9_deal_out_work(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """Each job is done once, whole, by one of the two; both have had some."""
    work, deal = blocks
    here, *workers = (desks.terminal() for _ in range(3))
    jobs = [f"job-{number:04}-{'x' * number}" for number in range(MANY_JOBS)]
    (here.folder / "jobs.txt").write_text("".join(job + "\n" for job in jobs))
    for worker in workers:
        worker.program("work", 'echo "$1"')
    working, dealing = in_turn(
        server, [(each, work) for each in workers], (here, deal), first=reader_first
    )

    assert statuses(dealing, *working) == [Status.OK] * 3
    shares = [each.output.splitlines() for each in working]
    assert all(shares)
    assert sorted(shares[0] + shares[1]) == jobs


def test_10_reach_a_machine(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """The commands run over there, and what they say comes back."""
    obey, ask = blocks
    there = desks.terminal()
    [obeying], asking = in_turn(
        server, [(there, obey)], (desks.terminal(), ask), first=reader_first
    )

    assert statuses(obeying, asking) == [Status.OK] * 2
    uname = os.uname()
    assert asking.output == f"{uname.nodename}\n{uname.sysname}\n"


def at_this_port(server: Server, block: str) -> str:
    """A block that names the port of HTTP, which is another one here."""
    assert "127.0.0.1:8222" in block
    return block.replace(":8222", f":{server.web_port}")


def test_11_send_with_curl(server: Server, desks: Desks, blocks: list[str]) -> None:
    """Where there is only a token, curl waits for the reader, who gets all of the report."""
    make, read, send = blocks
    here, there = desks.terminal(), desks.terminal()
    assert here.start(make).wait() == Status.OK
    (here.folder / "report.xml").write_bytes(noise(MIB))
    sender = here.start(at_this_port(server, send))
    server.wait_waiting()
    reader = there.start(read)

    assert statuses(reader, sender) == [Status.OK] * 2
    assert sha256(reader.stdout.data) == sha256(noise(MIB))
    assert sender.output == f"sent {MIB} bytes to 1 subscriber\n"


def test_12_receive_with_curl(
    server: Server, desks: Desks, blocks: list[str], *, reader_first: bool
) -> None:
    """What arrives is unpacked, as all of it has arrived."""
    receive, send = blocks
    here, there = desks.terminal(), desks.terminal()
    (here.folder / "dist").mkdir()
    (here.folder / "dist" / "program").write_bytes(noise(MIB))
    [reader], writer = in_turn(
        server, [(there, at_this_port(server, receive))], (here, send), first=reader_first
    )

    assert statuses(reader, writer) == [Status.OK] * 2
    assert (there.folder / "dist" / "program").read_bytes() == noise(MIB)


def test_13_let_somebody_send_a_file(server: Server, desks: Desks, blocks: list[str]) -> None:
    """Who has the link sends one file to its topic; it works once."""
    give, send = blocks
    here, there = desks.terminal(), desks.terminal()
    receiver = here.start(give)
    server.wait_sessions(subscribe=1)
    (there.folder / "address").write_text((here.folder / "address").read_text())
    (there.folder / "photo.jpg").write_bytes(noise(MIB))

    assert there.start(send).wait() == Status.OK
    assert receiver.wait() == Status.OK
    assert (here.folder / "received").read_bytes() == noise(MIB)
    assert there.start(send).wait() == 22


def test_14_redeploy_on_a_push(
    start_server: StartServer, keys: KeyRing, tmp_path: Path, blocks: list[str]
) -> None:
    """The push goes to the registry behind the server, and then there is a redeployment.

    skopeo stands in Docker's place, which would need a daemon.
    """
    deploy, forward, publish = blocks
    with registry(tmp_path) as upstream:
        server = start_server(registry_url=f"http://127.0.0.1:{upstream.port}")
        desks = Desks(tmp_path, server, keys)
        here, there = desks.terminal(), desks.terminal()
        there.program("redeploy", "echo deployed")
        waiting = there.start(deploy)
        server.wait_sessions(subscribe=1)
        port = free_port()
        desks.terminal().start(forward.replace("1338", str(port)))
        wait_until(lambda: is_listening(port), "the port is forwarded")
        make_image(here.folder / "image", b"hello")
        here.program(
            "docker",
            'skopeo --insecure-policy copy --dest-tls-verify=false oci:image "docker://$2"',
        )
        pushed = here.start(f"PATH=.:$PATH; {publish.replace('1338', str(port))}")

        assert statuses(pushed, waiting) == [Status.OK] * 2
        assert waiting.output.endswith("\ndeployed\n")
        assert '"repository":"alice/alpine"' in waiting.output
        desks.close()


def test_15_hooks(server: Server, desks: Desks, blocks: list[str]) -> None:
    """What a service posts is read, and what waits for it runs."""
    make, read, post = blocks
    here, there = desks.terminal(), desks.terminal()
    assert here.start(make).wait() == Status.OK
    there.program("deploy", "echo deployed")
    [reader], sender = in_turn(server, [(there, read)], (here, post), first=True)

    assert statuses(reader, sender) == [Status.OK] * 2
    assert reader.output == "web v1.2deployed\n"


def test_16_show_your_users_their_lines(
    start_server: StartServer, keys: KeyRing, tmp_path: Path, blocks: list[str]
) -> None:
    """Bob sees the service's line about him, and not the one about carol."""
    write, read = blocks
    assert "--log-drain alice/logs" in section(RECIPES)
    server = start_server(log_drain="alice/logs")
    server.introduce("alice", "bob")
    desks = Desks(tmp_path, server, keys)
    here, there = desks.terminal(), desks.terminal("bob")
    lines = [f'{{"level":"INFO","msg":"hello","user":"{user}"}}' for user in ("carol", "bob")]
    here.program("service", "".join(f"echo '{line}'; " for line in lines))
    reader = there.start(read)
    assert here.start(write).wait() == Status.OK
    reader.wait_stdout(len(lines[1]))
    assert reader.output == f"{lines[1]}\n"
    desks.close()


def test_17_hear_of_a_cron_job(server: Server, desks: Desks, blocks: list[str]) -> None:
    """A backup that fails after one that went well is an alert that says so."""
    add, job, hear = blocks
    cron, here = desks.terminal(), desks.terminal()
    assert here.start(add).wait() == Status.OK
    reader = here.start(hear)
    server.wait_sessions(subscribe=1)
    for status in (0, 3):
        cron.program("backup", f"exit {status}")
        assert cron.start(job).wait() == Status.OK
        server.wait_metric("pipe_monitors", 1, state=("up", "down")[status > 0])
    wait_until(lambda: reader.output.endswith("\n"), "the alert")
    alert = json.loads(reader.output)
    assert (alert["monitor"], alert["state"]) == ("alice/nightly", "down")
    assert alert["reason"] == "a publisher ended with status 3"


def test_18_move_a_large_file(server: Server, desks: Desks, blocks: list[str]) -> None:
    """The functions are printed, and the file is there; `test_resume.py` breaks the line."""
    receive, send = blocks
    here, there = desks.terminal(), desks.terminal()
    (there.folder / "disk.img").write_bytes(noise(MIB))
    reader = here.start(receive)
    server.wait_sessions(subscribe=1)
    assert statuses(there.start(send), reader) == [Status.OK] * 2
    assert (here.folder / "disk.img").read_bytes() == noise(MIB)
