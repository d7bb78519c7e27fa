"""The HTTP front: the same streams for whoever has no ssh at hand.

    server    listens, and puts the parts together
    door      each connection: whether it may come in, and how long it may take to ask
    tls       the certificate, read again when its file changes
    caller    who sends a request, by what it shows
    origin    whose page sends it: Host, Origin, Sec-Fetch-Site and the cookie
    forwarded where a client is that comes through a proxy
    session   one request with a stream or a command: a `pipe.session.front.Front`
    port      its data path
    link      its stream, as its handler sees it: a `pipe.library.streams.Link`
    hangup    notices that a client is gone whose bytes nobody reads
    statuses  what each end means in HTTP
    streams/  publishing, reading, server-sent events, WebSockets
    api       what the commands print as JSON
    outgoing  sends webhooks; it does not need the rest of the front
    pages     the page for browsers, and logging in there; its files are in static/

aiohttp is imported here and nowhere else, and not before a server wants it.
"""
