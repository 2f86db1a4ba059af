"""The one place that runs rsync, and ssh, for a copy: to its end, or until it is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Final

from pyrsyncbackup_collector.copies.rsync_outcome import Ended
from pyrsyncbackup_collector.errors import CopyRefused

# How soon a request to stop is seen, in seconds.
_LOOK: Final = 0.2
_MAX_WORDS: Final = 64 << 10
# For an orderly end, in seconds.
_END: Final = 10.0


def run(argv: Sequence[str], check: Callable[[], None]) -> Ended:
    """Run it; `check` is called now and then and raises to end it. Raises CopyRefused if it cannot be started."""
    # Files, not pipes: the ssh that keeps the connection for the next run holds them open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=words, start_new_session=True,
                env={**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
            )  # fmt: skip
        except OSError as fault:
            raise CopyRefused(f"{argv[0]} cannot be started: {fault.strerror}", f"install {argv[0]}") from fault
        try:
            while True:
                try:
                    code = process.wait(_LOOK)
                    break
                except subprocess.TimeoutExpired:
                    check()
        except BaseException:
            _end(process)
            raise
        return Ended(code if code >= 0 else 128 - code, _text(output), _text(words, _MAX_WORDS))


def _end(process: subprocess.Popen[bytes]) -> None:
    """In order if it can; rsync removes what is not whole."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _text(file: IO[bytes], limit: int = -1) -> str:
    file.seek(0)
    return file.read(limit).decode("utf-8", "replace")
