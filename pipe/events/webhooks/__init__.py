"""Outgoing webhooks: what a topic gets is sent to an address on the web, by POST.

    signing    the headers that prove to a receiver who sends
    targets    which URLs and addresses may be sent to
    cutting    a topic's bytes as the bodies of POSTs
    schedule   which of those that wait is tried next, and when
    posting    what a POST is and what came of it; who sends it (`pipe.web.outgoing`) is given
    courier    one webhook at work
    hub        all of them

What waits is in memory only: a restart loses it.
"""
