"""Limits that keep one user from holding up the others.

    bounds        the limits that an operator can set
    sources       what counts as one address
    gate          who may connect at all, before the login
    doorman       asks the gate when a connection comes in
    listener      listening sockets, whose connections are judged first
    penalties     how long an address has to wait after failed logins
    descriptors   how many connections the system lets this process have
    quotas        what a user or an address may have at a time, and at which rate
    shares        the same, where several processes count together
    turnstile     runs each user's commands one at a time
    turns         how much of a turn of the event loop one connection may use
    memory        how much memory there is, and when it is too little
    memory_watch  pauses all publishers while memory is short

Every front uses these, and none of them knows which front it serves.
"""
