"""The login: whether a key may be who it says that it is, and for how long.

`logins`        the judge; everything else here gives evidence
`signatures`    which keys and signatures are looked at at all
`certificates`  a CA says whose a key is
`key_files`     an operator's files say whose a key is
`files`         files that are read again when they have changed
`restrictions`  what a certificate or a line of a file holds its bearer to
`tenure`        ends those whose certificate or line has ended
"""
