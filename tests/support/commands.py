"""`pyrsyncbackup` as an administrator calls it, for the configuration of a collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code. The configuration's directory is shortened to DIR."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """Its JSON."""
        return json.loads(self.out)


def say(file: Path, *arguments: str, user: tuple[str, ...] = ()) -> Said:
    """Run a command with the configuration `file` to its end; `user` is a prefix that changes who runs it."""
    program = [sys.executable, "-m", "pyrsyncbackup_collector"]
    environment = {**os.environ, "COLUMNS": "250", "NO_COLOR": "1", "PYRSYNCBACKUP_CONFIG": str(file)}
    done = subprocess.run(
        [*user, *program, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    base = str(file.parent)
    return Said(done.returncode, done.stdout.replace(base, "DIR"), done.stderr.replace(base, "DIR"))
