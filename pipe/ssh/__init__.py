"""The SSH front: asyncssh on one side, the router's ports on the other.

Follow a byte: `server` listens, `connection` carries (`lane`, where it can, faster), `auth` knows
who it is, `session` turns a command into a member of a topic, `port` writes to the channel.
"""
