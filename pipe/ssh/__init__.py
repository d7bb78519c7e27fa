"""The SSH front: asyncssh on one side, the router's ports on the other.

Follow a client on its way in, and then its bytes:

    `server`      listens, with every option of asyncssh set on purpose
    `door`        whether a connection is let in at all, before anything of SSH exists for it
    `connection`  one SSH connection: asyncssh's, with what it leaves out; `answers` bounds what it
                  may leave unread
    `auth`        one client: its login, and the sessions that it opens
    `login`       the judgement over a name and a key
    `channel`     one session: a command becomes a member of a topic, bytes come and go
    `turns`       how much of a turn of the event loop a connection may use
    `plain`       a connection that leaves all of its bytes to asyncssh
    `lane`        the fast data path of a connection and its channels
"""
