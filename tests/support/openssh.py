"""OpenSSH's client with a configuration of the test's: the user's own, whose place no variable changes, stays out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support.orphans import command, descendants


def with_config(folder: Path, text: str = "") -> str:
    """A value for PATH: there `ssh` reads `text` in place of the user's and the system's files."""
    real = shutil.which("ssh")
    assert real, "openssh-client is not installed"
    folder.mkdir()
    config = folder / "config"
    config.write_text(text)
    script = folder / "ssh"
    script.write_text(f'#!/bin/sh\nexec {real} -F {config} "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def clients(pid: int | None = None) -> list[int]:
    """The processes of OpenSSH's client below a process, our own if none is given."""
    return [child for child in descendants(pid or os.getpid()) if command(child).split(" ")[0].endswith("ssh")]
