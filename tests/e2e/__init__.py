"""The whole service from outside: a real server process, real SSH clients, and nothing faked.

`processes` runs a program and lets a test wait for what it writes; `clients` knows how each SSH
client is called; `server` runs `pipe serve` and reads its metrics; `payloads` makes what is sent.
Every wait is for an event with one generous deadline, and no test asserts a speed.
"""
