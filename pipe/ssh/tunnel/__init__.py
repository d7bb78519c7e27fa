"""HTTP inside an SSH connection: ``ssh -L 1338:localhost:80 -N HOST``.

A channel that a client opens to one name and port becomes a connection of the HTTP front.  There is
no socket: no address that a client names is ever connected to.
"""

from pipe.ssh.tunnel.tunnels import Tunnels, prohibited

__all__ = ["Tunnels", "prohibited"]
