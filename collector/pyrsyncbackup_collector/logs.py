"""Log lines: an event with fields; coloured on a terminal, JSON lines otherwise. All go to standard error.

`bind` adds fields (run, host, module) to every line of the thread until the `with` block ends. Text that came from a
host is made printable here once more, so that no message can paint a terminal, whoever forgot to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog

EventDict = MutableMapping[str, Any]


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog for the process. `level` is debug, info, warning or error; `stream` default standard error."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=True, exception_formatter=structlog.dev.plain_traceback)
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=True)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            *([_printable] if terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    # Libraries (paramiko, sshtunnel) report each failed login by themselves; what matters of it is in our line.
    logging.getLogger().addHandler(logging.NullHandler())


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Add `fields` to each log line of this thread within the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def get() -> Any:
    """The logger: `get().info("pull ended", outcome="complete")`."""
    return structlog.get_logger()


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode()
    return event
