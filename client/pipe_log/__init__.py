"""Sends a service's log lines to a server of `pipe`, where each user reads the own ones.

    import logging
    import pipe_log

    handler = pipe_log.Handler("https://pipe.example.org", token="…", service="web")
    logging.getLogger().addHandler(handler)
    logging.warning("disk is full", extra={"user": "alice"})

For structlog there is `Processor`, for everything else `python -m pipe_log`. It needs Python 3.9
and its standard library, nothing else.
"""

from ._handler import Handler, Processor

__all__ = ["Handler", "Processor"]
