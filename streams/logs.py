"""Log lines on stderr: readable, or one JSON object each (`FLASHCAST_LOG_FORMAT`)."""

import logging
import sys

import structlog

from streams.settings import Settings


def configure(settings: Settings) -> None:
    """For this process. Standard output stays free for what commands print."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # The debug lines of both Kafka libraries hold the password, if somebody has a handler for them.
    logging.getLogger("kafka").setLevel(logging.INFO)
    logging.getLogger("aiokafka.conn").addFilter(_above_debug)


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
