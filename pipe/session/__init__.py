"""The life of a participant, whichever front it came through.

place      its place on a topic or pattern: right, quotas, rate, membership
intake     what its client sends, on the way to the router: the router's source
stall      the clock of law 4
collector  input that a command wants as a whole
"""
