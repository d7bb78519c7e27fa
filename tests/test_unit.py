"""docs/pipe.service: what systemd thinks of it, and what becomes of it under a real one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pipe import __version__

from .e2e.clients import KeyRing, openssh
from .e2e.desks import indented_blocks
from .e2e.processes import wait_until
from .e2e.server import ROOT, Status
from .systemd import Machine, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT: Final = ROOT / "docs" / "pipe.service"
GUIDE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

DESK: Final = "/root/desk"
"""Where whoever installs it sits."""

MOST_EXPOSURE: Final = 15
"""In tenths, of a hundred: `systemd-analyze security` finds 1.4."""


def blocks(title: str) -> list[str]:
    """The commands of a part of docs/operations.md."""
    return indented_blocks(GUIDE.split(f" {title}\n")[1].split("\n##")[0])


def drop_in() -> str:
    """What "Port 22" has for a drop-in."""
    [found] = re.findall(
        r"(?:^      .*\n)+", GUIDE.split("## Port 22\n")[1].split("\n- a ")[0], re.MULTILINE
    )
    return re.sub("^      ", "", found, flags=re.MULTILINE)


@pytest.fixture
def analyze() -> str:
    """The program that knows units."""
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("no systemd-analyze here (Debian's systemd)")
    return found


@pytest.mark.parametrize("with_drop_in", [False, True])
def test_systemd_understands_it(analyze: str, tmp_path: Path, *, with_drop_in: bool) -> None:
    """Systemd finds no fault with the unit, nor with what opens port 22."""
    text = UNIT.read_text(encoding="utf-8").replace("/opt/pipe/bin/pipe", sys.executable)
    (tmp_path / "pipe.service").write_text(text)
    if with_drop_in:
        (tmp_path / "pipe.service.d").mkdir()
        (tmp_path / "pipe.service.d" / "override.conf").write_text(drop_in())
    verify: list[str | Path] = [analyze, "verify", "--man=no", tmp_path / "pipe.service"]
    ran = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_it_may_do_little(analyze: str) -> None:
    """Nothing was taken out of its sandbox."""
    most = f"--threshold={MOST_EXPOSURE}"
    subprocess.run([analyze, "security", "--offline=true", most, UNIT], check=True)


# -- run by systemd -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What whoever installs it has: a checkout's docs, the wheel, the lock, alice's key."""
    folder = tmp_path_factory.mktemp("desk")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    shutil.copy(ROOT / "requirements" / "base.lock", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(KeyRing(folder).openssh("alice").with_suffix(".pub"), folder / "alice.pub")
    return folder


@pytest.fixture(scope="module")
def machine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the service, word for word as docs/operations.md has it."""
    if reason := why_not():
        pytest.skip(reason)
    [wheel] = [block for block in blocks("From a wheel") if "/opt/pipe" in block]
    [service] = blocks("As a systemd service")
    prepare = f"cp -r {folder} {DESK}\ncd {DESK}\n"
    machine = Machine(tmp_path_factory.mktemp("machine"), prepare + wheel)
    try:
        machine.run(f"cd {DESK}\n{service}")
        yield machine
    finally:
        machine.stop()


def shown(machine: Machine, *names: str) -> list[str]:
    """What systemd says of the service."""
    asked = ",".join(names)
    lines = machine.run(f"systemctl show pipe --property {asked}").splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values[name] for name in names]


def log_in(machine: Machine, port: int = 2222) -> None:
    """Be alice."""
    words = openssh(port, Path(DESK, "alice-ed25519"), "alice", "whoami")
    assert "alice" in machine.run(" ".join(words))


@pytest.fixture
def configured(machine: Machine) -> Iterator[Path]:
    """The folder for drop-ins; what a test has put there or into the settings goes with it."""
    place = machine.root / "etc/systemd/system/pipe.service.d"
    settings = machine.root / "etc/default/pipe"
    before = settings.read_text()
    place.mkdir()
    yield place
    shutil.rmtree(place)
    settings.write_text(before)
    machine.run("systemctl daemon-reload; systemctl reset-failed; systemctl restart pipe")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.xdist_group("systemd")
@pytest.mark.timeout(1800)
class TestUnderSystemd:
    """What the unit says comes about."""

    def test_it_serves(self, machine: Machine) -> None:
        """It is ready when the start returns, with the data where only its user may look."""
        assert shown(machine, "ActiveState", "Result") == ["active", "success"]
        log_in(machine)
        assert machine.run("stat -c '%U %a' /var/lib/pipe").split() == ["pipe", "700"]
        assert machine.run("/opt/pipe/bin/pipe version") == f"pipe {__version__}\n"
        assert '"event": "serving"' in machine.run("journalctl -u pipe -o cat")

    def test_it_may_do_nothing_else(self, machine: Machine) -> None:
        """It has a user of its own, no capability, a filter for calls, nothing to write to."""
        [pid] = shown(machine, "MainPID")
        status = machine.run(f"cat /proc/{pid}/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        user = machine.run("id -u pipe").strip()
        assert fields["Uid"].split() == [user] * 4
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert {int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
        for place in ("/etc", "/usr", "/opt/pipe", "/home"):
            inside = f"nsenter --target {pid} --mount -- touch {place}/x"
            assert machine.start(inside).wait() != Status.OK

    def test_it_comes_back(self, machine: Machine) -> None:
        """One that was killed is started again."""
        [before] = shown(machine, "MainPID")
        machine.run(f"kill -KILL {before}")
        wait_until(
            lambda: shown(machine, "ActiveState", "NRestarts") == ["active", "1"], "a new start"
        )
        log_in(machine)

    def test_it_stops_in_order(self, machine: Machine) -> None:
        """A stop is a success, and so is the start after it."""
        machine.run("systemctl stop pipe")
        assert shown(machine, "ActiveState", "Result") == ["inactive", "success"]
        machine.run("systemctl start pipe")
        assert shown(machine, "ActiveState") == ["active"]

    def test_several_workers(self, machine: Machine, configured: Path) -> None:
        """They are allowed what they need; a reload replaces them, and the service stays."""
        (configured / "workers.conf").write_text("[Service]\nEnvironment=PIPE_WORKERS=2\n")
        machine.run("systemctl daemon-reload; systemctl restart pipe")
        [pid] = shown(machine, "MainPID")
        before = set(machine.run(f"pgrep --parent {pid}").split())
        assert len(before) == 2
        log_in(machine)
        machine.run("systemctl reload pipe")

        def replaced() -> bool:
            now = set(machine.run(f"pgrep --parent {pid}").split())
            return len(now) == 2 and not now & before

        wait_until(replaced, "new workers")
        assert shown(machine, "MainPID", "ActiveState") == [pid, "active"]
        log_in(machine)

    def test_port_22(self, machine: Machine, configured: Path) -> None:
        """The documented drop-in is what it takes."""
        (configured / "override.conf").write_text(drop_in())
        machine.run("systemctl daemon-reload; systemctl restart pipe")
        log_in(machine, 22)

    @pytest.mark.usefixtures("configured")
    def test_bad_setting(self, machine: Machine) -> None:
        """It fails to start, stays down, and the journal says why."""
        settings = machine.root / "etc/default/pipe"
        settings.write_text(settings.read_text() + "PIPE_PORT=many\n")
        assert machine.start("systemctl restart pipe").wait() != Status.OK
        assert shown(machine, "ActiveState", "ExecMainStatus", "NRestarts") == ["failed", "64", "0"]
        assert "bad value 'many' for port" in machine.run("journalctl -u pipe -o cat")

    @pytest.mark.usefixtures("configured")
    def test_port_is_taken(self, machine: Machine) -> None:
        """A start that fails later is a failed start, too; it is tried again until it works."""
        machine.run("systemctl stop pipe")
        other = machine.start("exec /opt/pipe/bin/python -m http.server 2222", stdin=None)
        try:
            wait_until(lambda: machine.start("ss -ltn | grep -q :2222").wait() == 0, "a listener")
            assert machine.start("systemctl start pipe").wait() != Status.OK
        finally:
            other.kill()
        wait_until(lambda: shown(machine, "ActiveState") == ["active"], "the next try")

    def test_watchdog(self, machine: Machine, configured: Path) -> None:
        """One whose event loop stands still is replaced."""
        (configured / "watchdog.conf").write_text("[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n")
        machine.run("systemctl daemon-reload; systemctl restart pipe")
        [before] = shown(machine, "MainPID")
        machine.run(f"kill -STOP {before}")
        wait_until(
            lambda: (
                shown(machine, "ActiveState", "MainPID")[0] == "active"
                and shown(machine, "MainPID") not in ([before], ["0"])
            ),
            "another process",
        )
        assert "watchdog" in machine.run("journalctl -u pipe -o cat").lower()
