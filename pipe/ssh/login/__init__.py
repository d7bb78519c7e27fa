"""The login: whether a key may log in under a name, and for how long.

`logins`        decides; everything else here gives it evidence
`signatures`    which kinds of keys and signatures are considered at all
`certificates`  a CA says whose a key is
`key_files`     an operator's files say whose a key is
`files`         files that are read again when they change
`restrictions`  the limits that a certificate or a line of a file sets
`tenure`        ends logins whose certificate or line has ended
"""
