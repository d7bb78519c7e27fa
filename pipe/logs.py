"""Logging: structlog, a line for people or a JSON object for machines, on stderr."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

from pipe.names import escape
from pipe.settings import LogFormat

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from pipe.settings import Settings


def configure(settings: Settings) -> None:
    """Set up logging for the whole process.

    asyncssh logs each packet's fate at debug level and each channel's at info; only its warnings
    get through.
    """
    level = logging.getLevelNamesMapping()[settings.log_level.value.upper()]
    renderer: structlog.typing.Processor
    if settings.log_format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _escape_values,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


def _escape_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Names and versions come from clients: no terminal escape of theirs reaches the operator's."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = escape(value)
    return event
