"""The SSH front: asyncssh on one side, a session and the router's ports on the other.

Follow a client on its way in, and then its bytes:

    server      listens, with every option of asyncssh set explicitly
    connection  one SSH connection: asyncssh's, plus what asyncssh lacks; `answers` bounds the
                answers that a client leaves unread
    auth        one client: its login, and the channels that it opens
    login       from a name and a key to a user
    channel     one channel: asyncssh's callbacks, and what the session sends
    terminal    what keys mean if the client asked for a terminal
    port        what the client reads: the router's sink
    plain       a connection that leaves all of its bytes to asyncssh
    lane        the fast data path of a connection and its channels
"""
