"""The other end: `pipe.connect`, and the commands for those who install it.

    server    `pipe.Server`: the verbs of `pipe.library` on topics of a server
    ssh       its streams over SSH, each on a channel
    confirm   the channel's close, given only once a program has read everything
    lines     what a server says on stderr, and what it means
    http      its streams over HTTP, each a WebSocket
    resume    streams that go on after a lost connection
    blocking  the same for programs without an event loop
    command   `pipe pub`, `pipe sub` and the others, in place of `ssh HOST`

What is public is in `pipe.__all__`.
"""
