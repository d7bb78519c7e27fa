"""Several processes as one service: each topic is at home in one worker.

A session whose topic is at home elsewhere runs there, on a far front: its client's bytes, lines and
end travel as messages between the two workers.

    directory  who knows where topics are at home
    wire       what carries frames: `unix` on a machine, `tls` between machines; `ways` chooses
    frames     the messages, as bytes
    link       frames in order, or the end: without a loop and a clock
    edge       the worker that has the client
    home       the worker where the topic is at home: the session's front; `port` is its data path
    mesh       one worker's part in all this
    hubs       the hubs of all machines: who is there, and what they tell each other
"""
