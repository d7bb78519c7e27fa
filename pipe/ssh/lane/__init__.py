"""The lane: the fast data path between asyncssh's packets and the router.

asyncssh keeps the version exchange, key exchanges, authentication, channel opening and requests.
The lane takes the packets that make up a stream: CHANNEL_DATA and CHANNEL_WINDOW_ADJUST, in both
directions, on connections that are logged in and use AES-GCM.  Follow a byte:

    `cipher`      AES-GCM that keeps its key schedule and counters from packet to packet
    `steering`    makes the client choose AES-GCM
    `connection`  finds packets in the transport's input, opens them, and takes what it can;
                  everything else goes to asyncssh's own parser
    `channel`     asyncssh's channel, without state that nobody needs
    `reader`      lets the transport read into our own buffer
    `port`        one channel: the receive window, the sink's queue, packets for the peer
    `sending`     packets out: gathered, and sealed at the end of the event loop's turn
    `user_names`  names prepared without looking at tables
    `outbox`      the connections that have something to write when the turn ends

Only these modules use private names of asyncssh; `internals` lists them, and the server refuses to
start this lane on an asyncssh that lacks one.
"""

from pipe.ssh.lane.connection import LaneConnection
from pipe.ssh.lane.internals import check_internals
from pipe.ssh.lane.outbox import Outbox
from pipe.ssh.lane.user_names import prepare_quickly

__all__ = ["LaneConnection", "Outbox", "check_internals", "prepare_quickly"]
