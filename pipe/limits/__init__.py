"""How much anybody may have, so that nobody stops the others.

    bounds        the limits that an operator can set
    sources       what counts as one address
    gate          who may connect at all, before the login
    doorman       asks the gate as a connection comes in
    penalties     how long an address has to wait after failed logins
    descriptors   how many connections the system lets this process have
    quotas        what a user or an address may have at a time, and at which rate
    turnstile     the commands of a user, one at a time
    turns         how much of a turn of the event loop anybody may use
    memory        how much memory there is, and when that is too little
    memory_watch  pauses all publishers then

Every front uses these, and none of them knows which front it is.
"""
