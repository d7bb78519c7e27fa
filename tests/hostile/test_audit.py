"""The algorithms on offer, as ssh-audit and a client without AES-GCM see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from asyncssh.packet import SSHPacket

from tests.e2e import clients
from tests.e2e.clients import bare_environment
from tests.e2e.processes import DEADLINE

from .ciphers import PLAIN

if TYPE_CHECKING:
    from .scene import Scene

pytestmark = pytest.mark.hostile

POLICY: Final = Path(__file__).with_name("ssh-audit.policy")

FAILURES: Final = 3
"""ssh-audit's exit status where something failed; 2 is for warnings."""

WITHOUT_GCM: Final = [
    *(b"aes128-gcm@openssh.com", b"aes256-gcm@openssh.com"),
    *(b"chacha20-poly1305@openssh.com", b"aes256-ctr"),
]


def audit(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ssh-audit without its flood, which test_ends.py has of its own."""
    command = [sys.executable, "-m", "ssh_audit.ssh_audit", "--no-colors", "--skip-rate-test"]
    return subprocess.run(
        [*command, *options, "-p", str(port), clients.HOST],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=bare_environment(),
    )


def test_policy_is_kept(scene: Scene) -> None:
    """What is offered is the policy's list, to the letter."""
    if scene.server.lane != "fast":
        pytest.skip("asyncssh's own path offers all ciphers to everybody")
    done = audit(scene.server.port, "-P", str(POLICY))

    assert done.returncode == 0, done.stdout


def test_nothing_fails(scene: Scene) -> None:
    """By ssh-audit's own judgement nothing on offer is broken, and the strict marker is there."""
    done = audit(scene.server.port)

    assert done.returncode < FAILURES, done.stdout
    assert "[fail]" not in done.stdout
    assert "kex-strict-s-v00@openssh.com" in done.stdout


def test_clients_without_gcm_get_sound_ciphers_too(scene: Scene) -> None:
    """Who cannot do AES-GCM gets ChaCha20 or AES-CTR with encrypt-then-MAC, and no compression."""
    stranger = scene.stranger(suite=PLAIN)
    stranger.exchange_versions()
    stranger.begin_kex()
    packet = SSHPacket(stranger.receive()[17:])
    lists = [packet.get_namelist() for _ in range(8)]

    assert lists[2] == lists[3] == WITHOUT_GCM
    assert all(mac.endswith(b"-etm@openssh.com") for mac in [*lists[4], *lists[5]])
    assert lists[6] == lists[7] == [b"none"]
