"""The core: how bytes get from publishers to subscribers.

    chunks      the bytes of one packet, and records that are kept whole
    ports       what the router asks of a session: a source to pause, a sink to write to
    topics      members (sessions as the router sees them) and the topics they are on
    router      topics, fan-out, backpressure
    statistics  what all members have moved
    traffic     what one session has moved, and how long it had to wait

Nothing here knows an event loop, a network or a clock, and nothing knows SSH or HTTP: a front makes
members and calls the router.
"""
