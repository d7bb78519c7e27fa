"""The soak: half an hour of mixed load with churn, behind `make soak`.

From the command line down to one client:

    __main__.py  the command line
    run.py       rounds of load with a quiet point after each, and residents that stay through all
    scenes.py    what clients do: streams with joins, leaves, kills, resets, rekeys; chats; commands
    clients.py   one client, OpenSSH's or asyncssh's, behind the same few calls
    checks.py    what a reader must have received
    served.py    the server as a child that tells what it holds: tasks, threads, objects
    watch.py     readings of that server, the slope of its memory, what is left of a round
    tally.py     the counts, the broken promises, and the table that shows both
"""
