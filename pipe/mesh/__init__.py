"""Several processes as one service: each topic is at home in one worker.

A session whose topic is at home elsewhere runs there, on a far front: its client's bytes, lines and
end travel as messages between the two workers.
"""
