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
    ssh         the SSH front: listening, logins, channels, and the lane, the fast data path
    app         puts the parts together; starts, drains, stops
    check       looks at a configuration before a start, and changes nothing
    cli         `pipe serve | check | user | key | version`: the command line

To follow a byte, read ``ssh.server``, ``ssh.lane``, ``session``, ``stream.router``, and back.
"""

from __future__ import annotations

from importlib import metadata

try:
    __version__ = metadata.version("pipe-server")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
