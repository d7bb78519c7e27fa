"""The SSH front: asyncssh on one side, a session and the router's ports on the other.

Follow a client on its way in, and then its bytes:

    server      listens, with every option of asyncssh set on purpose
    connection  one SSH connection: asyncssh's, with what it leaves out; `answers` bounds what it
                may leave unread
    auth        one client: its login, and the channels that it opens
    login       from a name and a key to a user
    channel     one channel: what asyncssh calls, and what the session says
    terminal    what keys mean where the client has asked for a terminal
    port        what the client reads: the router's sink
    plain       a connection that leaves all of its bytes to asyncssh
    lane        the fast data path of a connection and its channels
"""
