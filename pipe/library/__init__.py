"""`pipe` as a library: topics in a program's own process, and what its clients share with that.

    ends     what a stream's end means to a program: exceptions, each with an exit status
    streams  a stream as programs see it, whatever carries it
    verbs    publish, subscribe, pipe and topics, with all their options
    seat     a place on a topic of this process: a source and a sink without a network
    broker   topics in this process

`pipe.client` gives the same verbs to those whose topics are on a server.  What is public is in
`pipe.__all__`.
"""
