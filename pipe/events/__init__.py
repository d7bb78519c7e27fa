"""Events: what happens on the server's topics and around them, told to whom it concerns.

The server takes part in topics itself here: it publishes (`announcer`) and reads (`listener`) as
any client does, under the same laws.  User logs, the events of registries and hooks, webhooks and
monitors stand on these two.

What decides (filters, signatures, state machines) is pure: it takes the time as an argument and
knows neither the event loop nor a socket.  HTTP belongs to `pipe.web`, rows to `pipe.store`.
"""
