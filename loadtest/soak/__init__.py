"""The soaks behind `make soak`: mixed load with churn, and of several processes with kills, too.

From the command line down to one client:

    __main__.py  the command line
    run.py       one process: rounds of load, a quiet point after each, residents that stay
    siege.py     several processes: the same with a fault in each round, and nobody at its end
    stage.py     what both stand on: scenes that begin while there is processor time
    scenes.py    what clients do: streams with joins, leaves, kills, resets, rekeys; chats; commands
    trials.py    checked to the end also where a fault has met it: transfers by SSH and HTTP,
                 files that are resumed, hooks, log lines, rooms
    scene.py     one of these: its clients, what they must end with, what a fault excuses
    clients.py   one client, OpenSSH's or asyncssh's, behind the same few calls
    web.py       the same by HTTP
    checks.py    what a reader must have received
    faults.py    what is done to the service, and how soon it serves again
    several.py   the service of several processes, on one machine or on the nodes of a mesh
    served.py    the server of one process, as a child that tells what it holds
    watch.py     readings of that server, the slope of its memory, what is left of a round
    tally.py     the counts, the broken promises, and the table that shows both
"""
