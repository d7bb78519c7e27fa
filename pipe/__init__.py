"""Networked Unix pipes over SSH: ``ssh host pub topic`` on one end, ``sub topic`` on the others.

Read it in this order and you follow a byte through it:

    __main__, cli     `pipe serve | user | key | token | version`: the command line
    settings          every setting once: name, unit, default, why
    durations         ``90s``, ``1h30m``: spans of time as people write them
    errors            the tree of errors, and the one reason for which a session ends
    names             users, topics, patterns: one grammar for every front
    flags             how commands and their flags are described, read and shown in help
    token_requests    those about tokens
    requests          a command string becomes a frozen Publish, Subscribe, Pipe, …
    chunks, members   what the router forwards, and those it forwards for
    topics, tally     who is on a topic, and what all have moved
    router            topics, fan-out, backpressure: no asyncio, no ssh, no clock
    grants            lasting rights to topics
    scopes, bearers   how far a token reaches, and who has come with one
    access            who may read and write what
    store             users, their keys, grants and tokens in a database
    guard             keeps what is alive within its rights as they come and go
    tokens            who comes with a token, a cookie, a link or a code
    quotas, turnstile how much a user or an address may have, and whose command is next
    service           the parts that all sessions share
    ssh.server        listening, host keys, hardening
    ssh.door          who may connect: places before the login, penalties
    ssh.auth          one client: its login, and the sessions that it opens
    ssh.login         from a key to a user: accounts, files of keys, certificates
    ssh.channel       one session: the protocol's callbacks on one side, the router on the other
    ssh.lane          the fast data path
    commands          ls, whoami, keys and the others: one small file each
    metrics           what the server counts, read when somebody asks
    scrapes           the HTTP server that they are read from
    app               puts the parts together; start, signals, drain, stop
"""

from __future__ import annotations

from importlib import metadata

try:
    __version__ = metadata.version("pipe-server")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
