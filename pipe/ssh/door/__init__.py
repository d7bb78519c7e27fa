"""The door: who may connect, decided from the address alone and before any work is done for it.

`doorman`      stands in for the protocol until the gate has spoken
`gate`         places before the login, in all and per address, and who makes way for whom
`penalties`    addresses that misbehaved, refused for a while
`limits`       what is counted per address, and which addresses are trusted
`descriptors`  how many connections the operating system allows
"""
