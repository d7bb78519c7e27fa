"""Load for Locust: people who chat, publish, follow and send files, each through the real `ssh`.

    make load                                             a minute of it, headless, and a table
    make load ARGS="--users 100 --run-time 5m"            more of it
    make load LOCUST_SHAPE=spike                          or steady, or slow-readers
    .venv/bin/locust -f loadtest/locustfile.py            the web page, on http://127.0.0.1:8089
    .venv/bin/locust -f loadtest/locustfile.py --headless --users 8 Chatter Streamer

Without `--host` a fresh server is started for the run.  With `--host ssh://example.org:2222` it
takes `--ssh-key FILE`, and `--ssh-user NAME` for the account of that key.

The client is OpenSSH's `ssh`, a process for each session, and no library.  A library would do the
cryptography of all users in Locust's one process: that would be full long before the server is,
and what it then measures is itself.  Locust is built on gevent, which no asyncio client (asyncssh)
runs under, and which replaces the threads and sockets below paramiko; pipes to a process are the
one thing that needs no such trust.  It is also what users run.  The price is some 5 ms and 8 MiB
for each `ssh`, so hundreds of users, not many thousands, fit on a machine; Locust's workers spread
them over several.  Locust has replaced the blocking calls of the standard library with gevent's by
the time this file is read: threads here are greenlets.

What is measured, all in milliseconds of wall time as a user would see them:

    login        from starting `ssh` to the server's first line on stderr
    round trip   from writing a 64-byte line into a room to reading it back
    delivery     from writing a line to a feed to a follower's reading it (by the machines' clocks)
    first byte   from starting a reader, its publisher waiting, to its first byte
    transfer     from a reader's first byte to its last; with the bytes it makes the throughput
    slow read    what a slow reader waits for its next piece, its own pauses left out

`make bench` is for what the server costs; this is for how it feels when many use it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import locust
from locust.runners import WorkerRunner

from loadtest.load.shapes import SHAPES
from loadtest.load.target import ACCOUNT, HOST, FreshServer, Target
from loadtest.load.users import Chatter, Follower, Publisher, SlowReader, SSHUser, Streamer

__all__ = ["Chatter", "Follower", "Publisher", "SlowReader", "Streamer"]
"""The kinds of users: Locust finds them here, by their names on its command line."""

events: Any = locust.events  # has no types, and Locust itself is there for `make load` only

shape = os.environ.get("LOCUST_SHAPE", "")
if shape in SHAPES:
    Shape = SHAPES[shape]  # Locust takes the one that it finds; without one it asks for --users
elif shape:
    sys.exit(f"LOCUST_SHAPE is {', '.join(SHAPES)} or empty, and not {shape!r}")


def add_options(parser: Any, **_: Any) -> None:  # noqa: ANN401 - Locust's own parser
    """Let the command line say who logs in."""
    parser.add_argument("--ssh-user", default=ACCOUNT, help="account on --host")
    parser.add_argument("--ssh-key", default="", help="private key of that account")


def set_up(environment: Any, runner: Any = None, **_: Any) -> None:  # noqa: ANN401
    """Find the server that was asked for, or start one."""
    events.quit.add_listener(lambda **_: print_throughput(environment))
    options = environment.parsed_options
    if environment.host is None and not isinstance(runner, WorkerRunner):
        server = FreshServer()
        server.introduce()
        events.quit.add_listener(lambda **_: server.stop())  # by then the users have gone
        SSHUser.target = server.target
        environment.host = f"ssh://{HOST}:{server.target.port}"
        return
    place = urlsplit(environment.host or "")
    if place.scheme != "ssh" or not place.hostname or not options.ssh_key:
        sys.exit("give --host ssh://HOST:PORT together with --ssh-key FILE, or neither")
    key = Path(options.ssh_key).absolute()
    SSHUser.target = Target(place.hostname, place.port or 22, options.ssh_user, key)


def print_throughput(environment: Any) -> None:  # noqa: ANN401 - Locust's own environment
    """Say what Locust's table leaves out: how fast a stream was, in bytes."""
    entry = environment.stats.get("transfer", "stream")
    if entry.total_response_time:
        rate = entry.total_content_length / (entry.total_response_time / 1000) / (1 << 20)
        print(f"\nThroughput of a stream: {rate:.1f} MiB/s, mean of {entry.num_requests}")


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(set_up)
