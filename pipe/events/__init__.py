"""Events: what happens on the server's topics and around them, told to whom it concerns.

    announcer  short streams of the server's own
    listener   a reader within the server
    envelope   what an event says, and on which topic
    dedupe     events that are told twice
    telling    how all of these write into a user's log
    logs       user logs: each line to the user whom it is about
    hooks      what other services tell us
    webhooks   what we tell other services
    monitors   what should have come, and did not

The server takes part in topics itself here: it publishes and reads as any client does, under the
same laws.  What decides (filters, signatures, state machines) is pure: it takes the time as an
argument and knows neither the event loop nor a socket.  HTTP belongs to `pipe.web`, rows to
`pipe.store`.
"""
