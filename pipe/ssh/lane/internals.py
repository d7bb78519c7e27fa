"""The private names of asyncssh that the lane relies on, and a check that they exist.

A missing or renamed one would make streams stand still, so the check runs before the server starts.
``pyproject.toml`` pins the range of versions that the tests have run with.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import asyncssh
from asyncssh import connection
from asyncssh.channel import SSHServerChannel
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption

from pipe.errors import StartError

if TYPE_CHECKING:
    from types import ModuleType

METHODS = {
    asyncssh.SSHServerConnection: (
        "_cancel_login_timer",
        "_cleanup",
        "_finish_recv_packet",
        "_force_close",
        "_keepalive_timer_callback",
        "_recv_data",
        "_recv_packet",
        "_recv_pkthdr",
        "_recv_version",
        "_reset_keepalive_timer",
        "_send",
        "_send_disconnect",
        "_send_kexinit",
        "_send_version",
        "_set_keepalive_timer",
        "_update_recv_pktlen",
        "internal_error",
        "process_packet",
        "send_newkeys",
        "send_packet",
    ),
    SSHServerChannel: (
        "_process_env_request",
        "_process_exec_request",
        "_process_signal_request",
        "_start_session",
        "send_packet",
    ),
    GCMEncryption: ("decrypt_header", "decrypt_packet", "encrypt_packet"),
}

ATTRIBUTES = {
    asyncssh.SSHServerConnection: (
        "_auth_complete",
        "_auth_final",
        "_can_recv_ext_info",
        "_cert_options",
        "_channels",
        "_client_kexinit",
        "_client_version",
        "_close_event",
        "_cmp_alg_cs",
        "_cmp_alg_sc",
        "_decompressor",
        "_deferred_packets",
        "_enc_alg_cs",
        "_enc_alg_sc",
        "_enc_algs",
        "_global_request_queue",
        "_global_request_waiters",
        "_inpbuf",
        "_keepalive_count",
        "_kex",
        "_kex_complete",
        "_kexinit_sent",
        "_mac_alg_cs",
        "_mac_alg_sc",
        "_max_recv_pktlen",
        "_next_recv_chan",
        "_next_recv_encryption",
        "_recv_blocksize",
        "_recv_encryption",
        "_recv_handler",
        "_recv_macsize",
        "_recv_seq",
        "_rekey_bytes",
        "_rekey_bytes_sent",
        "_rekey_seconds",
        "_rekey_time",
        "_send_blocksize",
        "_send_enchdrlen",
        "_send_encryption",
        "_send_seq",
        "_server_kexinit",
        "_server_version",
        "_session_id",
        "_strict_kex",
        "_tasks",
        "_transport",
    ),
    SSHServerChannel: (
        "_close_event",
        "_init_recv_window",
        "_recv_buf",
        "_recv_chan",
        "_recv_paused",
        "_recv_pktsize",
        "_recv_state",
        "_recv_window",
        "_request_queue",
        "_send_buf",
        "_send_chan",
        "_send_pktsize",
        "_send_state",
        "_send_window",
        "_session",
        "_session_started",
    ),
    GCMEncryption: ("_cipher",),
    GCMCipher: ("_iv", "_key"),
}
"""Set on instances, so the check looks for them in the code of the constructors."""


FUNCTIONS = {connection: ("saslprep",)}
"""Names of a module that the lane replaces."""


def check_internals() -> None:
    """Check every name.

    Raises:
        StartError: one is missing; the message names it and says what to do.
    """
    for owner, names in (METHODS | FUNCTIONS).items():
        for name in names:
            if not callable(getattr(owner, name, None)):
                _refuse(owner, name)
    for owner, names in ATTRIBUTES.items():
        known = _assigned_names(owner)
        for name in names:
            if name not in known:
                _refuse(owner, name)


def _assigned_names(owner: type) -> set[str]:
    """The names that the constructors of a class and of its bases mention."""
    names: set[str] = set()
    for base in inspect.getmro(owner):
        code = getattr(base.__dict__.get("__init__"), "__code__", None)
        if code:
            names.update(code.co_names)
    return names


def _refuse(owner: type | ModuleType, name: str) -> None:
    raise StartError(
        f"the fast lane does not fit asyncssh {asyncssh.__version__}: {owner.__name__}.{name} is "
        "missing; install a version that pyproject.toml allows, or start with --lane asyncssh"
    )
