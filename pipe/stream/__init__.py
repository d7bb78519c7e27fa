"""The core: how bytes get from publishers to subscribers.

    chunks      the bytes of one packet, and records that are kept whole
    members     a session as the router sees it: two ports, its wishes, its counters
    topics      who is on a topic
    router      topics, fan-out, backpressure
    statistics  what all members have moved
    traffic     what one session has moved, and how long it had to wait

Nothing here knows an event loop, a network or a clock, and nothing here knows SSH or HTTP: a front
makes members, and calls the router.
"""
