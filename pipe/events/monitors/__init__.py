"""Monitors: what is expected of topics, and what to tell when it does not come.

monitor    one monitor: its states, and when to look again
meter      how much has come within a window
watches    what the router says of the topics that are watched
hub        all of them, with one timer
saving     what has to be stored of them, now and then
alerts     who is told, and how
uptime     how much of the time a monitor was up
summaries  how they are, for lists and pages
addresses  the secret addresses of feeds, badges and pages
"""
