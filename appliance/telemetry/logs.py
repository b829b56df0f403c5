"""Log set-up: structlog events as text for people or as JSON lines for collectors, always on stderr.

Records of the standard library's `logging` (from libraries) go through the same renderer.
"""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from appliance.core.settings import LogSettings

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logging(settings: LogSettings, **process: Any) -> None:
    """Send all logs of this process to stderr. `process` members (role, id) stand on every line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings.format, colours=sys.stderr.isatty()))
    logging.getLogger().handlers[:] = [handler]
    set_log_level(settings.level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**process)


def set_log_level(level: str) -> None:
    """Log from this level on."""
    logging.getLogger().setLevel(LEVELS[level])
    for noisy in ("hypercorn.error", "hypercorn.access", "quart.app"):
        logging.getLogger(noisy).setLevel(max(LEVELS[level], logging.WARNING))


class LineHandler(logging.Handler):
    """Gives each log line, as it would stand on stderr without colours, to a function. Called in any thread."""

    def __init__(self, settings: LogSettings, write: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(_formatter(settings.format, colours=False))
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on. What cannot be passed on is on stderr in any case."""
        with suppress(Exception):
            self._write(self.format(record))


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(form: str, *, colours: bool) -> logging.Formatter:
    if form == "jsonl":
        render: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=28, sort_keys=False)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )
