"""User logs: what services and the server itself log about a user reaches that user.

lines      one log line: cutting, reading, making safe to show
filters    which lines somebody wants
rings      the last lines, in bounded memory
followers  one reader of lines, which may be slow
drain      puts these together: every line goes to its user, and to nobody else
batches    many lines in one body, as log shippers send them
"""
