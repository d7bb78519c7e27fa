"""The life of a session, whichever front it came through.

    session    reads the request, joins the topic, and ends for one reason
    front      what it asks of its front: a data path, lines to the user, an end
    state      where it is in its life
    joining    how it comes onto a topic
    relayed    its client, where it runs in another worker
    place      its place on a topic or pattern: right, quotas, rate, membership
    intake     what its client sends, on the way to the router: the router's source
    midstream  what users are told when readers come and go in mid-stream
    stall      the clock of law 4
    collector  input that a command reads as a whole

A front (`pipe.ssh`, `pipe.web`) makes a `session.Session` for each request of its clients.  What
knows no service (`midstream`, `past`, `patience`, `stall`) serves `pipe.library` as well.
"""
