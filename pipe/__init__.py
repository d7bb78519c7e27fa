"""Networked Unix pipes over SSH: ``ssh host pub topic`` on one end, ``sub topic`` on the others.

The packages, from the ground up; each docstring says what lives there:

    errors      the tree of errors, and the reasons why sessions end
    language    what users may write: names, commands and flags, durations, sizes
    stream      the core: chunks, members, topics, and the router that joins them
    rights      who may do what
    limits      bounds that keep one user from holding up the others
    settings    every setting once: name, unit, default, why
    store       users, keys and grants in a database, and the guard that watches it
    metrics     what the server counts, read at each scrape; `logs` beside it
    service     what all sessions share
    commands    ls, whoami, keys and the others: one small file each
    session     the life of a session, whichever front it came through
    library     topics in a program's own process, and streams as programs see them
    web         the HTTP front, whose handlers use the library
    ssh         the SSH front: listening, logins, channels, and the lane, the fast data path
    client      the other end: a server's topics for programs, and as commands
    app         puts the parts together; starts, drains, stops
    check       looks at a configuration before a start, and changes nothing
    cli         `pipe serve | check | user | key | token | mesh | version`: the command line

To follow a byte, read ``ssh.server``, ``ssh.lane``, ``session``, ``stream.router``, and back.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.client.blocking import (
        BlockingDuplex,
        BlockingReader,
        BlockingServer,
        BlockingWriter,
        connect_blocking,
    )
    from pipe.client.server import Server, connect
    from pipe.errors import AccessDenied, PipeError, TooLate, UsageError
    from pipe.library.broker import Broker
    from pipe.library.ends import (
        Broken,
        ConnectionLost,
        CutOff,
        Dropped,
        Interrupted,
        Limited,
        LoginRefused,
        PublisherFailed,
        ServerFailed,
        TimedOut,
        Unavailable,
        Undelivered,
    )
    from pipe.library.streams import Duplex, Reader, Writer
    from pipe.library.verbs import TopicInfo
    from pipe.stream.ports import Receipt
    from pipe.stream.statistics import Statistics

try:
    __version__ = metadata.version("pipe-server")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "AccessDenied",
    "BlockingDuplex",
    "BlockingReader",
    "BlockingServer",
    "BlockingWriter",
    "Broken",
    "Broker",
    "ConnectionLost",
    "CutOff",
    "Dropped",
    "Duplex",
    "Interrupted",
    "Limited",
    "LoginRefused",
    "PipeError",
    "PublisherFailed",
    "Reader",
    "Receipt",
    "Server",
    "ServerFailed",
    "Statistics",
    "TimedOut",
    "TooLate",
    "TopicInfo",
    "Unavailable",
    "Undelivered",
    "UsageError",
    "Writer",
    "connect",
    "connect_blocking",
]
"""What is public: `docs/library.md` describes it.  All other names may change with any version."""

_HOMES = {
    "pipe.client.blocking": (
        "BlockingDuplex",
        "BlockingReader",
        "BlockingServer",
        "BlockingWriter",
        "connect_blocking",
    ),
    "pipe.client.server": ("Server", "connect"),
    "pipe.errors": ("AccessDenied", "PipeError", "TooLate", "UsageError"),
    "pipe.library.broker": ("Broker",),
    "pipe.library.ends": (
        "Broken",
        "ConnectionLost",
        "CutOff",
        "Dropped",
        "Interrupted",
        "Limited",
        "LoginRefused",
        "PublisherFailed",
        "ServerFailed",
        "TimedOut",
        "Unavailable",
        "Undelivered",
    ),
    "pipe.library.streams": ("Duplex", "Reader", "Writer"),
    "pipe.library.verbs": ("TopicInfo",),
    "pipe.stream.ports": ("Receipt",),
    "pipe.stream.statistics": ("Statistics",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is public when it is first used: the server's start needs none of it."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
