"""Log lines."""

from __future__ import annotations

import io
import json

import pytest
from pyrsyncbackup_collector import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_json_with_what_was_bound() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with logs.bind(run="r1", host="web1"):
        logs.get().info("pull ended", outcome="complete")
    logs.get().debug("not shown")
    logs.get().warning("later")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {key: first[key] for key in ("event", "level", "run", "host", "outcome")} == {
        "event": "pull ended",
        "level": "info",
        "run": "r1",
        "host": "web1",
        "outcome": "complete",
    }
    assert "run" not in second


def test_a_terminal_is_not_painted_by_what_a_host_sent() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    logs.get().info("module left out", cause="evil \x1b]0;title\x07\x9b2J")
    assert "\x1b]0;" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()
    assert "x1b]0;title" in stream.getvalue()


def test_a_fault_of_the_program_has_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logs.get().exception("fault")
    assert "ZeroDivisionError" in json.loads(stream.getvalue())["exception"]
