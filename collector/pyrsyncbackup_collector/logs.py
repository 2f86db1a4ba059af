"""Log lines: an event with fields; coloured on a terminal, JSON lines otherwise. All go to standard error.

`bind` adds fields (run, host, module) to every line of the thread until the `with` block ends. Text that came from a
host is made printable here once more, so that no message can paint a terminal, whoever forgot to.

structlog is loaded at the first line: most commands write none, and it takes longer to load than they take to work.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

EventDict = MutableMapping[str, Any]


class _Wish(NamedTuple):
    level: str
    stream: TextIO
    terminal: bool


# What `configure` was asked for and no line has needed yet.
_wish: _Wish | None = None
_lock = threading.Lock()


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logs for the process. `level` is debug, info, warning or error; `stream` default standard error."""
    global _wish
    stream = stream or sys.stderr
    with _lock:
        _wish = _Wish(level, stream, stream.isatty())
    # Libraries (paramiko, sshtunnel) report each failed login by themselves; what matters of it is in our line.
    logging.getLogger().addHandler(logging.NullHandler())


def _structlog() -> Any:
    """structlog, as the last `configure` wants it."""
    global _wish
    import structlog

    with _lock:
        if _wish is not None:
            _set_up(structlog, *_wish)
            _wish = None
    return structlog


def _set_up(structlog: Any, level: str, stream: TextIO, terminal: bool) -> None:
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


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Add `fields` to each log line of this thread within the block."""
    with _structlog().contextvars.bound_contextvars(**fields):
        yield


def get() -> Any:
    """The logger: `get().info("pull ended", outcome="complete")`."""
    return _structlog().get_logger()


def _printable(_logger: object, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode()
    return event
