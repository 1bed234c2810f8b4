"""Structured logs: a constant event name and key/values, JSON for machines, columns for people.

The loggers of this module are configured here and nowhere else. They leave structlog's process-wide configuration alone,
because the server also runs inside notebooks that may have their own.
"""

import sys
from collections.abc import MutableMapping
from types import ModuleType
from typing import TextIO, cast

from bettong_kit.errors import InvalidArgumentError

STYLES = ("auto", "console", "json")
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _import_structlog() -> ModuleType:
    """Import structlog without the console library that it loads for coloured tracebacks.

    That import takes 0.15 s and 7 MB, a quarter of what a server may take to start; a server prints plain tracebacks.
    """
    hide = "rich" not in sys.modules
    if hide:
        sys.modules["rich"] = cast("ModuleType", None)
    try:
        import structlog as module  # noqa: PLC0415 - see above
    finally:
        if hide:
            del sys.modules["rich"]
    return module


_import_structlog()

import structlog  # noqa: E402 - must follow the guarded import
from structlog.typing import FilteringBoundLogger, Processor  # noqa: E402

__all__ = [
    "LEVELS",
    "STYLES",
    "FilteringBoundLogger",
    "configure_logging",
    "get_logger",
    "log_level",
    "set_log_level",
]

EventDict = MutableMapping[str, object]


class _Output:
    """Where lines go and how they look; shared by all loggers, replaced at run time."""

    def __init__(self) -> None:
        self.level = "info"
        self.stream: TextIO | None = None
        self.render: Processor = structlog.processors.JSONRenderer()

    def msg(self, line: str) -> None:
        print(line, file=self.stream or sys.stderr, flush=True)

    debug = info = warning = error = critical = exception = msg


_output = _Output()


def configure_logging(*, level: str = "info", style: str = "auto", stream: TextIO | None = None) -> None:
    """Choose level, look and stream of all loggers; "auto" is for people when the stream is a terminal.

    Raises:
        InvalidArgumentError: The level is unknown.
    """
    set_log_level(level)
    _output.stream = stream
    target = stream or sys.stderr
    if style == "console" or (style == "auto" and target.isatty()):
        _output.render = structlog.dev.ConsoleRenderer(
            colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        _output.render = structlog.processors.JSONRenderer()


def log_level() -> str:
    """Return the level in force."""
    return _output.level


def set_log_level(level: str) -> str:
    """Change the level at run time and return the one before.

    Raises:
        InvalidArgumentError: The level is unknown.
    """
    if level not in LEVELS:
        expected = ", ".join(LEVELS)
        raise InvalidArgumentError(
            f"log level '{level}' is unknown; expected one of {expected}", fields={"level": expected}
        )
    previous, _output.level = _output.level, level
    return previous


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry *name*."""
    logger = structlog.wrap_logger(
        _output,
        processors=[_drop_below_level, structlog.contextvars.merge_contextvars, *_STAMPS, _render],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        component=name,
    )
    return cast("FilteringBoundLogger", logger)


def _drop_below_level(_logger: object, method: str, event: EventDict) -> EventDict:
    if LEVELS.get(method, LEVELS["error"]) < LEVELS[_output.level]:
        raise structlog.DropEvent
    return event


def _format_exception(logger: object, method: str, event: EventDict) -> EventDict:
    if isinstance(_output.render, structlog.dev.ConsoleRenderer):
        return event
    return structlog.processors.format_exc_info(logger, method, event)


def _render(logger: object, method: str, event: EventDict) -> str:
    return cast("str", _output.render(logger, method, event))


_STAMPS: list[Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _format_exception,
]
