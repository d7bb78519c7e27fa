"""The lane: the fast data path between asyncssh's packets and the router.

asyncssh keeps the version exchange, key exchanges, authentication, channel opening and requests.
The lane takes the packets that make up a stream: CHANNEL_DATA and CHANNEL_WINDOW_ADJUST, in both
directions, on connections that are logged in and run AES-GCM.  Follow a byte:

    `cipher`      AES-GCM with its key schedule and counters kept from packet to packet
    `steering`    has the client choose AES-GCM
    `connection`  finds packets in what the transport delivers, opens them, and takes what it can;
                  everything else it hands to asyncssh's own parser
    `channel`     asyncssh's channel, which keeps nothing that nobody needs
    `reader`      lets the transport read into a buffer of ours
    `port`        one channel: the receive window, the sink's queue, packets for the peer
    `sending`     packets out: gathered, and sealed when the turn of the event loop is over
    `outbox`      the connections that have something to write when the turn ends

These modules are the only ones that touch private names of asyncssh; `internals` lists them, and
the server refuses to start this lane on an asyncssh that lacks one.
"""

from pipe.ssh.lane.connection import LaneConnection
from pipe.ssh.lane.internals import check_internals
from pipe.ssh.lane.outbox import Outbox

__all__ = ["LaneConnection", "Outbox", "check_internals"]
