"""The host key: made once, whole or not at all; asyncssh's options: each set on purpose."""

from __future__ import annotations

import errno
import inspect
import io
import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import asyncssh
import pytest
from structlog.testing import capture_logs

from pipe.errors import StartError
from pipe.settings import Lane
from pipe.ssh.server import load_host_key, make_options
from tests.ssh.wire import HOST_KEY, make_service

if TYPE_CHECKING:
    from pathlib import Path

OFF: Final = {
    "agent_forwarding": False,
    "allow_scp": False,
    "authorized_client_keys": None,
    "compression_algs": None,
    "gss_auth": False,
    "gss_host": None,
    "gss_kex": False,
    "host_based_auth": False,
    "kbdint_auth": False,
    "line_editor": False,
    "password_auth": False,
    "process_factory": None,
    "rdns_lookup": False,
    "send_server_host_keys": False,
    "session_factory": None,
    "sftp_factory": None,
    "x11_forwarding": False,
    "x509_trusted_certs": None,
}
"""What a server on asyncssh would do, or could be talked into, and this one must not."""

UNNEEDED: Final = {
    # files that asyncssh could read, and what they are matched against
    *("config", "last_config", "reload", "canonical", "final", "username", "loop", "passphrase"),
    *("accept_addr", "accept_port", "client_addr", "client_host", "local_addr"),
    *("canonical_domains", "canonicalize_fallback_local", "canonicalize_hostname"),
    *("canonicalize_max_dots", "canonicalize_permitted_cnames"),
    # of what is off
    *("known_client_hosts", "trust_client_host", "gss_store", "server_host_certs"),
    *("x11_auth_path", "x509_purposes", "x509_trusted_cert_paths", "sftp_version"),
    *("errors", "utf8_decode_errors", "line_echo", "line_history", "max_line_length"),
    # of a client, or of a socket that asyncssh would open
    *("connect_timeout", "family", "host", "port", "proxy_command", "tunnel"),
    # an hour, as asyncssh has it
    "rekey_seconds",
}
"""Options that are left alone."""


class FullDisk(io.RawIOBase):
    """A file that takes nothing."""

    def write(self, _: object) -> NoReturn:
        """Fail."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_host_key_is_made_once(tmp_path: Path) -> None:
    """The second start has the same key, and nobody else can read it."""
    path = tmp_path / "host_key"
    first, second = load_host_key(path), load_host_key(path)
    assert first.public_data == second.public_data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_host_key_that_others_can_read(tmp_path: Path) -> None:
    """It is closed to them as it is loaded, and the log says that they may have it already."""
    path = tmp_path / "host_key"
    load_host_key(path)
    for mode in (0o640, 0o604):
        path.chmod(mode)
        with capture_logs() as logs:
            load_host_key(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [line["event"] for line in logs] == ["host key was open to others"]


def test_host_key_is_no_link_to_nowhere(tmp_path: Path) -> None:
    """A link whose target is missing is not followed to make a key where it points."""
    path, target = tmp_path / "host_key", tmp_path / "elsewhere"
    path.symlink_to(target)
    with pytest.raises(StartError, match="File exists"):
        load_host_key(path)
    assert not target.exists()


def test_no_half_host_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full no part of a key stays, so that the next start can make a whole one."""
    path = tmp_path / "host_key"

    def open_on_full_disk(descriptor: int, _mode: str) -> FullDisk:
        os.close(descriptor)
        return FullDisk()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", open_on_full_disk)
        with pytest.raises(StartError, match="No space left on device"):
            load_host_key(path)
    assert not path.exists()
    assert load_host_key(path)


def options_of(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What asyncssh is told."""
    with monkeypatch.context() as patch:
        patch.setattr(asyncssh, "SSHServerConnectionOptions", dict)
        given = make_options(make_service(lane), HOST_KEY, cast("partial[Any]", partial(object)))
    return cast("dict[str, Any]", given)


@pytest.mark.parametrize("lane", Lane)
def test_what_is_not_needed_is_off(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to asyncssh's defaults that somebody could use."""
    given = options_of(lane, monkeypatch)
    assert {name: given[name] for name in OFF} == OFF
    assert given["server_version"] == "OpenSSH_pipe"
    assert given["max_pktsize"] == 1 << 15
    assert given["keepalive_interval"] > 0
    assert given["login_timeout"] > 0
    assert given["encoding"] is None


def test_every_option_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that a later asyncssh brings is noticed: somebody has to decide about it."""
    given = options_of(Lane.FAST, monkeypatch)
    known = inspect.signature(asyncssh.SSHServerConnectionOptions.prepare).parameters
    assert set(known) - {"self"} == set(given) | UNNEEDED
