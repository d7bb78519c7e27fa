"""What the load that Locust puts on a server is made of; `loadtest/locustfile.py` is the way in.

target.py     which server, and with which key; or a fresh server for this run
sessions.py   one `ssh`, and what goes wrong with it
users.py      who they are and what they do, again and again
shapes.py     how many of whom, when
"""
