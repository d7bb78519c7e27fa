"""A channel: one command of a client's, from its request to its exit status.

`session`    reads the command, joins the topic, and ends for one reason
`place`      its place on a topic or pattern: right, quotas, rate, membership
`intake`     what the client sends, on its way to the router: the router's source
`port`       what the client reads, on its way from the router: the router's sink
`terminal`   what keys mean where the client has asked for a terminal
`midstream`  what is said when readers come and go in mid-stream
`collector`  input that a command wants as a whole
`stall`      the clock of law 4
`traffic`    what was moved, and how long it had to wait
"""
