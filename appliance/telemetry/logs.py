"""Log set-up: structlog events as text for people or as JSON lines for collectors, always on stderr.

Records of the standard library's `logging` (from libraries) go through the same renderer.
"""

import logging
import sys
from typing import Any

import structlog

from appliance.core.settings import LogSettings

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(settings: LogSettings, **process: Any) -> None:
    """Send all logs of this process to stderr. `process` members (role, id) stand on every line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.format == "jsonl":
        render: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
    else:
        colours = sys.stderr.isatty()
        render = [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=28, sort_keys=False)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[settings.level])
    for noisy in ("hypercorn.error", "hypercorn.access", "quart.app"):
        logging.getLogger(noisy).setLevel(max(LEVELS[settings.level], logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**process)
