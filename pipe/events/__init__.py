"""Events: what happens on the server's topics and around them, told to whom it concerns.

The server takes part in topics itself here: it publishes (`announcer`) and reads (`listener`) as
any client does, under the same laws.  User logs, the events of registries and hooks, webhooks and
monitors stand on these two.

What decides (filters, signatures, state machines) is pure: it takes the time as an argument and
knows neither the event loop nor a socket.  HTTP belongs to `pipe.web`, rows to `pipe.store`.

User logs:

lines       one log line: cutting, reading, making safe to show
filters     which lines somebody wants
rings       the last lines, in bounded memory
followers   one reader of lines, which may be slow
drain       puts these together: every line goes to its user, and to nobody else
batches     many lines in one body, as log shippers send them
"""
